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
from spark_bench.compare.comparison import (
    METHOD,
    PAIR_METHOD,
    SCORE_METHOD,
    Comparison,
    Difference,
    by_value,
    verdict_line,
)
from spark_bench.compare.gates import decides
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.scores import ScoreDifference, ScoreRow
from spark_bench.formats import brief, digits, markdown_table, plural, with_sign
from spark_bench.printable import cell, code, json_text, markdown, printable
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
            grid.add_row(run.letter, Text(f"{printable(run.name)} ({role}{_contents(run)})"))
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
    for method in _methods(comparison):
        yield Text(method, style="dim")
    if power := _power(comparison.matrix):
        yield Text(power, style="dim")
    for verdict in comparison.verdicts:
        counts = verdict.outcome != "holds" and decides(verdict, comparison.verdicts)
        style = "bold red" if counts else ""
        yield Text(verdict_line(verdict), style=style)


def _contents(run: ComparedRun) -> str:
    """What a run's results are: "5 repeats, arith, tools"."""
    repeats = [plural(run.repeats, "repeat")] if run.parts else []
    return printable(", ".join([*repeats, *run.by_task]))


def _methods(comparison: Comparison) -> Iterator[str]:
    if comparison.matrix.names:
        yield METHOD
    if comparison.paired:
        yield PAIR_METHOD
    if comparison.scores:
        yield SCORE_METHOD


def _paired(comparison: Comparison) -> Table:
    """A row per latency and run whose requests are paired with the first run's."""
    heads = ("by request", "run", "pairs", "longer", "change", "95%", "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in comparison.paired:
        within = "" if row.low is None or row.high is None else _within(row.low, row.high)
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
    return f"{with_sign(100 * apart.difference)} pts", _within(100 * apart.low, 100 * apart.high)


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
    within = "" if np.isnan(low) else _within(low, high)
    return _percent(matrix.percent[row, run]), within, Text(verdict, style=STYLES.get(verdict, ""))


def _within(low: float, high: float) -> str:
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


def comparison_csv(comparison: Comparison) -> str:
    """The matrix as CSV: a row per figure, then one per task; unknown values are empty.

    Scores are in percent, and their differences in points, in columns of their own.
    """
    import pandas as pd

    frame = differences.matrix_frame(comparison.matrix)
    rows: dict[str, dict[str, object]] = {}
    for each in comparison.paired:
        rows.setdefault(f"by_request.{each.latency}_ms", {"better": "lower"}).update(
            {
                f"{each.run} repeats": each.repeats,
                f"{each.run} %": each.percent,
                f"{each.run} low %": each.low,
                f"{each.run} high %": each.high,
                f"{each.run} p": each.p,
                f"{each.run} p (Holm)": each.p_holm,
                f"{each.run} verdict": each.verdict,
            }
        )
    for row in comparison.scores:
        cells = rows[f"score.{row.task}"] = {"better": "higher"}
        columns = zip(comparison.matrix.runs, row.scores, row.differences, strict=True)
        for run, score, apart in columns:
            if score:
                cells[run.letter] = 100 * score.score
            if apart:
                ends = {"": apart.difference, " low": apart.low, " high": apart.high}
                cells |= {f"{run.letter}{end} pts": 100 * value for end, value in ends.items()}
                cells |= {
                    f"{run.letter} p": apart.p,
                    f"{run.letter} p (Holm)": apart.p_holm,
                    f"{run.letter} verdict": apart.verdict,
                }
    if rows:
        scores = pd.DataFrame.from_dict(rows, orient="index")
        frame = pd.concat([frame, scores] if len(frame) else [scores]).rename_axis("figure")
    return frame.map(cell).to_csv()


def comparison_markdown(comparison: Comparison) -> str:
    """Figures and scores as a table with differences and verdicts, then what may explain them."""
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
    for name in dict.fromkeys(each.latency for each in comparison.paired):
        own = {each.run: each for each in comparison.paired if each.latency == name}
        cells = [f"`{name}_ms` by request", ""]
        for run in others:
            pair = own.get(run.letter)
            within = f" ({_within(pair.low or 0, pair.high or 0)})" if pair and pair.p else ""
            cells += ["", f"{with_sign(pair.percent)} %{within}" if pair else "-"]
            cells.append(pair.verdict if pair else "")
        rows.append(cells)
    for task in comparison.scores:
        rows.append([f"`{task.task}`, %", *_score_cells(task)])
    runs = (f"- {run.letter}: {code(run.name)} ({_contents(run)})" for run in matrix.runs)
    agreement = (f"- {markdown(line)}" for line in agreement_lines(comparison))
    explaining = []
    for each in comparison.explaining:
        values = (
            " and ".join("none" if value is None else markdown(str(value)) for value in own)
            for own in each.values
        )
        explaining.append(f"- differs: {code(each.field)}: {' / '.join(values)}")
    notes = (f"- {markdown(note)}" for note in comparison.notes)
    table = markdown_table(heads, rows)
    methods = list(_methods(comparison))
    return "\n".join([table, "", *runs, *agreement, *explaining, *notes, "", *methods, ""])


def _score_cells(row: ScoreRow) -> Iterator[str]:
    for index, (score, apart) in enumerate(zip(row.scores, row.differences, strict=True)):
        yield percent(score.score) if score else "-"
        if index:
            yield "{} ({})".format(*points(apart)) if apart else "-"
            yield apart.verdict if apart else ""


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
                "files": [str(part.path) for part in run.files],
                "ids": [part.id for part in run.files],
            }
            for run in matrix.runs
        ],
        "figures": [_figure(matrix, row) for row in range(len(matrix.names))],
        "by_request": msgspec.to_builtins(comparison.paired),
        "scores": [_score(row, matrix.runs) for row in comparison.scores],
        "compared_anyway": [_difference(each, matrix.runs) for each in comparison.forbidding],
        "differences": [_difference(each, matrix.runs) for each in comparison.explaining],
        "gates": [
            {**msgspec.to_builtins(verdict), "gate": verdict.gate.text}
            for verdict in comparison.verdicts
        ],
        "notes": comparison.notes,
        "method": " ".join(_methods(comparison)),
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


def _score(row: ScoreRow, runs: Iterable[ComparedRun]) -> dict[str, Any]:
    """A task's score in every run, and each run's difference from the first; shares, not points."""
    cells = zip(runs, row.scores, row.differences, strict=True)
    return {
        "task": row.task,
        "runs": [
            {
                "letter": run.letter,
                "score": msgspec.to_builtins(score),
                "difference": msgspec.to_builtins(apart),
            }
            for run, score, apart in cells
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _difference(each: Difference, runs: Iterable[ComparedRun]) -> dict[str, Any]:
    values = {run.letter: own for run, own in zip(runs, each.values, strict=True)}
    return {"field": each.field, "values": values}
