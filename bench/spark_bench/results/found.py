"""Result files by what a user names: files, folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from spark_bench.errors import BadInput
from spark_bench.results.types import KIND

_KIND = f'"{KIND}"'.encode()
_HEAD = 400  # bytes in which a result's kind stands


def named(words: Sequence[str]) -> dict[Path, bool]:
    """Each file once, and whether it was named itself. BadInput for a word that names nothing.

    Of a folder, and of those in it, the JSON files that are not hidden.
    """
    paths: dict[Path, bool] = {}
    for word in words:
        for path, itself in _named(word):
            paths[path] = itself or paths.get(path, False)
    return paths


def claims(path: Path) -> bool:
    """Its first bytes say that it is a result; damage further on is for its reader to tell."""
    try:
        with path.open("rb") as file:
            return _KIND in file.read(_HEAD)
    except OSError:
        return False


def _named(word: str) -> Iterator[tuple[Path, bool]]:
    path = Path(word)
    if path.is_dir():
        yield from ((file, False) for file in _inside(path))
    elif path.exists():
        yield path, True
    elif matches := sorted(glob.glob(word, recursive=True)):
        yield from ((Path(match), False) for match in matches if Path(match).is_file())
    else:
        raise BadInput(f"{word} is not there: give a result file, a folder, or a quoted glob")


def _inside(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    )
