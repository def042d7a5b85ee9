"""Name, find and write result files, so that a finished run is never lost."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from secrets import token_hex
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

import msgspec

from spark_bench.errors import BadInput, BenchError
from spark_bench.results import codec, quality_schema, schema

FOLDER = Path("benchmark_results")
_BUFFER = 1 << 20  # bytes of request lines to write at once


class NotSaved(BenchError):
    """A file that could not be written.

    path: where it should have been
    data: its content, to be printed or written elsewhere; empty if it was streamed
    """

    def __init__(self, path: Path, why: str, data: bytes = b"") -> None:
        super().__init__(f"{path} can't be written: {why}. Name another file with --output.")
        self.path = path
        self.data = data


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block ends, or leaves no trace if it fails.

    A device or a pipe is written directly. Raises NotSaved if the system refuses a step.
    """
    try:
        mode = 0
        with suppress(OSError):
            mode = path.stat().st_mode
        if mode and not S_ISREG(mode) and not S_ISDIR(mode):
            with open(path, "wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():  # before anything is written
            raise IsADirectoryError(0, "it is a folder")
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        with removed_on_failure(draft):
            with open(draft, "wb") as file:
                yield file
                to_disk(file)
            draft.replace(target)
        with suppress(OSError):  # not every file system can sync a folder
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        # Remove the empty file that reserved the name.
        with suppress(OSError):
            if S_ISREG(path.lstat().st_mode) and not path.stat().st_size:
                path.unlink()
        raise NotSaved(path, error.strerror or str(error)) from error


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove `path` if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def to_disk(file: BinaryIO) -> None:
    """Flush to the disk itself, so that a full disk is noticed now."""
    file.flush()
    os.fsync(file.fileno())


# ---- names


def new_id(now: datetime) -> str:
    """The id of a run that ended at `now`: UTC time to the millisecond, and random digits."""
    utc = now.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}Z-{token_hex(4)}"


def default_path(profile: str, when: datetime, folder: Path = FOLDER, kind: str = "bench") -> Path:
    """A free name for a run's result, reserved with an empty file so that no other run takes it.

    Call this at the end of a run. If the folder can't be written, `write_result` reports it.
    """
    name = re.sub(r"[^\w.-]+", "-", profile)
    first = folder / f"{kind}_{name}_{when:%Y%m%d_%H%M%S}.json"
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


def _names(first: Path) -> Iterator[Path]:
    """x.json, x_2.json, x_3.json, ..."""
    yield first
    yield from (first.with_name(f"{first.stem}_{n}{first.suffix}") for n in count(2))


# ---- writing


def write_result(result: schema.Result | quality_schema.QualityResult, path: Path) -> None:
    """Write a result: create the folder, and replace an existing file in one step.

    Raises NotSaved, which holds the encoded result, if the disk is full, the path is a folder,
    permission is denied, or the result breaks its own schema.
    """
    data = codec.encode_result(result)
    try:
        if isinstance(result, schema.Result):
            codec.decode_result(data)
        else:
            codec.decode_quality(data)
        with replacing(path) as file:
            file.write(data)
    except NotSaved as error:
        error.data = data
        raise
    except codec.InvalidResult as error:
        raise NotSaved(path, f"it breaks the schema of result files ({error})", data) from error


def write_requests(rows: Iterable[codec.Row], path: Path) -> int:
    """Write a line per request; the file appears complete or not at all.

    Returns the number of lines. Raises NotSaved if the file can't be written.
    """
    encoder = msgspec.json.Encoder()
    buffer, lines = bytearray(), 0
    with replacing(path) as file:
        for row in rows:
            lines += 1
            encoder.encode_into(row, buffer, -1)
            buffer += b"\n"
            if len(buffer) >= _BUFFER:
                file.write(buffer)
                buffer.clear()
        file.write(buffer)
    return lines


def save_somewhere(data: bytes, candidates: Iterable[Path]) -> Path | None:
    """Write `data` to the first of `candidates` that works, without overwriting anything.

    Returns the path (possibly with a number appended), or None.
    """
    for candidate in candidates:
        with suppress(OSError):
            for path in _names(candidate):
                try:
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                except FileExistsError:
                    continue
                with removed_on_failure(path), open(descriptor, "wb") as file:
                    file.write(data)
                    to_disk(file)
                return path
    return None


# ---- finding

_KIND = f'"{schema.KIND}"'.encode()
_QUALITY_KIND = f'"{quality_schema.QUALITY_KIND}"'.encode()
_HEAD_BYTES = 400  # enough of a file to contain a result's kind


def find_files(words: Sequence[str]) -> dict[Path, bool]:
    """Find files by path, folder or glob: by path, whether the file itself was named.

    Folders are searched recursively for JSON files that are not hidden. Raises BadInput for a word
    that matches nothing.
    """
    paths: dict[Path, bool] = {}
    for word in words:
        path = Path(word)
        named = not path.is_dir() and path.exists()
        if path.is_dir():
            walked = ((place, name) for place, _, names in os.walk(path) for name in names)
            matches = sorted(
                Path(place, name)
                for place, name in walked
                if name.endswith(".json") and not name.startswith(".")
            )
        elif named:
            matches = [path]
        elif globbed := sorted(glob.glob(word, recursive=True)):
            matches = [Path(match) for match in globbed if Path(match).is_file()]
        else:
            raise BadInput(f"{word} does not exist: give a result file, a folder, or a quoted glob")
        for match in matches:
            paths[match] = named or paths.get(match, False)
    return paths


def claims_result(path: Path) -> bool:
    """Whether a file's first bytes say that it is a result; reading it finds any other damage."""
    return _claims(path, _KIND)


def claims_quality(path: Path) -> bool:
    """Whether a file's first bytes say that it is a result of `spark-bench quality`."""
    return _claims(path, _QUALITY_KIND)


def _claims(path: Path, kind: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return kind in file.read(_HEAD_BYTES)
    except OSError:
        return False
