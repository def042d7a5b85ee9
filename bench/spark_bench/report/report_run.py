"""What the page needs of one result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from spark_bench.display.result_lines import lengths_line
from spark_bench.expectations import Expectation, judge_result
from spark_bench.history.entry import HistoryEntry, entry_of, server_key
from spark_bench.load.sweep import MeasuredPoint, power_between
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.depth import SpeedRow
from spark_bench.metrics.mixed import MixedFigures
from spark_bench.metrics.queues import Queue
from spark_bench.metrics.stalls import Prefills
from spark_bench.metrics.summary import Distributions
from spark_bench.report.quality_section import server_settings
from spark_bench.results import config_schema, schema
from spark_bench.results.llama_benchy import result_rows


class ReportRun(Struct, frozen=True, kw_only=True):
    """One result.

    entry: its history entry: names, load, figures with their intervals
    reason: why it is partial; reasons: why its figures are approximate
    kernel: whether receive times are the kernel's; lag_us: from them to the client's read, at p99
    late_us: from when requests could be sent to when they were, at p99
    checked, differing: prompts whose length the server reported; those of another length
    failures: failed requests by kind
    lengths: how well prompt lengths match, as a sentence; "" if all do
    distributions: of the run, or of its last repeat
    settings: what its server was started with, flattened
    server: what served, as text (see `server_key`)
    origin: what it was measured with, as (subject, text)
    timed: whether the file has samples over time
    beside: its figures beside the published ones whose load it sent
    accepted: tokens of each step with speculative decoding; None: there is none
    rows: prefill and decode speed at a depth; empty: it had none
    mixed: short and long prompts apart; None: all were alike
    queue, server_queue_ms, prefills: what its streams show, of several repeats the one with the
        median wait, and the mean time in the queue by the server's own metrics; None: unknown
    itl_bound: the lowest and the highest p99 ITL of that repeat; None: unknown
    power: the lowest and the highest power that it can have (see `load.sweep.power`); None: unknown
    bounds: the lowest and the highest value that its figures can have, by key; empty: unknown
    """

    entry: HistoryEntry
    config: config_schema.RunConfig
    reason: str
    reasons: tuple[str, ...]
    kernel: bool
    lag_us: float
    late_us: float
    checked: int
    differing: int
    failures: dict[str, int]
    lengths: str
    notes: tuple[str, ...]
    distributions: Distributions | None
    settings: dict[str, Any]
    server: str
    origin: tuple[tuple[str, str], ...]
    timed: bool
    beside: tuple[Expectation, ...] = ()
    accepted: Accepted | None = None
    rows: tuple[SpeedRow, ...] = ()
    mixed: MixedFigures | None = None
    queue: Queue | None = None
    server_queue_ms: float | None = None
    prefills: Prefills | None = None
    itl_bound: Bound | None = None
    power: tuple[float, float] | None = None
    bounds: dict[str, Bound] = {}

    def value(self, name: str) -> float | None:
        """A figure by its key in the summary."""
        figure = self.entry.figures.get(name)
        return figure.value if figure else None

    @property
    def measured(self) -> bool:
        """Whether any request succeeded."""
        return self.entry.completed > 0

    @property
    def sent(self) -> int:
        return self.entry.completed + self.entry.failed

    def at(self, load: float) -> MeasuredPoint:
        """This run as a point of a sweep."""
        return MeasuredPoint(
            value=load,
            output_throughput=self.value("output_throughput") or 0.0,
            request_throughput=self.value("request_throughput") or 0.0,
            ttft_ms=_or_nan(self.value("mean_ttft_ms")),
            e2e_ms=_or_nan(self.value("mean_e2e_latency_ms")),
            goodput=self.value("request_goodput"),
            failed=self.entry.failed / self.sent if self.sent else 0.0,
            between=self.power,
        )


def report_run(result: schema.Result, path: Path) -> ReportRun:
    """What the page needs of the result in the file at `path`."""
    last = result.repeats[-1] if result.repeats else result
    streams = next((each for each in result.repeats if each.queue == result.queue), result)
    compared = streams.server.reconciliation if streams.server else None
    lengths = result.lengths
    off = lengths.differing or lengths.stopped_early
    fine = lengths.tokenizer and lengths.checked and not off
    return ReportRun(
        entry=entry_of(result, path),
        config=result.config,
        reason=result.reason if result.status == "partial" else "",
        reasons=result.audit.reasons if result.audit.verdict != "exact" else (),
        kernel=result.audit.clock == "kernel",
        lag_us=result.audit.lag_us.p99,
        late_us=result.audit.late_us.p99,
        checked=lengths.checked,
        differing=lengths.differing,
        failures=result.summary.failures,
        lengths="" if fine or not result.summary.completed else lengths_line(lengths),
        notes=result.notes,
        distributions=last.distributions,
        settings=server_settings(result.provenance),
        server=server_key(result.provenance, result.config.url, result.config.model),
        origin=tuple(_origin(result)),
        timed=bool(last.server and len(last.server.samples.at) > 1) or bool(last.nodes),
        beside=judge_result(result)[1:] if result.config.published else (),
        accepted=result.accepted or None,
        rows=tuple(result_rows(result)),
        mixed=result.mixed or None,
        queue=result.queue or None,
        server_queue_ms=compared.ttft_queue_ms if compared else None,
        prefills=(streams.stalls.prefills or None) if streams.stalls else None,
        itl_bound=(streams.bounds or {}).get("p99_itl_ms"),
        power=power_between(result.bounds or {}),
        bounds=result.bounds or {},
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _origin(result: schema.Result) -> Iterator[tuple[str, str]]:
    """What a run was measured with, as (subject, text); without what differs between any two runs
    (the load average)."""
    provenance = result.provenance
    server, machine, client = provenance.server, provenance.machine, provenance.client
    yield "engine", " ".join(filter(None, (server.engine, server.version))) or "unknown"
    if server.max_model_len:
        yield "context", f"{server.max_model_len:,} tokens"
    if server.settings:
        yield "settings", ", ".join(f"{key}={value}" for key, value in server.settings.items())
    if deployment := provenance.deployment:
        yield "weights", f"{deployment.model} {deployment.revision[:12]}".strip()
        for rank in deployment.ranks:
            yield (
                f"rank {rank.rank}",
                f"{rank.node}: {rank.image}, {rank.image_id[:19]}, launch {rank.spec[:12]}",
            )
    yield "server", result.config.url
    words = (machine.hostname, machine.product, machine.cpu, machine.platform, machine.kernel)
    yield "measured from", ", ".join(filter(None, words))
    python = f"Python {client.python}" + (f", httpx {client.httpx}" if client.httpx else "")
    yield "client", f"spark-bench {client.version}, {python}"
    if commit := provenance.project:
        yield "project", commit.sha[:12] + (", with local changes" if commit.dirty else "")
