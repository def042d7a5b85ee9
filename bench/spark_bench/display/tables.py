"""What a user reads at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.display import server_tables
from spark_bench.display.exactness import client
from spark_bench.display.findings import findings
from spark_bench.display.latencies import latencies
from spark_bench.display.load import load_line, server_line
from spark_bench.display.sweep import sweep_table
from spark_bench.expectations import expectation_lines
from spark_bench.printable import printable
from spark_bench.results.types import Result

if TYPE_CHECKING:
    from spark_bench.load.sweep import Sweep
    from spark_bench.options import Outcome


def tables(outcome: Outcome, sweep: Sweep | None = None) -> Iterator[RenderableType]:
    """Everything, in the order in which it is printed."""
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
    """Of one run."""
    yield _head(result)
    if result.summary.completed:
        yield latencies(result)
    yield _grid(_rows(result))
    if result.notes:
        yield _grid(("note", note) for note in result.notes)


def _rows(result: Result) -> Iterator[tuple[str, str]]:
    yield from findings(result)
    if result.summary.completed:
        yield from expectation_lines(result)
    if result.server:
        yield from server_tables.server(result.server)
    if result.nodes:
        yield from server_tables.nodes(result.nodes)
    yield "client", client(result.audit)


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
