"""The server's own tokenizer, asked over HTTP.

Three ways exist, and each is told by its answer: SGLang takes a list of prompts and answers with a
list of counts (srt/entrypoints/openai/serving_tokenize.py), vLLM takes one prompt and answers with
its count, llama.cpp takes a content and answers with its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import httpx
import msgspec

from spark_bench.errors import Unreachable
from spark_bench.prompts.library import batches
from spark_bench.prompts.words import COMMON, Words, pick

PATH = "/tokenize"
BATCH = 1 << 18  # characters in one request to SGLang, which answers with every token's id
PROBE = ("hello world", "hello")


class _Counts(msgspec.Struct):
    count: list[int]


class _Count(msgspec.Struct):
    count: int


class _Ids(msgspec.Struct):
    tokens: list[int]


Answer = TypeVar("Answer", _Counts, _Count, _Ids)


class NoAnswer(Exception):
    """The server gives no count in this way."""


class _Server:
    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client, self._model = client, model

    def lists(self, texts: Sequence[str]) -> Iterator[int]:
        """SGLang's way."""
        for batch in batches(texts, BATCH):
            counts = self._post(_Counts, model=self._model, prompt=batch, add_special_tokens=False)
            if len(counts.count) != len(batch):
                raise NoAnswer(f"{len(counts.count)} counts for {len(batch)} texts")
            yield from counts.count

    def prompts(self, texts: Sequence[str]) -> Iterator[int]:
        """vLLM's way."""
        for text in texts:
            yield self._post(_Count, model=self._model, prompt=text, add_special_tokens=False).count

    def contents(self, texts: Sequence[str]) -> Iterator[int]:
        """llama.cpp's way, which leaves special tokens out unless asked."""
        for text in texts:
            yield len(self._post(_Ids, content=text).tokens)

    def _post(self, kind: type[Answer], **body: object) -> Answer:
        try:
            response = self._client.post(PATH, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise NoAnswer(str(e) or type(e).__name__) from e
        if response.status_code != httpx.codes.OK:
            raise NoAnswer(f"HTTP {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.MsgspecError as e:
            raise NoAnswer(str(e)) from e


class ServedTokens:
    """The served model's tokenizer, in the server."""

    exact = True
    name = f"the server's {PATH}"

    def __init__(self, way: Callable[[Sequence[str]], Iterator[int]]) -> None:
        self._way = way

    def count(self, texts: Sequence[str]) -> list[int]:
        try:
            return list(self._way(texts))
        except NoAnswer as e:
            raise Unreachable(
                f"{self.name}, which counts the prompts' tokens, stopped answering: {e};"
                " see the server's log, or give --tokenizer the folder of the model's weights"
            ) from e

    def words(self) -> Words:
        return self._words

    @cached_property
    def _words(self) -> Words:
        return pick(COMMON, self.count)

    def close(self) -> None:
        """Nothing to end: the connection is the caller's."""


def ask(client: httpx.Client, model: str) -> ServedTokens | None:
    """The server's tokenizer; None if it has no way to ask for one."""
    server = _Server(client, model)
    for way in (server.lists, server.prompts, server.contents):
        try:
            longer, shorter = way(PROBE)
        except NoAnswer:
            continue
        if longer > shorter > 0:
            return ServedTokens(way)
    return None
