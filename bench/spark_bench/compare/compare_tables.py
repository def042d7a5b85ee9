"""A comparison for people and programs: on a terminal within 80 columns, as Markdown, CSV, JSON."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.compare import differences, metric_names
from spark_bench.compare.comparison import METHOD, Comparison, Difference, by_value, verdict_line
from spark_bench.compare.runs import ComparedRun
from spark_bench.formats import digits, markdown_table, plural, with_sign
from spark_bench.printable import cell, code, json_text, markdown, printable

FEW = 8  # up to this many runs, each figure has a line per run
USUAL = ("output_throughput", "median_ttft_ms")  # beyond that, a line per run with two figures
STYLES = {"better": "green", "worse": "bold red"}
LONG = 20  # characters of a hash that are shown


def comparison_tables(comparison: Comparison) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    runs = comparison.matrix.runs
    if len(runs) <= FEW:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for run in runs:
            role = "baseline, " if run is runs[0] else ""
            about = f"({role}{plural(run.repeats, 'repeat')})"
            grid.add_row(run.letter, Text(f"{printable(run.name)} {about}"))
        yield grid
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
        style = "" if verdict.outcome == "holds" else "bold red"
        yield Text(verdict_line(verdict), style=style)


def _figures(matrix: differences.Matrix) -> Table:
    """A row per figure; with more than two runs, a row per figure and run."""
    several = len(matrix.runs) > 2
    heads = ("figure", *(("run", "value") if several else ("A", "B")), "change", "95%", "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
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


def _change(matrix: differences.Matrix, row: int, run: int) -> tuple[str, str, Text]:
    verdict = matrix.verdict(row, run)
    low, high = matrix.low[row, run], matrix.high[row, run]
    within = "" if np.isnan(low) else f"{with_sign(low)} to {with_sign(high)}"
    return _percent(matrix.percent[row, run]), within, Text(verdict, style=STYLES.get(verdict, ""))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{with_sign(value)}%"


def _many(matrix: differences.Matrix) -> Iterator[RenderableType]:
    """A row per run with two figures."""
    rows = [matrix.names.index(name) for name in USUAL if name in matrix.names]
    if len(rows) < len(USUAL):
        rows = list(range(len(matrix.names)))[: len(USUAL)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for row in rows:
        table.add_column(matrix.names[row], justify="right", no_wrap=True)
    for index, run in enumerate(matrix.runs):
        name = printable(run.name)
        end = name if len(name) <= 20 else f"…{name[-19:]}"
        cells = []
        for row in rows:
            value, verdict = digits(matrix.values[row, index]), matrix.verdict(row, index)
            # The first run and missing figures have no verdict.
            if verdict:
                value += f" {_percent(matrix.percent[row, index])}"
            mark = f" {verdict}" if verdict in STYLES else ""
            cells.append(Text(f"{value}{mark}", style=STYLES.get(verdict, "")))
        table.add_row(Text(f"{run.letter} {end}"), *cells)
    yield table
    if more := len(matrix.names) - len(rows):
        yield Text(
            f"{more} more figures: choose with --metrics, or get all with --csv or --json",
            style="dim",
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
            plain = value.removeprefix("sha256:")
            is_hash = len(plain) >= 40 and all(letter in "0123456789abcdef" for letter in plain)
            shown = f"{value[:LONG]}…" if is_hash else value
            table.add_row(Text("" if index else printable(each.field)), Text(who), Text(shown))
    return table


def _power(matrix: differences.Matrix) -> str:
    """The difference that the first figure's spread allows to detect."""
    row = next((row for row, name in enumerate(matrix.names) if metric_names.better(name)), None)
    least = np.nan if row is None else np.nanmax([0.0, *matrix.detectable(row)])
    if row is None or not 0 < least < np.inf:
        return ""
    repeats = int(np.nanmin(matrix.n[row]))
    return (
        f"With this spread and {repeats} repeats, differences of {least:.2g}% or more in "
        f"{matrix.names[row]} are found in 95% of comparisons (unadjusted)."
    )


