"""The table of latencies."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from spark_bench.display.figures import digits
from spark_bench.display.load import open_loop
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import Interval
from spark_bench.results.types import Result

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
    """In milliseconds. Scheduled ones, from when a request was due, only where a clock said so."""
    due = open_loop(result.config)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("ms", no_wrap=True, style="bold")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    intervals = {name: found for name, found in result.intervals.items() if "mean_" in name}
    if intervals:
        table.add_column("mean, 95%", justify="right", no_wrap=True)
    for title, name in ROWS:
        if due or not name.startswith("scheduled"):
            table.add_row(title, *_cells(result.summary, intervals, name))
    return table


def _cells(summary: Summary, intervals: Mapping[str, Interval], name: str) -> list[str]:
    cells = [digits(getattr(summary, f"{figure}_{name}_ms")) for figure in FIGURES]
    if intervals:
        found = intervals.get(f"mean_{name}_ms")
        cells.append(f"±{digits((found.high - found.low) / 2)}" if found else "")
    return cells
