"""A comparison for other programs: CSV, Markdown, JSON."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from spark_bench.compare.align import Difference
from spark_bench.compare.comparison import METHOD, Comparison
from spark_bench.compare.differences import Matrix, matrix_frame
from spark_bench.compare.metric_names import better
from spark_bench.compare.runs import ComparedRun
from spark_bench.formats import with_sign
from spark_bench.printable import cell, code, json_text
from spark_bench.printable import markdown as escaped


def comparison_csv(comparison: Comparison) -> str:
    """The matrix as CSV: a row per figure; unknown values are empty."""
    return matrix_frame(comparison.matrix).map(cell).to_csv()


def comparison_markdown(comparison: Comparison) -> str:
    """The matrix as a table of values, differences and verdicts, then what may explain them."""
    matrix = comparison.matrix
    base, *others = matrix.runs
    heads = ["figure", base.letter]
    for run in others:
        heads += [run.letter, f"{run.letter} to {base.letter}", ""]
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    for row, name in enumerate(matrix.names):
        cells = [f"`{name}`", _number(matrix.values[row, 0])]
        for index in range(1, len(matrix.runs)):
            cells += [_number(matrix.values[row, index]), _percent(matrix, row, index)]
            cells.append(matrix.verdict(row, index))
        lines.append(_row(cells))
    runs = (f"- {run.letter}: {code(run.name)} ({run.repeats} repeats)" for run in matrix.runs)
    explaining = (
        f"- differs: {code(each.field)}: {_values(each)}" for each in comparison.explaining
    )
    notes = (f"- {escaped(note)}" for note in comparison.notes)
    return "\n".join([*lines, "", *runs, *explaining, *notes, "", METHOD, ""])


def comparison_json(comparison: Comparison) -> str:
    """All of it as JSON; unknown values are null."""
    matrix = comparison.matrix
    whole = {
        "schema_version": 1,
        "kind": "spark-bench compare",
        "runs": [_run(run) for run in matrix.runs],
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
    return json_text(msgspec.json.format(msgspec.json.encode(whole)))


def _run(run: ComparedRun) -> dict[str, Any]:
    return {
        "letter": run.letter,
        "name": run.name,
        "repeats": run.repeats,
        "files": [str(part.path) for part in run.parts],
        "ids": [part.id for part in run.parts],
    }


def _figure(matrix: Matrix, row: int) -> dict[str, Any]:
    detectable = matrix.detectable(row)
    return {
        "name": matrix.names[row],
        "better": better(matrix.names[row]),
        "runs": [
            {**_column(matrix, row, run), "detectable_percent": _finite(detectable[run])}
            for run in range(len(matrix.runs))
        ],
    }


def _column(matrix: Matrix, row: int, run: int) -> dict[str, Any]:
    numbers = {
        "value": matrix.values,
        "percent": matrix.percent,
        "low": matrix.low,
        "high": matrix.high,
        "p": matrix.p,
        "p_holm": matrix.holm,
    }
    return {
        "letter": matrix.runs[run].letter,
        "repeats": int(matrix.n[row, run]),
        **{key: _finite(array[row, run]) for key, array in numbers.items()},
        "verdict": matrix.verdict(row, run),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _difference(each: Difference, runs: Iterable[ComparedRun]) -> dict[str, Any]:
    values = {run.letter: own for run, own in zip(runs, each.values, strict=True)}
    return {"field": each.field, "values": values}


def _values(each: Difference) -> str:
    return " / ".join(
        " and ".join("none" if value is None else escaped(str(value)) for value in own)
        for own in each.values
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) and abs(value) < 1e4 else _whole(value)


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "-"


def _percent(matrix: Matrix, row: int, run: int) -> str:
    """ "-3.0 % (-3.4 to -2.6)"."""
    percent, low, high = (array[row, run] for array in (matrix.percent, matrix.low, matrix.high))
    if not math.isfinite(percent):
        return "-"
    within = f" ({with_sign(low)} to {with_sign(high)})" if math.isfinite(low) else ""
    return f"{with_sign(percent)} %{within}"
