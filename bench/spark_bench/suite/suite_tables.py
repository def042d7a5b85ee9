"""The rows of a suite, and what is made from them: results.csv, summary.txt, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from spark_bench.compare.scores import ScorePart, proven_losses, why_unusable
from spark_bench.formats import digits, duration, markdown_table
from spark_bench.printable import cell, markdown, printable
from spark_bench.results.suite_results import (
    COLUMNS,
    MEASURED,
    CaseRow,
    Status,
    SuiteResults,
)
from spark_bench.suite.plan import Case

if TYPE_CHECKING:
    import pandas as pd

    from spark_bench.metrics.figures import Summary
    from spark_bench.metrics.summary import Distributions
    from spark_bench.results.schema import Result

HEAD = ("Model", "Nodes", "TP", "Output tok/s", "TTFT ms", "ITL ms", "E2E ms")
PUBLISHED = ("model", "test", "t/s (total)", "t/s (req)", "ttfr (ms)", "e2e_ttft (ms)")
NOTE = (
    "t/s (req): of one request, mean ± standard deviation over {over}; t/s (total): all requests "
    "together; ttfr: to the first event, e2e_ttft: to the first token."
)
WARNED = "warned by the probes"
TextRows = Sequence[Sequence[str]]
MeanDeviation = tuple[float, float | None]


class CaseFailure(NamedTuple):
    """Why a case is not OK, in a few lines."""

    status: Status
    diagnosis: str


def case_row(
    case: Case, failure: CaseFailure | None, result: Result | None = None, **more: Any
) -> CaseRow:
    """The row of a case.

    failure: what went wrong; None: the case is OK, and there is a result
    more: further fields of CaseRow
    """
    fields: dict[str, Any] = {
        "model": case.model,
        "model_short": case.short,
        "nodes": case.nodes or None,
        "tp": case.tp or None,
        "pp": case.pp or None,
        "name": case.name,
        "variant": case.variant,
        "served_variant": case.served_variant,
        **dict.fromkeys(STREAMS),
        **more,
    }
    if result is not None:
        fields |= {
            "completed": result.summary.completed,
            "failed": result.summary.failed,
            "repeats": max(1, len(result.repeats)),
            "engine_version": result.provenance.server.version,
        }
        deployment = result.provenance.deployment
        if deployment and deployment.ranks:
            head, launch = deployment.ranks[0], deployment.launch
            fields |= {
                "nodes": len(deployment.ranks),
                "tp": launch.get("tp"),
                "pp": launch.get("pp"),
                "image": head.image,
                "engine_version": head.engine_version or fields["engine_version"],
                "revision": deployment.revision or None,
                "spec": head.spec,
            }
    if failure is None and result is not None:
        return CaseRow(**fields | _figures(result), status="OK")
    assert failure
    return CaseRow(**fields, status=failure.status, diagnosis=failure.diagnosis)


# What the streams show, in results.csv only if some row has it.
STREAMS = ("slots", "queue_ms", "prompts_p99_share")
# The figures of a row, and what a result calls them.
FIGURES = {
    "output_throughput": "output_throughput",
    "total_throughput": "total_throughput",
    "ttft_ms": "mean_ttft_ms",
    "itl_ms": "mean_itl_ms",
    "e2e_ms": "mean_e2e_latency_ms",
    "median_ttft_ms": "median_ttft_ms",
    "p99_ttft_ms": "p99_ttft_ms",
    "median_itl_ms": "median_itl_ms",
    "p99_itl_ms": "p99_itl_ms",
    "tpot_ms": "mean_tpot_ms",
    "p99_e2e_ms": "p99_e2e_latency_ms",
    "request_throughput": "request_throughput",
    "duration": "duration",
}


def _figures(result: Result) -> dict[str, Any]:
    interval, queue = result.intervals.get("output_throughput"), result.queue
    shares = [
        each.stalls.prefills.p99_share
        for each in result.repeats or (result,)
        if each.stalls and each.stalls.prefills
    ]
    values = [share for share in shares if share is not None]
    bounds = result.bounds or {}
    return {
        **{name: getattr(result.summary, key) for name, key in FIGURES.items()},
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "client": result.audit.verdict,
        "slots": UNSET if queue is UNSET else queue.slots,
        "queue_ms": UNSET if queue is UNSET else queue.wait_ms,
        "prompts_p99_share": UNSET if not shares else median(values) if values else None,
        "bounds": {
            **{
                name: (bounds[key].low, bounds[key].high)
                for name, key in FIGURES.items()
                if key in bounds
            },
            **({} if queue is UNSET else {"queue_ms": (queue.wait_low_ms, queue.wait_high_ms)}),
        }
        or UNSET,
    }


def mark_pareto(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows, with `pareto` set where the status is OK."""
    varied = any(row.variant for row in rows)
    figures = [
        (row.output_throughput, -row.ttft_ms, row.model if varied else "")
        if row.status == "OK" and row.output_throughput is not None and row.ttft_ms is not None
        else None
        for row in rows
    ]

    def is_dominated(mine: tuple[float, float, str]) -> bool:
        """Whether another row is at least as good in both figures and better in one."""
        return any(
            each and each != mine
            and each[0] >= mine[0] and each[1] >= mine[1] and each[2] == mine[2]
            for each in figures
        )  # fmt: skip

    return [
        replace(row, pareto=not is_dominated(mine) if mine else None)
        for row, mine in zip(rows, figures, strict=True)
    ]


