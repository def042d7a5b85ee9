"""What is made from the rows of a suite: results.csv, summary.txt, and the tables in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from spark_bench.formats import digits, duration
from spark_bench.printable import cell, printable
from spark_bench.results.suite_results import COLUMNS, MEASURED, CaseRow, SuiteResults
from spark_bench.suite.suite_rows import STREAMS, score_tasks

if TYPE_CHECKING:
    import pandas as pd


HEAD = ("Model", "Nodes", "TP", "Output tok/s", "TTFT ms", "ITL ms", "E2E ms")
WARNED = "warned by the probes"
TextRows = Sequence[Sequence[str]]


def rows_csv(rows: Sequence[CaseRow]) -> str:
    """results.csv as text, with a header. Missing figures are empty; no text acts as a formula.

    Each task has three columns at the end: its score from 0 to 1, and the ends of its interval;
    then comes how long all of them took, and what the deploys' probes doubt; then what the streams
    show of the server's queue and its prompts; then two columns for each figure that has bounds in
    some row.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, bool):
            return str(value).lower()
        if value is UNSET:
            return ""
        return round(value, 3) if isinstance(value, float) else value

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [(task, end) for task in score_tasks(rows) for end in ("score", "low", "high")]
    last = ["quality_seconds"] * bool(ends) + ["warned"] * any(row.warned for row in rows)
    heads = [f"{task}_{end}" for task, end in ends] + last
    streams = [name for name in STREAMS if any(getattr(row, name) is not UNSET for row in rows)]
    bounded = list(dict.fromkeys(name for row in rows for name in row.bounds or {}))
    limits = [f"{name}_{end}" for name in bounded for end in ("least", "most")]
    writer.writerow([*COLUMNS, *map(cell, heads), *streams, *map(cell, limits)])
    for row in rows:
        scores = [getattr(row.by_task.get(task), end, None) for task, end in ends]
        closing = [getattr(row, name) or None for name in last]
        bounds = [(row.bounds or {}).get(name) for name in bounded]
        values = [
            *(getattr(row, name) for name in COLUMNS),
            *scores,
            *closing,
            *(getattr(row, name) for name in streams),
            *(end for bound in bounds for end in bound or ("", "")),
        ]
        writer.writerow([cell(plain(value)) for value in values])
    return text.getvalue()


# ---- tables


