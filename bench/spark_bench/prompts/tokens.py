"""How many tokens a text is, by the served model's own tokenizer where it can be had.

Nothing here ever asks a model hub: a tokenizer comes from a folder of this machine or from the
server under test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spark_bench.prompts.vocabulary import COMMON, Vocabulary, as_they_are

if TYPE_CHECKING:
    import httpx


class Tokens(Protocol):
    """A tokenizer, as far as prompts need one.

    name: where it is from, for the result: "tokenizer.json of /models/x", "the server's /tokenize"
    exact: the counts are a tokenizer's, not an estimate
    """

    @property
    def name(self) -> str: ...

    @property
    def exact(self) -> bool: ...

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        """Tokens of each text as plain content: no special token, no chat template.

        seconds: after so long the counts of those texts are given that were counted until then,
            from the first on
        """
        ...

    def words(self) -> Vocabulary:
        """Words to make texts from, of one token each where there are such."""
        ...

    def close(self) -> None:
        """Free what counting holds (a vocabulary in memory); counting again is possible."""
        ...


class ApproximateTokens:
    """Lengths without a tokenizer: an estimate, and never called anything else.

    A word of up to 8 letters counts as one token, a longer one as one for each 8 letters begun, any
    other sign as one. That holds to some percent for common English and the large vocabularies of
    today's models.
    """

    name = "words (no tokenizer: lengths are approximate)"
    exact = False
    _pieces = re.compile(r"\w+|[^\w\s]")

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        return [sum(math.ceil(len(p) / 8) for p in self._pieces.findall(text)) for text in texts]

    def words(self) -> Vocabulary:
        return as_they_are([word for word in COMMON if len(word) <= 8])

    def close(self) -> None:
        """Nothing to end."""


def find_tokens(tokenizer: Path | None, client: httpx.Client | None, model: str) -> Tokens:
    """The best tokenizer there is for `model`.

    In this order: the one given; the server's own, asked through `client` (its base_url is the
    server's); the tokenizer.json of the model's folder or of its snapshot in this machine's Hugging
    Face cache; none, which makes all lengths approximate. A given one that can't be used is a
    BadInput.
    """
    from spark_bench.prompts import process, served  # tokenizers and httpx, when needed

    if tokenizer is not None:
        return process.load_local_tokens(tokenizer)
    if client is not None and (tokens := served.ask_tokenize(client, model)):
        return tokens
    if folder := process.folder_of(model):
        return process.load_local_tokens(folder)
    return ApproximateTokens()
