"""The run of one model: `spark-bench run` as a process of its own, and what came of it.

A process of its own: its memory and its client's exactness are those of a single run, and it can
be ended whatever it does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spark_bench.display.figures import duration
from spark_bench.errors import TooManyFailures
from spark_bench.options import FailureLimit
from spark_bench.suite.asked import Asked
from spark_bench.suite.child import Ended
from spark_bench.suite.status import Failure

if TYPE_CHECKING:
    from spark_bench.results.types import Result

LAST_LINES = 3


def words(asked: Asked, served: str, output: Path) -> list[str]:
    """The command line; an API key travels in the environment or its file."""
    options = [
        *(pair for name, value in asked.overrides.items() for pair in _override(name, value)),
        *(pair for file in asked.profiles for pair in ("--profiles", file)),
        *(("--api-key-file", asked.api_key_file) if asked.api_key_file else ()),
        *("--repeat", asked.repeat, "--model", served),
        *("--project", asked.project, "--inventory", asked.inventory),
        *("--max-failures", "100%", "--output", output),
    ]
    # -P: a folder with a json.py of its own is where people work, too.
    ours = [sys.executable, "-P", "-m", "spark_bench", "run", asked.profile.name]
    return [*ours, *map(str, options)]


def _override(name: str, value: object) -> tuple[str, object]:
    from spark_bench.load.profile import NO_LIMIT, option

    return option(name), NO_LIMIT[name] if value is None else value


def failure(ended: Ended, result: Result | None, asked: Asked, spec: str) -> Failure | None:
    """What is wrong with a run; None: nothing. spec: what the head ran before it."""
    if ended.code is None:
        done = f": {result.summary.completed} requests were answered" if result else ""
        return Failure(
            "BENCH_FAILED", f"no end within {duration(asked.bench_timeout)} (--bench-timeout){done}"
        )
    if result is None:
        return Failure("BENCH_FAILED", _last(ended))
    summary = result.summary
    total = summary.completed + summary.failed
    why = ", ".join(f"{count} {kind}" for kind, count in summary.failures.items())
    if not summary.completed or not summary.total_output_tokens:
        return Failure(
            "NO_OUTPUT", f"none of {total} requests was answered{f' ({why})' if why else ''}"
        )
    if result.status == "partial":
        return Failure("BENCH_FAILED", f"it ended early: {result.reason}")
    if _too_many(asked.max_failures, summary.failed, total):
        return Failure("BENCH_FAILED", f"{summary.failed} of {total} requests failed ({why})")
    deployed = result.provenance.deployment
    if deployed and deployed.ranks and deployed.ranks[0].spec != spec:
        return Failure("BENCH_FAILED", f"meanwhile {deployed.model} was deployed anew")
    return None


def _too_many(limit: FailureLimit, failed: int, total: int) -> bool:
    try:
        limit.check(failed, total)
    except TooManyFailures:
        return True
    return False


def _last(ended: Ended) -> str:
    told = [line.removeprefix("Error: ") for line in ended.lines if line.strip()]
    errors = [line.removeprefix("Error: ") for line in ended.lines if line.startswith("Error: ")]
    return "; ".join(errors or told[-LAST_LINES:]) or f"run ended with {ended.code}"