def plain_table(head: Sequence[str], rows: TextRows, left: int = 1) -> str:
    """A table with two spaces between columns.

    left: number of left-aligned columns at the start; the last column is left-aligned, too
    """
    widths = [max(len(line[n]) for line in (head, *rows)) for n in range(len(head))]

    def render(line: Sequence[str]) -> str:
        last = len(line) - 1
        cells = (
            text.ljust(width) if n < left or n == last else text.rjust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([render(head), rule, *map(render, rows)])


def matrix_head(rows: Sequence[CaseRow]) -> tuple[str, ...]:
    """The columns of the performance matrix, with one for each task."""
    return (*HEAD, *(f"{printable(task)} %" for task in score_tasks(rows)), "Status")


def matrix_rows(rows: Sequence[CaseRow], bounded: bool = False) -> list[list[str]]:
    """The performance matrix, with the columns of `matrix_head`; a missing figure is "-".

    bounded: with how far each figure may be off, where that is more than its last digit
    """
    from spark_bench.display.result_lines import figure_text
    from spark_bench.metrics.bounds import Bound

    tasks = score_tasks(rows)

    def figure(row: CaseRow, name: str) -> str:
        ends = (row.bounds or {}).get(name) if bounded else None
        return figure_text(name, getattr(row, name), Bound(*ends) if ends else None)

    return [
        [
            row_title(row),
            "-" if row.nodes is None else str(row.nodes),
            "-" if row.tp is None else str(row.tp),
            *(figure(row, name) for name in ("output_throughput", "ttft_ms", "itl_ms", "e2e_ms")),
            *(score_text(row, task) for task in tasks),
            f"{row.status}, warned" if row.warned else row.status,
        ]
        for row in rows
    ]


def score_text(row: CaseRow, task: str) -> str:
    """A row's score of a task in percent, with its interval; "-": it has none.

    >>> score_text(CaseRow(model="", model_short="", nodes=1, tp=1, status="OK", name=""), "arith")
    '-'
    """
    if not (score := row.by_task.get(task)):
        return "-"
    return f"{100 * score.score:.1f} ({100 * score.low:.0f}..{100 * score.high:.0f})"


def row_title(row: CaseRow) -> str:
    """A row's model, with its variant if it has one."""
    return printable(f"{row.model_short} {row.variant}".strip())


# ---- summary.txt


def render_summary(results: SuiteResults) -> str:
    """summary.txt: the matrix, the rankings, and what went wrong."""
    rows = results.results
    done = sum(row.status == "OK" for row in rows)
    quality = f"\n{results.quality}" if results.quality else ""
    throughput = [(row, row.output_throughput) for row in by_throughput(rows)]
    ttft = [(row, row.ttft_ms) for row in by_ttft(rows)]
    parts = [
        f"spark-bench all: {results.config}{quality}\n"
        f"begun {results.timestamp}, {duration(results.total_time_seconds)}, "
        f"{done} of {len(rows)} OK",
        f"Performance matrix\n\n{plain_table(matrix_head(rows), matrix_rows(rows))}",
        f"Throughput ranking (output tokens/s, highest first)\n\n{_ranking(throughput)}",
        f"TTFT ranking (ms, lowest first)\n\n{_ranking(ttft)}",
    ]
    if any(row.variant for row in rows):
        parts.append(f"Output tokens/s by variant\n\n{variant_matrix(rows)}")
        front = sorted((r for r in rows if r.pareto), key=lambda r: (r.model, -(r.ttft_ms or 0.0)))
        tasks, warned = score_tasks(rows), any(r.warned for r in front)
        table = [
            [
                *(row_title(r), digits(r.output_throughput), digits(r.ttft_ms)),
                *(score_text(r, task) for task in tasks),
                *([WARNED if r.warned else ""] if warned else []),
            ]
            for r in front
        ]
        meaning = "no other variant of the model has more output tokens/s and a shorter TTFT"
        heads = (f"{printable(t)} %" for t in tasks)
        columns = ("Variant", "Output tok/s", "TTFT ms", *heads, *["Remark"] * warned)
        parts.append(f"Pareto front ({meaning})\n\n{plain_table(columns, table)}")
    wrong = [row for row in rows if row.status == "WRONG_ANSWERS"]
    failed = [row for row in rows if row.status not in MEASURED]
    for title, those in (("Wrong answers", wrong), ("Not measured", failed)):
        if those:
            lines = (f"{row_title(r)}: {r.status}: {printable(r.diagnosis)}" for r in those)
            parts.append(f"{title}, and why\n\n" + "\n".join(lines))
    if doubts := [f"{row_title(r)}: {printable(r.warned)}" for r in rows if r.warned]:
        parts.append("Warned by the deploy's probes, and why\n\n" + "\n".join(doubts))
    return "\n\n".join(parts) + "\n"


def by_throughput(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows by throughput, highest first; after them, in order, those without a figure or with
    wrong answers."""
    return sorted(rows, key=lambda r: -_ranked(r, r.output_throughput) or 1.0)


def by_ttft(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows by TTFT, lowest first; after them, in order, those without a figure or with wrong
    answers."""
    return sorted(rows, key=lambda r: _ranked(r, r.ttft_ms) or float("inf"))


def _ranked(row: CaseRow, figure: float | None) -> float:
    """A figure as it is ranked by; 0: it isn't, since fast wrong answers are no result."""
    return figure or 0.0 if row.status != "WRONG_ANSWERS" else 0.0


def _ranking(figures: Sequence[tuple[CaseRow, float | None]]) -> str:
    table = [
        (
            f"{place}." if _ranked(row, figure) else "-",
            row_title(row),
            digits(figure),
            "  wrong answers"
            if row.status == "WRONG_ANSWERS"
            else f"  {WARNED}"
            if row.warned
            else "",
        )
        for place, (row, figure) in enumerate(figures, start=1)
    ]
    width = max((len(title) for _, title, *_ in table), default=0)
    return "\n".join(f"{a:>4}  {b.ljust(width)}  {c:>10}{d}" for a, b, c, d in table)


def rows_frame(rows: Sequence[CaseRow]) -> pd.DataFrame:
    """All rows, with the columns of results.csv."""
    import pandas as pd

    return pd.DataFrame([{name: getattr(row, name) for name in COLUMNS} for row in rows])


def variant_matrix(rows: Sequence[CaseRow]) -> str:
    """Output tokens/s, with a line per variant and a column per model; "-": no figure."""
    frame = rows_frame(rows)
    table = frame.pivot(index="variant", columns="model_short", values="output_throughput")
    variants = list(dict.fromkeys(row.variant for row in rows))
    models = list(dict.fromkeys(row.model_short for row in rows))
    text = table.reindex(index=variants, columns=models).astype(float).map(digits)
    text.index.name = text.columns.name = None
    return printable(str(text.to_string()), lines=True)
