"""Result files found again: what the store is made of."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.history.entry import Entry, entry_of
from spark_bench.results.codec import read
from spark_bench.results.found import claims, named


class Found(Struct, frozen=True):
    """What files held.

    refused: sentences, of files that were named, or that say that they are results, and are none
    others: JSON files in folders that are something else
    """

    entries: tuple[Entry, ...]
    refused: tuple[str, ...] = ()
    others: int = 0


def collect(words: Sequence[str]) -> Found:
    """The results in files, folders (and theirs) and globs; BadInput for a word that is none."""
    entries: dict[str, Entry] = {}
    refused: list[str] = []
    others = 0
    for path, itself in named(words).items():
        if not itself and not claims(path):
            others += 1
            continue
        try:
            entry = entry_of(read(path), path)
            entries[entry.id] = entry
        except BadInput as error:
            refused.append(error.message)
    return Found(tuple(entries.values()), tuple(refused), others)
