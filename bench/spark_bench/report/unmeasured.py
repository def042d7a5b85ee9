"""Models that `spark-bench all` could not measure: they have no result, but a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from spark_bench.results.codec import NOT_JSON
from spark_bench.results.suite_results import SUITE_RESULTS, SuiteResults


class Unmeasured(Struct, frozen=True):
    """status: as `spark-bench all` has it ("STARTUP_FAILED"); diagnosis: why"""

    model: str
    variant: str
    status: str
    diagnosis: str

    @property
    def skipped(self) -> bool:
        """It was meant so."""
        return self.status == "SKIPPED"


def unmeasured(paths: Iterable[Path]) -> tuple[Unmeasured, ...]:
    """Of the results.json among these files, each once; other files of that name have none."""
    found = (each for path in paths if path.name == SUITE_RESULTS for each in _rows(path))
    return tuple(dict.fromkeys(found))


def _rows(path: Path) -> Iterator[Unmeasured]:
    try:
        read = msgspec.json.decode(path.read_bytes(), type=SuiteResults)
    except (OSError, *NOT_JSON):
        return
    for row in read.results:
        if row.status != "OK" and row.file is None:
            yield Unmeasured(row.model, row.variant, row.status, row.diagnosis)
