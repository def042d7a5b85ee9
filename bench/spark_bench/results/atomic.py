"""Write a file completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

from spark_bench.errors import BenchError


class NotSaved(BenchError):
    """A file that could not be written.

    path: its path
    data: its content, to print or to write elsewhere; empty if it was streamed
    """

    def __init__(self, path: Path, why: str, data: bytes = b"") -> None:
        super().__init__(f"{path} can't be written: {why}. Name another file with --output.")
        self.path = path
        self.data = data


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that replaces `path` when the block ends and leaves no trace if it fails.

    A device or a pipe is written directly. Raises NotSaved for what the system refuses.
    """
    try:
        if _is_stream(path):
            with open(path, "wb") as file:
                yield file
        else:
            with _beside(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        _unclaim(path)
        raise NotSaved(path, error.strerror or str(error)) from error


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # before anything is written
        raise IsADirectoryError(0, "it is a folder")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with removed_on_failure(draft):
        with open(draft, "wb") as file:
            yield file
            to_disk(file)
        draft.replace(path)
    _folder_to_disk(path.parent)


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove `path` if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _unclaim(path: Path) -> None:
    with suppress(OSError):
        if S_ISREG(path.lstat().st_mode) and not path.stat().st_size:
            path.unlink()


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (S_ISREG(mode) or S_ISDIR(mode))


def to_disk(file: BinaryIO) -> None:
    """Force what was written to disk, so that a full disk is noticed now."""
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    with suppress(OSError):  # not every file system supports it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