def comparison_csv(comparison: Comparison) -> str:
    """The matrix as CSV: a row per figure; unknown values are empty."""
    return differences.matrix_frame(comparison.matrix).map(cell).to_csv()


def comparison_markdown(comparison: Comparison) -> str:
    """The matrix as a table of values, differences and verdicts, then what may explain them."""
    matrix = comparison.matrix
    base, *others = matrix.runs
    heads = ["figure", base.letter]
    for run in others:
        heads += [run.letter, f"{run.letter} to {base.letter}", ""]
    rows = []
    for row, name in enumerate(matrix.names):
        cells = [f"`{name}`", _number(matrix.values[row, 0])]
        for index in range(1, len(matrix.runs)):
            percent, low = matrix.percent[row, index], matrix.low[row, index]
            change = f"{with_sign(percent)} %" if math.isfinite(percent) else "-"
            if math.isfinite(percent) and math.isfinite(low):
                change += f" ({with_sign(low)} to {with_sign(matrix.high[row, index])})"
            cells += [_number(matrix.values[row, index]), change, matrix.verdict(row, index)]
        rows.append(cells)
    runs = (f"- {run.letter}: {code(run.name)} ({run.repeats} repeats)" for run in matrix.runs)
    explaining = []
    for each in comparison.explaining:
        values = (
            " and ".join("none" if value is None else markdown(str(value)) for value in own)
            for own in each.values
        )
        explaining.append(f"- differs: {code(each.field)}: {' / '.join(values)}")
    notes = (f"- {markdown(note)}" for note in comparison.notes)
    table = markdown_table(heads, rows)
    return "\n".join([table, "", *runs, *explaining, *notes, "", METHOD, ""])


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def comparison_json(comparison: Comparison) -> str:
    """All of it as JSON; unknown values are null."""
    matrix = comparison.matrix
    document = {
        "schema_version": 1,
        "kind": "spark-bench compare",
        "runs": [
            {
                "letter": run.letter,
                "name": run.name,
                "repeats": run.repeats,
                "files": [str(part.path) for part in run.parts],
                "ids": [part.id for part in run.parts],
            }
            for run in matrix.runs
        ],
        "figures": [_figure(matrix, row) for row in range(len(matrix.names))],
        "compared_anyway": [_difference(each, matrix.runs) for each in comparison.forbidding],
        "differences": [_difference(each, matrix.runs) for each in comparison.explaining],
        "gates": [
            {**msgspec.to_builtins(verdict), "gate": verdict.gate.text}
            for verdict in comparison.verdicts
        ],
        "notes": comparison.notes,
        "method": METHOD,
    }
    return json_text(msgspec.json.format(msgspec.json.encode(document)))


def _figure(matrix: differences.Matrix, row: int) -> dict[str, Any]:
    """A figure of every run, and each run's difference from the first."""
    numbers = {
        "value": matrix.values[row],
        "percent": matrix.percent[row],
        "low": matrix.low[row],
        "high": matrix.high[row],
        "p": matrix.p[row],
        "p_holm": matrix.holm[row],
    }
    detectable = matrix.detectable(row)
    return {
        "name": matrix.names[row],
        "better": metric_names.better(matrix.names[row]),
        "runs": [
            {
                "letter": run.letter,
                "repeats": int(matrix.n[row, index]),
                **{key: _finite(array[index]) for key, array in numbers.items()},
                "verdict": matrix.verdict(row, index),
                "detectable_percent": _finite(detectable[index]),
            }
            for index, run in enumerate(matrix.runs)
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _difference(each: Difference, runs: Iterable[ComparedRun]) -> dict[str, Any]:
    values = {run.letter: own for run, own in zip(runs, each.values, strict=True)}
    return {"field": each.field, "values": values}
