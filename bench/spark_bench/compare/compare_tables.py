"""A comparison for people, on a terminal within 80 columns."""

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.compare import differences, metric_names
from spark_bench.compare.comparison import (
    Comparison,
    by_value,
    methods,
    verdict_line,
)
from spark_bench.compare.gates import decides
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.scores import ScoreDifference
from spark_bench.formats import brief, digits, plural, with_sign
from spark_bench.printable import printable
from spark_bench.results.quality_schema import Against

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
            grid.add_row(run.letter, Text(f"{printable(run.name)} ({role}{run_contents(run)})"))
        yield grid
        if comparison.matrix.names:
            yield _figures(comparison.matrix)
    elif comparison.matrix.names:
        yield from _many(comparison.matrix)
    if comparison.paired:
        yield _paired(comparison)
    if comparison.scores:
        yield _scores(comparison)
        for sentence in agreement_lines(comparison):
            yield Text(sentence, overflow="fold")
    if comparison.explaining:
        yield _explaining(comparison)
    for note in comparison.notes:
        yield Text(f"note: {note}", overflow="fold")
    for method in methods(comparison):
        yield Text(method, style="dim")
    if power := _power(comparison.matrix):
        yield Text(power, style="dim")
    for verdict in comparison.verdicts:
        counts = verdict.outcome != "holds" and decides(verdict, comparison.verdicts)
        style = "bold red" if counts else ""
        yield Text(verdict_line(verdict), style=style)


def run_contents(run: ComparedRun) -> str:
    """What a run's results are: "5 repeats, arith, tools"."""
    repeats = [plural(run.repeats, "repeat")] if run.parts else []
    return printable(", ".join([*repeats, *run.by_task]))


def _paired(comparison: Comparison) -> Table:
    """A row per latency and run whose requests are paired with the first run's."""
    heads = ("by request", "run", "pairs", "longer", "change", "95%", "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in comparison.paired:
        within = "" if row.low is None or row.high is None else range_text(row.low, row.high)
        table.add_row(
            f"{row.latency}_ms",
            row.run,
            f"{row.pairs:,}",
            f"{100 * row.slower:.0f}%",
            _percent(row.percent),
            within,
            Text(row.verdict, style=STYLES.get(row.verdict, "")),
        )
    return table


def _scores(comparison: Comparison) -> Table:
    """A row per task and run that has a score of it."""
    heads = ("task", "run", "score", "right", "95%", "change", "95%", "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in comparison.scores:
        shown = [index for index, score in enumerate(row.scores) if score]
        for index in shown:
            score, apart = row.scores[index], row.differences[index]
            assert score
            verdict = apart.verdict if apart else ""
            table.add_row(
                printable(row.task) if index == shown[0] else "",
                comparison.matrix.runs[index].letter,
                percent(score.score),
                f"{score.right} of {score.answers}",
                f"{percent(score.low)} to {percent(score.high)}",
                *(points(apart) if apart else ("", "")),
                Text(verdict, style=STYLES.get(verdict, "")),
            )
        table.add_section()
    return table


def percent(share: float) -> str:
    """A share as percent, with one decimal."""
    return f"{100 * share:.1f}"


def points(apart: ScoreDifference | Against) -> tuple[str, str]:
    """A difference of scores, and its interval, in points."""
    return f"{with_sign(100 * apart.difference)} pts", range_text(100 * apart.low, 100 * apart.high)


def agreement_lines(comparison: Comparison) -> Iterator[str]:
    """For each task and run, how far its answers agree with the first run's, as a sentence."""
    first, *others = comparison.matrix.runs
    for row in comparison.scores:
        for run, apart in zip(others, row.differences[1:], strict=True):
            if apart:
                text = agreement_text(apart, f"in {first.letter}", f"in {run.letter}")
                yield f"{row.task}: {text}"


def agreement_text(apart: ScoreDifference | Against, first: str, second: str) -> str:
    """How far the answers of two runs agree, as a sentence. first, second: where they are"""
    matched = apart.matched
    texts = ""
    if matched.same_text is not None and matched.answers:
        texts = f", {percent(matched.same_text / matched.answers)} % word for word"
    if matched.earliest_place is not None:
        texts += (
            f"; where texts differ, from {matched.places or 'word'} {brief(matched.median_place)} "
            f"on in the median, "
            f"{matched.earliest_place} at the earliest"
        )
    same = percent(matched.same_value / matched.answers) if matched.answers else "-"
    return (
        f"{same} % of {matched.answers} answers agree in value{texts}; right only {first}: "
        f"{apart.lost:g}, only {second}: {apart.won:g}"
    )


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
    within = "" if np.isnan(low) else range_text(low, high)
    return _percent(matrix.percent[row, run]), within, Text(verdict, style=STYLES.get(verdict, ""))


def range_text(low: float, high: float) -> str:
    """The ends of an interval of changes: "-1.2 to +3.4"."""
    return f"{with_sign(low)} to {with_sign(high)}"


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
