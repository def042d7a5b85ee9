"""What the terminal shows, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.compare.align import by_value
from spark_bench.compare.load import Run
from spark_bench.compare.matrix import Matrix
from spark_bench.compare.names import better
from spark_bench.compare.story import METHOD, Comparison, line
from spark_bench.display.figures import digits

FEW = 8  # runs: up to here, each figure has a line a run
MOST_FIGURES = 3  # beyond that, each run has a line, and so many figures beside each other
STYLES = {"better": "green", "worse": "bold red"}
LONG = 20  # characters of a hash that are shown


def tables(found: Comparison) -> Iterator[RenderableType]:
    """Everything, in the order in which it is printed."""
    runs = found.matrix.runs
    if len(runs) <= FEW:
        yield _runs(runs)
        yield _figures(found.matrix)
    else:
        yield from _many(found.matrix)
    if found.explaining:
        yield _explaining(found)
    for note in found.notes:
        yield Text(f"note: {note}", overflow="fold")
    yield Text(METHOD, style="dim")
    if power := _power(found.matrix):
        yield Text(power, style="dim")
    for verdict in found.verdicts:
        yield Text(line(verdict), style="" if verdict.outcome == "holds" else "bold red")


def _runs(runs: tuple[Run, ...]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for run in runs:
        role = "baseline, " if run is runs[0] else ""
        count = f"{run.repeats} repeat{'s' if run.repeats != 1 else ''}"
        grid.add_row(run.letter, Text(f"{run.name} ({role}{count})"))
    return grid


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _figures(found: Matrix) -> Table:
    """A row a figure and run."""
    letters = [run.letter for run in found.runs]
    several = len(letters) > 2
    against = "run" if several else letters[1]
    table = _table("figure", letters[0], *(("run", "value") if several else (against,)))
    for head in ("difference", "95 % interval", ""):
        table.add_column(head, justify="right", no_wrap=True)
    for row, name in enumerate(found.names):
        for run in range(1, len(letters)):
            first = run == 1
            table.add_row(
                name if first else "",
                digits(found.values[row, 0]) if first else "",
                *([letters[run]] if several else []),
                digits(found.values[row, run]),
                *_difference(found, row, run),
                end_section=several and run == len(letters) - 1,
            )
    return table


def _difference(found: Matrix, row: int, run: int) -> tuple[str, str, Text]:
    verdict = found.verdict(row, run)
    low, high = found.low[row, run], found.high[row, run]
    within = "" if np.isnan(low) else f"{_signed(low)} to {_signed(high)}"
    return _percent(found.percent[row, run]), within, Text(verdict, style=STYLES.get(verdict, ""))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{_signed(value)} %"


def _signed(value: float) -> str:
    """With one digit after the point, two for small ones.

    >>> _signed(-3.04), _signed(0.123), _signed(1234.5)
    ('-3.0', '+0.12', '+1,234')
    """
    if abs(value) >= 1e6:
        return f"{value:+.0e}"
    return f"{value:+,.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 0.995 else 2}f}"


def _many(found: Matrix) -> Iterator[RenderableType]:
    """A row a run, for the first figures."""
    names = found.names[:MOST_FIGURES]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for name in names:
        table.add_column(_short(name), justify="right", no_wrap=True)
    for index, run in enumerate(found.runs):
        cells = (_cell(found, row, index) for row in range(len(names)))
        table.add_row(Text(f"{run.letter} {_tail(run.name)}"), *cells)
    yield table
    if len(found.names) > len(names):
        yield Text(
            f"{len(found.names) - len(names)} more figures: choose with --metrics, or take all "
            "with --csv or --json",
            style="dim",
        )


def _short(name: str) -> str:
    return name.removesuffix("_ms").replace("_throughput", "/s").replace("_", " ")


def _tail(name: str, width: int = 24) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _cell(found: Matrix, row: int, run: int) -> Text:
    value = digits(found.values[row, run])
    if run == 0 or np.isnan(found.percent[row, run]):
        return Text(value)
    verdict = found.verdict(row, run)
    mark = {"better": " better", "worse": " worse"}.get(verdict, "")
    return Text(f"{value} {_percent(found.percent[row, run])}{mark}", style=STYLES.get(verdict, ""))


def _explaining(found: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="may explain it", title_justify="left")
    table.add_column("differs", overflow="fold", max_width=34)
    table.add_column("runs", overflow="fold", max_width=14)
    table.add_column("value", overflow="fold")
    for each in found.explaining:
        for index, (who, value) in enumerate(by_value(each, found.matrix.runs)):
            shown = f"{value[:LONG]}…" if _is_hash(value) else value
            table.add_row(Text("" if index else each.field), Text(who), Text(shown))
    return table


def _is_hash(value: str) -> bool:
    plain = value.removeprefix("sha256:")
    return len(plain) >= 40 and all(letter in "0123456789abcdef" for letter in plain)


def _power(found: Matrix) -> str:
    """What the first figure's spread lets one find."""
    row = next((row for row, name in enumerate(found.names) if better(name)), None)
    if row is None or np.isnan(found.detectable[row]).all():
        return ""
    least = np.nanmax(found.detectable[row])
    repeats = int(np.nanmin(found.n[row]))
    return (
        f"With this spread and {repeats} repeats, differences of {least:.2g} % and more in "
        f"{found.names[row]}, looked at alone, are found in 95 % of comparisons."
    )
