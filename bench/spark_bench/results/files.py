"""Result files on disk: written whole or not at all, and a finished run is never lost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from spark_bench.results.atomic import NotSaved, removed_on_failure, replacing, to_disk
from spark_bench.results.codec import InvalidResult, check, encode
from spark_bench.results.types import Result

FOLDER = Path("benchmark_results")


def default_path(profile: str, when: datetime, folder: Path = FOLDER) -> Path:
    """A free name for a run's result, claimed by an empty file so that no other run takes it.

    Claim it at the end of a run. A folder that can't be written is told by `write`.
    """
    name = re.sub(r"[^\w.-]+", "-", profile)
    first = folder / f"bench_{name}_{when:%Y%m%d_%H%M%S}.json"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for path in _names(first):
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                return path
    return first


def requests_path(path: Path) -> Path:
    """Where the requests of the result at `path` go: beside it."""
    return path.with_name(f"{path.stem}.requests.jsonl")


def write(result: Result, path: Path) -> None:
    """Write a result; its folder is made, a file that is there is replaced in one step.

    NotSaved, with the encoded result in it, when the disk is full, the name is a folder's, there
    is no permission, or the result breaks its own schema.
    """
    data = encode(result)
    try:
        check(data)
        with replacing(path) as file:
            file.write(data)
    except NotSaved as error:
        error.data = data
        raise
    except InvalidResult as error:
        raise NotSaved(path, f"it breaks the result file's schema ({error})", data) from error


def save_somewhere(data: bytes, candidates: Iterable[Path]) -> Path | None:
    """Write `data` to the first of `candidates` that takes it; nothing there is overwritten.

    Returns where it went (the name may have got a number), or None.
    """
    for candidate in candidates:
        with suppress(OSError):
            return _write_new(data, candidate)
    return None


def _write_new(data: bytes, candidate: Path) -> Path:
    for path in _names(candidate):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        with removed_on_failure(path), open(descriptor, "wb") as file:
            file.write(data)
            to_disk(file)
        return path
    raise AssertionError("names don't end")


def _names(first: Path) -> Iterator[Path]:
    """x.json, x_2.json, x_3.json, ..."""
    yield first
    yield from (first.with_name(f"{first.stem}_{n}{first.suffix}") for n in count(2))
