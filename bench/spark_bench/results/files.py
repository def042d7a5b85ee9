"""Result files on disk: found, and written so that a finished run is never lost."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from spark_bench.errors import BadInput
from spark_bench.results.atomic import NotSaved, removed_on_failure, replacing, to_disk
from spark_bench.results.codec import InvalidResult, decode_result, encode_result
from spark_bench.results.schema import KIND, Result

FOLDER = Path("benchmark_results")


def default_path(profile: str, when: datetime, folder: Path = FOLDER) -> Path:
    """A free name for a run's result, reserved by an empty file so that no other run takes it.

    Call it at the end of a run. `write_result` reports a folder that can't be written.
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
    """The path of the requests file of the result at `path`, in the same folder."""
    return path.with_name(f"{path.stem}.requests.jsonl")


def write_result(result: Result, path: Path) -> None:
    """Write a result: creates the folder, replaces an existing file in one step.

    NotSaved, with the encoded result in it, if the disk is full, the path is a folder, permission
    is denied, or the result breaks its own schema.
    """
    data = encode_result(result)
    try:
        decode_result(data)
        with replacing(path) as file:
            file.write(data)
    except NotSaved as error:
        error.data = data
        raise
    except InvalidResult as error:
        raise NotSaved(path, f"it breaks the schema of result files ({error})", data) from error


def save_somewhere(data: bytes, candidates: Iterable[Path]) -> Path | None:
    """Write `data` to the first of `candidates` that works, without overwriting anything.

    Returns the path (possibly with a number appended), or None.
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
    raise AssertionError("unreachable: there is always a next name")


def _names(first: Path) -> Iterator[Path]:
    """x.json, x_2.json, x_3.json, ..."""
    yield first
    yield from (first.with_name(f"{first.stem}_{n}{first.suffix}") for n in count(2))


_KIND = f'"{KIND}"'.encode()
_HEAD_BYTES = 400  # bytes that contain a result's kind


def find_files(words: Sequence[str]) -> dict[Path, bool]:
    """Files by path, and whether each was named itself. BadInput for a word that matches nothing.

    Folders are searched recursively for JSON files that are not hidden.
    """
    paths: dict[Path, bool] = {}
    for word in words:
        for path, itself in _matches(word):
            paths[path] = itself or paths.get(path, False)
    return paths


def claims_result(path: Path) -> bool:
    """Whether its first bytes say that it is a result; its reader reports any damage further on."""
    try:
        with path.open("rb") as file:
            return _KIND in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _matches(word: str) -> Iterator[tuple[Path, bool]]:
    path = Path(word)
    if path.is_dir():
        yield from ((file, False) for file in _inside(path))
    elif path.exists():
        yield path, True
    elif matches := sorted(glob.glob(word, recursive=True)):
        yield from ((Path(match), False) for match in matches if Path(match).is_file())
    else:
        raise BadInput(f"{word} does not exist: give a result file, a folder, or a quoted glob")


def _inside(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    )