def mark_wrong(
    rows: Sequence[CaseRow], answers: Mapping[tuple[str, str], ScorePart], loss: float
) -> list[CaseRow]:
    """The measured rows with the status that their answers give them, OK or WRONG_ANSWERS.

    answers: by the row's name and the task; loss: points that a variant may lose
    """
    measured = [row for row in rows if row.status in MEASURED and row.by_task]
    problems: dict[str, list[str]] = {}
    for (name, _), part in answers.items():
        if problem := why_unusable(part):
            problems.setdefault(name, []).append(problem)
    for model in dict.fromkeys(row.model for row in measured):
        same = {r.variant or r.name: r for r in measured if r.model == model}
        variants = {
            title: [answers[row.name, task] for task in row.by_task] for title, row in same.items()
        }
        for title, sentence in proven_losses(variants, loss).items():
            problems.setdefault(same[title].name, []).append(sentence)

    def judged(row: CaseRow) -> CaseRow:
        if row.status not in MEASURED or not row.by_task:
            return row
        wrong = problems.get(row.name, [])
        status: Status = "WRONG_ANSWERS" if wrong else "OK"
        return replace(row, status=status, diagnosis="; ".join(wrong))

    return [judged(row) for row in rows]


def score_tasks(rows: Sequence[CaseRow]) -> list[str]:
    """The tasks that any row has a score of."""
    return list(dict.fromkeys(task for row in rows for task in row.by_task))


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


# ---- Markdown, as owners of Sparks publish it
#
# The published rows have the form of llama-benchy 0.4.0: `pp` is the speed of reading a prompt,
# `tg` that of writing the answer, `(cN)` means N concurrent requests, `@ dN` after a prefix of N
# tokens that all prompts share.


def render_markdown(results: SuiteResults, folder: Path) -> str:
    """Markdown with the matrix, and the rows to publish for each case that is OK."""
    from spark_bench.results.codec import read_result

    pairs = [
        (row, read_result(folder / row.file))
        for row in results.results
        if row.status == "OK" and row.file
    ]
    matrix = [list(map(markdown, row)) for row in matrix_rows(results.results, bounded=True)]
    quality = [f"{results.quality}"] if results.quality else []
    parts = [f"{results.config}", *quality, markdown_table(matrix_head(results.results), matrix)]
    if pairs:
        table = [
            list(map(markdown, line))
            for row, result in pairs
            for line in published_rows(row, result)
        ]
        over = "repeats" if results.config.repeat > 1 else "requests"
        parts += [markdown_table(PUBLISHED, table, left=2), NOTE.format(over=over)]
    return "\n\n".join(parts) + "\n"


def published_rows(row: CaseRow, result: Result) -> Iterator[list[str]]:
    """Yield a row for reading prompts, and one for writing answers."""
    config, peak = result.config, result.summary.peak_concurrency
    summaries = [repeat.summary for repeat in result.repeats] or [result.summary]
    distributions = [r.distributions for r in result.repeats] or [result.distributions]
    at_once = f" (c{peak})" if peak > 1 else ""
    depth = config.conversations.shared_prefix
    test = (f" @ d{depth}" if depth else "") + at_once
    fresh = (config.input_len or 0) - depth
    prompt_rate = format_spread(_request_rate(distributions, "ttft_ms", fresh))
    yield [
        row_title(row),
        f"pp{fresh}{test}",
        "" if at_once else prompt_rate,
        prompt_rate,
        format_spread(_latency(summaries, "ttfc")),
        format_spread(_latency(summaries, "ttft")),
    ]
    yield [
        row_title(row),
        f"tg{config.output_len}{test}",
        format_spread(_mean_deviation([s.output_throughput for s in summaries])),
        format_spread(_request_rate(distributions, "tpot_ms", 1)),
        "",
        "",
    ]


def format_spread(spread: MeanDeviation | None) -> str:
    """ "12.34 ± 0.56", without the deviation if there is only one figure."""
    if spread is None:
        return ""
    mean, deviation = spread
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _request_rate(
    repeats: Sequence[Distributions | None], name: str, tokens: int
) -> MeanDeviation | None:
    """Tokens per second of a single request: `tokens` over its time `name`, with the deviation."""
    import numpy as np

    rates = []
    for repeat in repeats:
        if repeat is None:
            continue
        # Evenly spaced quantiles stand for the requests.
        pairs = zip(repeat.points, getattr(repeat, name), strict=False)
        times = np.array([time for point, time in pairs if (point * 2).is_integer()])
        times = times[times > 0]
        if times.size and tokens > 0:
            rates.append(tokens * 1000.0 / times)
    if len(rates) == 1:
        return float(rates[0].mean()), float(rates[0].std())
    return _mean_deviation([float(each.mean()) for each in rates])


def _latency(summaries: Sequence[Summary], name: str) -> MeanDeviation | None:
    means = [getattr(summary, f"mean_{name}_ms") for summary in summaries]
    if len(summaries) > 1 or means[0] is None:
        return _mean_deviation(means)
    return means[0], getattr(summaries[0], f"std_{name}_ms")


def _mean_deviation(figures: Sequence[float | None]) -> MeanDeviation | None:
    import numpy as np

    values = [value for value in figures if value is not None]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values)) if len(values) > 1 else None
