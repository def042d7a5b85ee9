"""Files, folders and globs to runs; each result is read once, and what the page needs is kept."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from spark_bench.compare.load import read
from spark_bench.errors import BadInput
from spark_bench.every.output import RESULTS
from spark_bench.report.run import Run, run_of
from spark_bench.report.unmeasured import Unmeasured, unmeasured
from spark_bench.result.files import FOLDER
from spark_bench.result.types import KIND

_KIND = f'"{KIND}"'.encode()
_HEAD = 400  # bytes in which a result's kind stands


class Gathered(Struct, frozen=True):
    """What the words named.

    words: as they were typed
    unmeasured: rows of `spark-bench all` that came to no result
    damaged: sentences about files in folders and globs that should be results and can't be read
    """

    runs: tuple[Run, ...]
    words: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def gather(words: Sequence[str]) -> Gathered:
    """The runs, each once, the oldest first. BadInput for a word that names none."""
    runs: dict[str, Run] = {}
    damaged: list[str] = []
    paths = _paths(words or (str(FOLDER),))
    for path, named in paths.items():
        if not _claims(path) and (not named or path.name == RESULTS):
            continue
        try:
            run = run_of(read(path), path)
        except BadInput as error:
            if named:
                raise
            damaged.append(error.message)
        else:
            runs[run.entry.id] = run
    failed = unmeasured(paths)
    if not runs:
        raise BadInput(_nothing(words, [*damaged, *(each.diagnosis for each in failed)]))
    ordered = tuple(runs[key] for key in sorted(runs))
    return Gathered(ordered, tuple(words), tuple(damaged), failed)


def _nothing(words: Sequence[str], damaged: Sequence[str]) -> str:
    where = ", ".join(words) or f"{FOLDER}, the default,"
    why = f"; {damaged[0]}" if damaged else ""
    return (
        f"{where} has no result of spark-bench run in it: measure with spark-bench run, or name "
        f"result files, folders or quoted globs{why}"
    )


def _paths(words: Sequence[str]) -> dict[Path, bool]:
    """Each file once, and whether it was named itself."""
    paths: dict[Path, bool] = {}
    for word in words:
        for path, named in _named(word):
            paths[path] = named or paths.get(path, False)
    return paths


def _named(word: str) -> Iterator[tuple[Path, bool]]:
    path = Path(word)
    if path.is_dir():
        yield from ((file, False) for file in _inside(path))
    elif path.exists():
        yield path, True
    elif matches := sorted(glob.glob(word, recursive=True)):
        yield from ((Path(match), False) for match in matches if Path(match).is_file())
    elif word != str(FOLDER):
        raise BadInput(f"{word} is not there: give a result file, a folder, or a quoted glob")


def _inside(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    )


def _claims(path: Path) -> bool:
    """Its first bytes say that it is a result; damage further on is told, not passed over."""
    try:
        with path.open("rb") as file:
            return _KIND in file.read(_HEAD)
    except OSError:
        return False
