"""A comparison for programs and other pages: as CSV, Markdown and JSON."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from spark_bench.compare import compare_tables, differences, metric_names
from spark_bench.compare.comparison import Comparison, Difference, methods
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.scores import ScoreRow
from spark_bench.formats import markdown_table, with_sign
from spark_bench.printable import cell, code, json_text, markdown


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
            within = (
                f" ({compare_tables.range_text(pair.low or 0, pair.high or 0)})"
                if pair and pair.p
                else ""
            )
            cells += ["", f"{with_sign(pair.percent)} %{within}" if pair else "-"]
            cells.append(pair.verdict if pair else "")
        rows.append(cells)
    for task in comparison.scores:
        cells = [f"`{task.task}`, %"]
        for index, (score, apart) in enumerate(zip(task.scores, task.differences, strict=True)):
            cells.append(compare_tables.percent(score.score) if score else "-")
            if index:
                change = "{} ({})".format(*compare_tables.points(apart)) if apart else "-"
                cells += [change, apart.verdict if apart else ""]
        rows.append(cells)
    runs = (
        f"- {run.letter}: {code(run.name)} ({compare_tables.run_contents(run)})"
        for run in matrix.runs
    )
    agreement = (f"- {markdown(line)}" for line in compare_tables.agreement_lines(comparison))
    explaining = []
    for each in comparison.explaining:
        values = (
            " and ".join("none" if value is None else markdown(str(value)) for value in own)
            for own in each.values
        )
        explaining.append(f"- differs: {code(each.field)}: {' / '.join(values)}")
    notes = (f"- {markdown(note)}" for note in comparison.notes)
    table = markdown_table(heads, rows)
    judged = list(methods(comparison))
    return "\n".join([table, "", *runs, *agreement, *explaining, *notes, "", *judged, ""])


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
        "method": " ".join(methods(comparison)),
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
