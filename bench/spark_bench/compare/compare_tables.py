"""A comparison on a terminal, within 80 columns."""

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.compare.align import by_value
from spark_bench.compare.comparison import METHOD, Comparison, verdict_line
from spark_bench.compare.differences import Matrix
from spark_bench.compare.metric_names import better
from spark_bench.compare.runs import ComparedRun
from spark_bench.formats import digits, with_sign
from spark_bench.printable import printable

FEW = 8  # up to so many runs, each figure has a line per run
USUAL = ("output_throughput", "median_ttft_ms")  # beyond that, a line per run with two figures
STYLES = {"better": "green", "worse": "bold red"}
LONG = 20  # characters of a hash that are shown


def comparison_tables(comparison: Comparison) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    runs = comparison.matrix.runs
    if len(runs) <= FEW:
        yield _runs(runs)
        yield _figures(comparison.matrix)
    else:
        yield from _many(comparison.matrix)
    if comparison.explaining:
        yield _explaining(comparison)
    for note in comparison.notes:
        yield Text(f"note: {note}", overflow="fold")
    yield Text(METHOD, style="dim")
    if power := _power(comparison.matrix):
        yield Text(power, style="dim")
    for verdict in comparison.verdicts:
        yield Text(verdict_line(verdict), style="" if verdict.outcome == "holds" else "bold red")


def _runs(runs: tuple[ComparedRun, ...]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for run in runs:
        role = "baseline, " if run is runs[0] else ""
        count = f"{run.repeats} repeat{'s' if run.repeats != 1 else ''}"
        grid.add_row(run.letter, Text(f"{printable(run.name)} ({role}{count})"))
    return grid


def _figures(matrix: Matrix) -> Table:
    """A row per figure; with more than two runs, a row per figure and run."""
    several = len(matrix.runs) > 2
    table = _table("figure", *(("run", "value") if several else ("A", "B")), "change", "95%", "")
    for row, name in enumerate(matrix.names):
        values = [digits(value) for value in matrix.values[row]]
        if not several:
            table.add_row(name, *values, *_change(matrix, row, 1))
            continue
        for index, run in enumerate(matrix.runs):
            change = _change(matrix, row, index) if index else ("", "", "")
            table.add_row("" if index else name, run.letter, values[index], *change)
        table.add_section()
    return table


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _change(matrix: Matrix, row: int, run: int) -> tuple[str, str, Text]:
    verdict = matrix.verdict(row, run)
    low, high = matrix.low[row, run], matrix.high[row, run]
    within = "" if np.isnan(low) else f"{with_sign(low)} to {with_sign(high)}"
    return _percent(matrix.percent[row, run]), within, Text(verdict, style=STYLES.get(verdict, ""))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{with_sign(value)}%"


def _many(matrix: Matrix) -> Iterator[RenderableType]:
    """A row per run with two figures."""
    rows = [matrix.names.index(name) for name in USUAL if name in matrix.names]
    if len(rows) < len(USUAL):
        rows = list(range(len(matrix.names)))[: len(USUAL)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for row in rows:
        table.add_column(matrix.names[row], justify="right", no_wrap=True)
    for index, run in enumerate(matrix.runs):
        cells = (_cell(matrix, row, index) for row in rows)
        table.add_row(Text(f"{run.letter} {_tail(printable(run.name))}"), *cells)
    yield table
    if more := len(matrix.names) - len(rows):
        yield Text(
            f"{more} more figures: choose with --metrics, or get all with --csv or --json",
            style="dim",
        )


def _tail(name: str, width: int = 20) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _cell(matrix: Matrix, row: int, run: int) -> Text:
    value = digits(matrix.values[row, run])
    if run == 0 or np.isnan(matrix.percent[row, run]):
        return Text(value)
    verdict = matrix.verdict(row, run)
    mark = {"better": " better", "worse": " worse"}.get(verdict, "")
    return Text(
        f"{value} {_percent(matrix.percent[row, run])}{mark}", style=STYLES.get(verdict, "")
    )


def _explaining(comparison: Comparison) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title="what may explain it", title_justify="left"
    )
    table.add_column("differs", overflow="fold", max_width=34)
    table.add_column("run", overflow="fold", max_width=14)
    table.add_column("value", overflow="fold")
    for each in comparison.explaining:
        for index, (who, value) in enumerate(by_value(each, comparison.matrix.runs)):
            shown = f"{value[:LONG]}…" if _is_hash(value) else value
            table.add_row(Text("" if index else printable(each.field)), Text(who), Text(shown))
    return table


def _is_hash(value: str) -> bool:
    plain = value.removeprefix("sha256:")
    return len(plain) >= 40 and all(letter in "0123456789abcdef" for letter in plain)


def _power(matrix: Matrix) -> str:
    """The difference that the first figure's spread allows to detect."""
    row = next((row for row, name in enumerate(matrix.names) if better(name)), None)
    least = np.nan if row is None else np.nanmax([0.0, *matrix.detectable(row)])
    if row is None or not 0 < least < np.inf:
        return ""
    repeats = int(np.nanmin(matrix.n[row]))
    return (
        f"With this spread and {repeats} repeats, differences of {least:.2g}% or more in "
        f"{matrix.names[row]} are found in 95% of comparisons (unadjusted)."
    )
