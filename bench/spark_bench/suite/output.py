"""The files that hold all rows: written whole, after each model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from spark_bench.printable import cell
from spark_bench.results.atomic import replacing
from spark_bench.suite.rows import COLUMNS, Row
from spark_bench.suite.summary import summary

RESULTS, TABLE, SUMMARY = "results.json", "results.csv", "summary.txt"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What each model was asked; the first four are the keys of the scripts that this replaces."""

    profile: str
    num_prompts: int
    input_len: int
    output_len: int
    request_rate: float | None = None
    concurrency: int | None = None
    repeat: int = 1

    def __str__(self) -> str:
        rate = f", {self.request_rate:g} a second" if self.request_rate else ""
        slots = f", {self.concurrency} in flight" if self.concurrency else ""
        often = f", {self.repeat} times" if self.repeat > 1 else ""
        return (
            f"{self.profile}: {self.num_prompts} prompts of {self.input_len} tokens, "
            f"{self.output_len} tokens each{rate}{slots}{often}"
        )


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """results.json. The first five keys are those of the scripts that this replaces.

    timestamp: when it began, ISO 8601 with the zone
    total_time_seconds: of all sittings, where it was resumed
    models_tested: rows that are not SKIPPED
    finished: nothing is left to do
    restored: what was done about the model served before, in words
    """

    timestamp: str
    config: Load
    total_time_seconds: float
    models_tested: int
    results: tuple[Row, ...]
    kind: str = "spark-bench all"
    schema_version: int = 1
    finished: bool = False
    restored: str = ""


def write(results: Results, folder: Path) -> None:
    """All three. NotSaved where the disk refuses."""
    _replace(folder / RESULTS, encoded(results))
    _replace(folder / TABLE, as_csv(results.results).encode())
    _replace(folder / SUMMARY, as_summary(results).encode())


def encoded(results: Results) -> bytes:
    return msgspec.json.format(msgspec.json.encode(results)) + b"\n"


def as_csv(rows: Sequence[Row]) -> str:
    """With a header; what there is no figure for is empty, and no text is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(_plain(getattr(row, name))) for name in COLUMNS] for row in rows)
    return text.getvalue()


def as_summary(results: Results) -> str:
    """summary.txt's text."""
    return summary(
        results.results, str(results.config), results.timestamp, results.total_time_seconds
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return round(value, 3) if isinstance(value, float) else value


def _replace(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
