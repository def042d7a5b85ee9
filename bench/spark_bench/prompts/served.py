"""The server's own tokenizer, over HTTP.

There are three forms, each recognized by its response: SGLang takes a list of prompts and returns a
list of counts (srt/entrypoints/openai/serving_tokenize.py), vLLM takes one prompt and returns its
count, llama.cpp takes a content and returns its tokens.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import httpx
import msgspec

from spark_bench.errors import Unreachable
from spark_bench.prompts.library import batches
from spark_bench.prompts.tokens import COMMON, Vocabulary, pick
from spark_bench.protocol.deltas import Tokens as TokenCount

PATH = "/tokenize"
BATCH = 1 << 18  # characters in one request to SGLang, which answers with every token's id
PROBE = ("hello world", "hello")


class _Counts(msgspec.Struct):
    count: list[TokenCount]


class _Count(msgspec.Struct):
    count: TokenCount


class _Ids(msgspec.Struct):
    tokens: list[int]


Answer = TypeVar("Answer", _Counts, _Count, _Ids)


class NoAnswer(Exception):
    """The server returned no count in this form of request."""


class _Server:
    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client, self._model = client, model

    def lists(self, texts: Sequence[str], until: float | None = None) -> Iterator[int]:
        """SGLang's form: a list of texts per request."""
        for batch in batches(texts, BATCH):
            counts = self._post(_Counts, until, **self._prompt(batch))
            if len(counts.count) != len(batch):
                raise NoAnswer(f"{len(counts.count)} counts for {len(batch)} texts")
            yield from counts.count

    def prompts(self, texts: Sequence[str], until: float | None = None) -> Iterator[int]:
        """vLLM's form: one text per request."""
        for text in texts:
            yield self._post(_Count, until, **self._prompt(text)).count

    def contents(self, texts: Sequence[str], until: float | None = None) -> Iterator[int]:
        """llama.cpp's form: one text per request; it leaves special tokens out by default."""
        for text in texts:
            yield len(self._post(_Ids, until, content=text).tokens)

    def _prompt(self, prompt: str | list[str]) -> dict[str, object]:
        return {"model": self._model, "prompt": prompt, "add_special_tokens": False}

    def _post(self, kind: type[Answer], until: float | None, **body: object) -> Answer:
        """Send a request and decode its response; NoAnswer if there is none of this kind.

        until: when to stop waiting, by the monotonic clock; None: the client's own time limit
        """
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            raise NoAnswer("out of time")
        try:
            timeout = httpx.USE_CLIENT_DEFAULT if left is None else left
            response = self._client.post(PATH, json=body, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise NoAnswer(str(e) or type(e).__name__) from e
        if response.status_code != httpx.codes.OK:
            raise NoAnswer(f"HTTP {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (ValueError, RecursionError) as e:
            raise NoAnswer(str(e)) from e


class ServedTokens:
    """The served model's tokenizer, in the server."""

    exact = True
    name = f"the server's {PATH}"

    def __init__(self, way: Callable[[Sequence[str], float | None], Iterator[int]]) -> None:
        self._way = way

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        until = None if seconds is None else time.monotonic() + seconds
        counts: list[int] = []
        try:
            counts.extend(self._way(texts, until))
        except NoAnswer as e:
            if until is not None and time.monotonic() >= until:
                return counts
            raise Unreachable(
                f"{self.name}, which counts the prompts' tokens, stopped answering: {e};"
                " see the server's log, or give --tokenizer the folder of the model's weights"
            ) from e
        return counts

    def words(self) -> Vocabulary:
        return self._words

    @cached_property
    def _words(self) -> Vocabulary:
        return pick(COMMON, self.count)

    def close(self) -> None:
        """Nothing to end: the connection is the caller's."""


def ask_tokenize(client: httpx.Client, model: str) -> ServedTokens | None:
    """The server's tokenizer; None if it supports none of the three forms."""
    server = _Server(client, model)
    for way in (server.lists, server.prompts, server.contents):
        try:
            longer, shorter = way(PROBE)
        except NoAnswer:
            continue
        if longer > shorter > 0:
            return ServedTokens(way)
    return None
