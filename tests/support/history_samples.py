"""Results that differ in what the history distinguishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from result_samples import a_result
from spark_bench.results.codec import encode_result
from spark_bench.results.files import new_id
from spark_bench.results.schema import Result

BASE = datetime(2026, 11, 23, 13, 38, 5, 250_000, tzinfo=UTC)


def a_run(
    hours: float = 0,
    *,
    model: str = "openai/gpt-oss-120b",
    profile: str = "quick",
    status: Any = "complete",
    **summary: Any,
) -> Result:
    """A run that ended so many hours before BASE; summary: figures of it."""
    result, when = a_result(), BASE - timedelta(hours=hours)
    return replace(
        result,
        id=new_id(when),
        created=when,
        status=status,
        reason="Ctrl-C" if status == "partial" else "",
        config=replace(result.config, model=model, profile=profile),
        summary=replace(result.summary, **summary),
    )


def written(path: Path, result: Result) -> Result:
    """The result, in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_result(result))
    return result
