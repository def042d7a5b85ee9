"""The folder of a run: one process at a time, nothing half-written, all state in its files."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from spark_bench.errors import BadInput, BenchError
from spark_bench.results.atomic import replacing
from spark_bench.suite import job, output
from spark_bench.suite.job import JobFile
from spark_bench.suite.output import Results
from spark_bench.suite.rows import Row

# Files that a run under way has not finished yet.
UNFINISHED = ".under-way"
_DRAFT = re.compile(r"\..+\.(json|csv|txt)\.\d+")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Made where it is missing, and for this process alone; what a killed one left half is gone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise BenchError(f"{folder} can't be used: {error.strerror}: give another one") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder} is written to by another spark-bench all") from None
        _clean(folder)
        yield
        _clean(folder)
    finally:
        os.close(descriptor)


def begin(folder: Path, written: JobFile) -> None:
    """Write job.json."""
    data = msgspec.json.format(msgspec.json.encode(written)) + b"\n"
    with replacing(folder / job.FILE) as file:
        file.write(data)


def results(folder: Path) -> Results | None:
    """What an earlier sitting has written; None: nothing."""
    try:
        data = (folder / output.RESULTS).read_bytes()
        return msgspec.json.decode(data, type=Results)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{folder / output.RESULTS} can't be read: {error}") from None


def done(folder: Path, rows: Sequence[Row]) -> dict[str, Row]:
    """The rows that need no second measurement, by name: OK, and their result file is whole."""
    return {row.name: row for row in rows if row.status == "OK" and _whole(folder, row)}


def earlier(parent: Path) -> Iterator[Results]:
    """Results of other folders beside a run's, oldest first."""
    for file in sorted(parent.glob(f"*/{output.RESULTS}")):
        with suppress(BadInput):
            if found := results(file.parent):
                yield found


def _whole(folder: Path, row: Row) -> bool:
    from spark_bench.results.codec import read

    try:
        return row.file is not None and read(folder / row.file).status == "complete"
    except BadInput:
        return False


def _clean(folder: Path) -> None:
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for file in folder.iterdir():
        if _DRAFT.fullmatch(file.name):
            file.unlink(missing_ok=True)
