"""What a user reads at the end of a run, as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.display.load_tables import sweep_table
from spark_bench.display.result_lines import client_line, finding_lines, node_lines, server_lines
from spark_bench.expectations import expectation_lines
from spark_bench.formats import brief, digits, plural
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import Interval
from spark_bench.printable import printable
from spark_bench.results.schema import Config, Result

if TYPE_CHECKING:
    from spark_bench.load.sweep import Sweep
    from spark_bench.options import RunOutcome


def outcome_tables(outcome: RunOutcome, sweep: Sweep | None = None) -> Iterator[RenderableType]:
    """Everything that a run prints, in order."""
    if sweep and outcome.results:
        # Only the last one can have been interrupted.
        yield _head(outcome.results[-1], sweep.over)
        yield sweep_table(outcome.results, sweep)
    else:
        for result in outcome.results:
            yield from result_tables(result)
    for path in outcome.written:
        yield Text(f"written to {path}", overflow="fold")


def result_tables(result: Result) -> Iterator[RenderableType]:
    """One result: what was run, latencies, then everything else in sentences."""
    yield _head(result)
    if result.summary.completed:
        yield latencies(result)
    yield _grid(_rows(result))
    if result.notes:
        yield _grid(("note", note) for note in result.notes)


def _rows(result: Result) -> Iterator[tuple[str, str]]:
    yield from finding_lines(result)
    if result.summary.completed:
        yield from expectation_lines(result)
    if result.server:
        yield from server_lines(result.server)
    if result.nodes:
        yield from node_lines(result.nodes)
    yield "client", client_line(result.audit)


def _head(result: Result, swept: str = "") -> RenderableType:
    partial = [("partial", result.reason)] if result.status == "partial" else []
    load = (result.config.profile, load_line(result.config, swept))
    return _grid([*partial, load, ("server", server_line(result))])


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=10)
    grid.add_column(overflow="fold")
    for name, text in rows:
        grid.add_row(printable(name), Text(printable(text)))
    return grid


FIGURES = ("mean", "median", "p90", "p99", "max")
HEADS = ("mean", "p50", "p90", "p99", "max")
ROWS = (
    ("TTFT", "ttft"),
    ("TTFT, scheduled", "scheduled_ttft"),
    ("ITL", "itl"),
    ("TPOT", "tpot"),
    ("E2E", "e2e_latency"),
    ("E2E, scheduled", "scheduled_e2e_latency"),
)


def latencies(result: Result) -> Table:
    """Latencies in milliseconds. Those from the scheduled time are shown for open loads alone."""
    due = open_loop(result.config)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("ms", no_wrap=True, style="bold")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    intervals = {name: bounds for name, bounds in result.intervals.items() if "mean_" in name}
    if intervals:
        table.add_column("mean, 95%", justify="right", no_wrap=True)
    for title, name in ROWS:
        if due or not name.startswith("scheduled"):
            table.add_row(title, *_cells(result.summary, intervals, name))
    return table


def _cells(summary: Summary, intervals: Mapping[str, Interval], name: str) -> list[str]:
    cells = [digits(getattr(summary, f"{figure}_{name}_ms")) for figure in FIGURES]
    if intervals:
        bounds = intervals.get(f"mean_{name}_ms")
        cells.append(f"±{digits((bounds.high - bounds.low) / 2)}" if bounds else "")
    return cells


def load_line(config: Config, swept: str = "") -> str:
    """The load in words; swept: what varies from point to point, "concurrency" or "rate"."""
    repeats = f", {config.repeat} times" if config.repeat > 1 else ""
    arrival = "several rates" if swept == "rate" else _arrival(config)
    slots = "several numbers in flight" if swept == "concurrency" else _slots(config)
    return (
        f"{plural(config.num_prompts, 'prompt')}{repeats}, {_length(config.input_len)} tokens in, "
        f"{_length(config.output_len)} out, {arrival}, {slots}"
    )


def server_line(result: Result) -> str:
    """The server: URL, model, endpoint, engine and version."""
    config, server = result.config, result.provenance.server
    engine = " ".join(filter(None, (server.engine, server.version)))
    return ", ".join(filter(None, (config.url, config.model, config.endpoint, engine)))


def open_loop(config: Config) -> bool:
    """Whether requests were sent by the clock rather than when others had finished."""
    return bool(config.request_rate or config.rate_ramp) or _trace(config)


def _trace(config: Config) -> bool:
    return config.dataset is not None and config.dataset.format == "trace"


def _length(tokens: int | None) -> str:
    return "varying" if tokens is None else f"{tokens:,}"


def _arrival(config: Config) -> str:
    if _trace(config) and config.dataset:
        return f"at the times in {config.dataset.file}"
    shape = {1.0: "Poisson", None: "even"}.get(config.burstiness, f"gamma {config.burstiness}")
    if ramp := config.rate_ramp:
        return f"{brief(ramp.start)} to {brief(ramp.end)} req/s ({ramp.shape}, {shape})"
    if config.request_rate is None:
        return "closed loop"
    return f"{brief(config.request_rate)} req/s ({shape})"


def _slots(config: Config) -> str:
    return f"{config.concurrency} in flight" if config.concurrency else "no limit in flight"
