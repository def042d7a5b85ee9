"""Result files found again: what the store is made of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.history.entry import Entry, entry_of
from spark_bench.result.codec import read
from spark_bench.result.types import KIND


class Found(Struct, frozen=True):
    """What files held.

    refused: sentences, of files that were named, or that say that they are results, and are none
    others: JSON files in folders that are something else
    """

    entries: tuple[Entry, ...]
    refused: tuple[str, ...] = ()
    others: int = 0


class _Kind(Struct, frozen=True):
    kind: str = ""


def collect(words: Sequence[str]) -> Found:
    """The results in files, folders (and theirs) and globs; BadInput for a word that is none."""
    entries: dict[str, Entry] = {}
    refused: list[str] = []
    others = 0
    paths: dict[Path, bool] = {}
    for path, named in _paths(words):
        paths[path] = named or paths.get(path, False)
    for path, named in paths.items():
        if not named and not _claims(path):
            others += 1
            continue
        try:
            entry = entry_of(read(path), path)
            entries[entry.id] = entry
        except BadInput as error:
            refused.append(error.message)
    return Found(tuple(entries.values()), tuple(refused), others)


def _paths(words: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named itself."""
    for word in words:
        path = Path(word)
        if path.is_dir():
            yield from ((file, False) for file in _inside(path))
        elif path.exists():
            yield path, True
        elif matches := glob.glob(word, recursive=True):
            yield from ((Path(match), False) for match in sorted(matches))
        else:
            raise BadInput(f"{word}: there is no such file or folder, and no file is called so")


def _inside(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    )


def _claims(path: Path) -> bool:
    """It says of itself that it is a result; broken ones that say nothing are not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kind).kind == KIND
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
