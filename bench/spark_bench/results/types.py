"""A result file: everything that is known of one run, as it is written.

Every name of these types is a key of the file; docs/results.md explains them for users. A change
of meaning, a new or a removed key is a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from secrets import token_hex
from typing import Final, Literal

from msgspec import Struct

from spark_bench.client.audit import Audit
from spark_bench.metrics.distributions import Distributions
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import Stalls
from spark_bench.results.config import Config
from spark_bench.results.facts import Provenance
from spark_bench.results.lengths import Lengths
from spark_bench.results.server_figures import Nodes, ServerFigures

SCHEMA_VERSION: Final = 1
KIND: Final = "spark-bench run"


class Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one repeat measured, or all of them together.

    summary: the run's figures, under sglang.bench_serving's names; those without the start and the
        tail in its `steady`
    audit: how exact the client was
    lengths: tokens asked for and tokens seen
    distributions: quantiles, for plots; null for the median over repeats
    intervals: confidence intervals, by the summary's key; over repeats, or within the run
    stalls: gaps and whose they were
    server: what the server's own metrics say of the same time, and how that fits; null: it has none
    nodes: power, temperature and memory, and tokens per joule; null: not sampled
    requests_file: the name of the requests' file, in the same folder; null: not saved
    """

    summary: Summary
    audit: Audit
    lengths: Lengths
    distributions: Distributions | None = None
    intervals: dict[str, Interval] = {}
    stalls: Stalls | None = None
    server: ServerFigures | None = None
    nodes: Nodes | None = None
    requests_file: str | None = None


class Repeat(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One repeat; started: in UTC, ISO 8601."""

    repeat: int
    started: datetime


class Result(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run. The measured part is the run's own, or the median over its repeats.

    id: unique; in the order of the runs when sorted as text
    created: when the run ended, in UTC, ISO 8601
    status: "partial" when it was ended before its last request
    reason: why it is partial ("Ctrl-C"), else empty
    repeats: each of them, in their order; empty when there was one
    notes: what a reader of the figures should know, in sentences
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["spark-bench run"] = KIND
    id: str
    created: datetime
    status: Literal["complete", "partial"]
    reason: str = ""
    config: Config
    provenance: Provenance
    repeats: tuple[Repeat, ...] = ()
    notes: tuple[str, ...] = ()


def new_id(now: datetime) -> str:
    """An id for a run that ended at `now`: its time in UTC to the millisecond, and some chance."""
    utc = now.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}Z-{token_hex(4)}"
