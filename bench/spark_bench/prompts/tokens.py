"""How many tokens a text has, by the served model's own tokenizer if it is available; and the
words that prompts are made of: plain lower-case ASCII, so that JSON has nothing to escape and a
tokenizer nothing to split.

Nothing here ever contacts a model hub: a tokenizer comes from a folder on this machine or from the
server under test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import httpx


POOL = 4096  # most words that prompts are drawn from: 12 random bits per token
ENOUGH = 64  # with fewer one-token words, COMMON is used, however many tokens its words have
PLAIN = re.compile(r"[a-z]{2,10}")
MARKERS = "Ġ▁"  # how a vocabulary writes the space before a word: byte-level BPE, SentencePiece

# Words of one token each in the vocabularies of today's models (32k entries and more).
COMMON = tuple(
    PLAIN.findall("""
    able about above across act add after again age ago agree air all almost alone along already
    also always among amount and animal another answer any appear area arm around art ask away baby
    back bad ball bank base be bear beat beauty become bed been before began begin behind being
    best better between big bird black blood blow blue board boat body bone book born both bottom
    box boy bread break bring brother brown build built burn business busy but buy call came can
    capital car care carry case cat catch cause cell center century certain chair chance change
    charge check child choose church circle city claim class clean clear close coast cold color
    come common company complete consider contain control cook cool copy corner correct cost could
    count country course cover create cross crowd cry current cut dance danger dark data day dead
    deal death decide deep degree design develop differ direct discuss distance divide doctor dog
    dollar door double doubt down draw dream dress drink drive drop dry during each early earth
    ease east eat edge effect egg eight either electric element else end energy engine enough enter
    equal even evening event ever every exact example except expect experience eye face fact fair
    fall family famous far farm fast father favor fear feed feel feet fell few field fig fight
    figure fill final find fine finger finish fire first fish fit five flat floor flow flower fly
    follow food foot force forest form forward found four free fresh friend from front fruit full
    fun game garden gas gather gave general gentle get girl give glad glass go gold gone good
    """)
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that texts are made of.

    first: words that begin a text
    rest: words with the space before them

    Each is one token, unless the tokenizer has too few such words.
    """

    first: tuple[str, ...]
    rest: tuple[str, ...]


Count = Callable[[Sequence[str]], list[int]]


def plain_words(vocabulary: Iterable[str]) -> Iterator[str]:
    """The plain words of a vocabulary, without their space markers, each once, in its order."""
    taken = set()
    for entry in vocabulary:
        word = entry.lstrip(MARKERS)
        if word not in taken and PLAIN.fullmatch(word):
            taken.add(word)
            yield word


def pick(candidates: Sequence[str], count: Count) -> Vocabulary:
    """The candidates that are one token, at the start of a text and after a word.

    The words of COMMON, unchecked, if there are too few.
    """
    alone = count(candidates)
    twice = count([f"{word} {word}" for word in candidates])
    rest = [w for w, one, two in zip(candidates, alone, twice, strict=True) if two - one == 1]
    whole = {word for word, one in zip(candidates, alone, strict=True) if one == 1}
    first = [word for word in rest if word in whole]
    if len(first) < ENOUGH or len(rest) < ENOUGH:
        return as_they_are(COMMON)
    return Vocabulary(tuple(first[:POOL]), tuple(f" {word}" for word in rest[:POOL]))


def as_they_are(words: Sequence[str]) -> Vocabulary:
    """The words, unchecked."""
    return Vocabulary(tuple(words), tuple(f" {word}" for word in words))


class Tokens(Protocol):
    """A tokenizer, as far as prompts need one.

    name: where it is from, for the result: "tokenizer.json of /models/x", "the server's /tokenize"
    exact: whether the counts are a tokenizer's rather than an estimate
    """

    @property
    def name(self) -> str: ...

    @property
    def exact(self) -> bool: ...

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        """Tokens of each text as plain content: no special token, no chat template.

        seconds: time limit, after which only the first texts' counts are returned; None: no limit
        """
        ...

    def words(self) -> Vocabulary:
        """Words to make texts from, each one token if possible."""
        ...

    def close(self) -> None:
        """Free what counting holds (a vocabulary in memory); counting again is possible."""
        ...


class ApproximateTokens:
    """Lengths without a tokenizer: an estimate, and never called anything else.

    A word counts as one token for each 8 letters or part of 8, any other character as one. That is
    right to within some percent for common English and the large vocabularies of today's models.
    """

    name = "words (no tokenizer: lengths are approximate)"
    exact = False
    _pieces = re.compile(r"\w+|[^\w\s]")

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        return [sum(math.ceil(len(p) / 8) for p in self._pieces.findall(text)) for text in texts]

    def words(self) -> Vocabulary:
        return as_they_are([word for word in COMMON if len(word) <= 8])

    def close(self) -> None:
        """Nothing to free."""


def find_tokens(tokenizer: Path | None, client: httpx.Client | None, model: str) -> Tokens:
    """The best tokenizer there is for `model`.

    In this order: the one given; the server's own, asked through `client` (its base_url is the
    server's); the tokenizer.json of the model's folder or of its snapshot in this machine's Hugging
    Face cache; none, which makes all lengths approximate. BadInput if the given one can't be used.
    """
    from spark_bench.prompts import library, served  # tokenizers and httpx, when needed

    if tokenizer is not None:
        return library.load_local_tokens(tokenizer)
    if client is not None and (tokens := served.ask_tokenize(client, model)):
        return tokens
    if folder := library.folder_of(model):
        return library.load_local_tokens(folder)
    return ApproximateTokens()
