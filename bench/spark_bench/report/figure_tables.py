"""Tables of figures: the best run of each model, every run, and a comparison with a baseline."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from spark_bench import errors, expectations, formats
from spark_bench.compare.comparison import METHOD, compare_runs
from spark_bench.compare.differences import Matrix
from spark_bench.display.result_lines import bound_text, wait_range
from spark_bench.expectations.published import FIGURES, measured_text, percent_text
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.queues import Queue
from spark_bench.report import named_runs, page_table
from spark_bench.report.gather import Unmeasured
from spark_bench.report.quality_section import score_cells, score_columns

_FIGURES = (
    ("Output", "tok/s", "output_throughput"),
    ("Requests", "1/s", "request_throughput"),
    ("TTFT p50", "ms", "median_ttft_ms"),
    ("TTFT p99", "ms", "p99_ttft_ms"),
    ("ITL p50", "ms", "median_itl_ms"),
    ("ITL p99", "ms", "p99_itl_ms"),
    ("E2E p50", "ms", "median_e2e_latency_ms"),
    ("Energy", "tok/J", "tokens_per_joule"),
)
_ROOFLINE_TONES: dict[str, page_table.Tone] = {
    "healthy": "good",
    "slow": "warn",
    "far below": "bad",
    "impossible": "bad",
}


def best_runs(runs: Iterable[named_runs.NamedRun]) -> tuple[named_runs.NamedRun, ...]:
    """The run with the most output tokens per second of each model, fastest model first.

    A failed or partial run, or one with wrong answers, represents only a model that has no other.
    """
    by_model: dict[str, list[named_runs.NamedRun]] = defaultdict(list)
    for named in runs:
        by_model[named.run.entry.model].append(named)
    return tuple(
        sorted((max(each, key=rank_key) for each in by_model.values()), key=rank_key)[::-1]
    )


def rank_key(named: named_runs.NamedRun) -> tuple[bool, bool, bool, float]:
    """A sort key: higher is better. Whatever has wrong answers is below all that has none."""
    run = named.run
    throughput = run.value("output_throughput") if run.measured else None
    complete = run.entry.status == "complete"
    return run.measured, not named.wrong, complete, throughput or 0.0


def headline_table(
    runs: Sequence[named_runs.NamedRun],
    rooflines: Sequence[expectations.Expectation],
    without: Sequence[Unmeasured] = (),
) -> page_table.Table:
    """A row per run, then one for each model or variant that could not be measured.

    rooflines: of the runs, in the same order; a column if any is known
    without: what could not be measured
    """
    judged = any(each.share is not None for each in rooflines)
    scored = score_columns(named.scores for named in runs)
    columns = (
        page_table.Column("Model", numeric=False),
        page_table.Column("Run", numeric=False),
        *_columns(runs),
        *scored,
        *((page_table.Column("Roofline", numeric=False),) if judged else ()),
        page_table.Column("Failed"),
    )
    figures = _figures(runs)
    rows = tuple(
        (
            _model_cell(named),
            page_table.Cell(
                f"#{named.number}", named.number, named.run.entry.load, f"#{named.anchor}"
            ),
            *figures[index],
            *score_cells(scored, named.scores, named.wrong),
            *((_roofline(rooflines[index]),) if judged else ()),
            failed_cell(named),
        )
        for index, named in enumerate(runs)
    )
    empty = tuple(
        (
            page_table.Cell(named_runs.short_model_name(each.model), detail=each.variant),
            page_table.Cell(each.status, href="#trust", tone="" if each.skipped else "bad"),
            *(page_table.NONE for _ in columns[2:]),
        )
        for each in without
    )
    return page_table.Table(
        "The best run of each model, by output tokens per second", columns, rows + empty
    )


def _model_cell(named: named_runs.NamedRun) -> page_table.Cell:
    """A run's model and variant, marked where the probes of its deploy doubt its answers."""
    if not named.warned:
        return page_table.Cell(named.model, detail=named.variant)
    detail = f"{named.variant}, warned" if named.variant else "warned"
    return page_table.Cell(named.model, detail=f"{detail} by the probes", tone="warn")


def all_runs_table(runs: Sequence[named_runs.NamedRun]) -> page_table.Table:
    """Every run, including failed ones, in order of time."""
    scored = score_columns(named.scores for named in runs)
    columns = (
        page_table.Column("Run"),
        page_table.Column("Model", numeric=False),
        page_table.Column("Load", numeric=False),
        *_columns(runs),
        *scored,
        page_table.Column("Failed"),
        page_table.Column("Client", numeric=False),
        page_table.Column("Ended", "UTC", numeric=False),
    )
    figures = _figures(runs)
    rows = tuple(
        (
            page_table.Cell(f"#{named.number}", named.number),
            _model_cell(named),
            page_table.Cell(
                entry.load, named.run.config.concurrency, detail=entry.profile + repeats
            ),
            *figures[index],
            *score_cells(scored, named.scores, named.wrong),
            failed_cell(named),
            client_cell(named),
            page_table.Cell(
                f"{entry.when:%Y-%m-%d}", entry.when.timestamp(), f"{entry.when:%H:%M}"
            ),
        )
        for index, named in enumerate(runs)
        for entry in [named.run.entry]
        for repeats in [f", {entry.repeats} repeats" if entry.repeats > 1 else ""]
    )
    return page_table.Table("All runs", columns, rows, tuple(named.anchor for named in runs))


def failed_cell(named: named_runs.NamedRun) -> page_table.Cell:
    """How many requests failed, of how many, and the kinds of failure."""
    entry, run = named.run.entry, named.run
    if not entry.failed:
        return page_table.Cell("0", 0.0)
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in sorted(run.failures.items(), key=lambda each: -each[1])
    )
    return page_table.Cell(f"{entry.failed:,} of {run.sent:,}", entry.failed, kinds, tone="bad")


def client_cell(named: named_runs.NamedRun) -> page_table.Cell:
    """The client's verdict on its own accuracy; marks a partial run."""
    entry = named.run.entry
    partial = "partial" if entry.status == "partial" else ""
    if entry.verdict == "exact":
        return page_table.Cell("exact", 0.0, partial, tone="warn" if partial else "")
    return page_table.Cell(entry.verdict, 1.0, partial, tone="warn")


def _columns(runs: Sequence[named_runs.NamedRun]) -> list[page_table.Column]:
    return [page_table.Column(head, unit) for head, unit, _ in _present(runs)]


def _figures(runs: Sequence[named_runs.NamedRun]) -> list[tuple[page_table.Cell, ...]]:
    """The cells of each run, with what is known of how far each figure may be off. The output
    throughput has its interval, too, over repeats or within the run, as "± half its width"."""
    columns = []
    for _, _, name in _present(runs):
        values = [n.run.value(name) if n.run.measured else None for n in runs]
        cells = page_table.number_cells(values)
        for index, named in enumerate(runs):
            figure, cell = named.run.entry.figures.get(name), cells[index]
            if cell.value is None or figure is None:
                continue
            details = []
            cell = _bounded(cell, name, named.run.bounds.get(name))
            if name == "output_throughput" and figure.low is not None and figure.high is not None:
                half = (figure.high - figure.low) / 2
                details.append(f"± {half:,.0f}" if half >= 10 else f"± {half:.2g}")
            details.append(cell.detail)
            cells[index] = replace(cell, detail=", ".join(filter(None, details)))
        columns.append(cells)
    return list(zip(*columns, strict=True))


def _bounded(cell: page_table.Cell, name: str, bound: Bound | None) -> page_table.Cell:
    """The cell of a figure, with how far it may be off where its decimals do not hold that."""
    places = len(cell.text.partition(".")[2])
    return replace(cell, detail=bound_text(name, cell.value, bound, places))


def _present(runs: Sequence[named_runs.NamedRun]) -> list[tuple[str, str, str]]:
    """Figures to show; energy only if some node reported its power."""
    return [
        each
        for each in _FIGURES
        if each[2] != "tokens_per_joule" or any(named.run.value(each[2]) for named in runs)
    ]


# What the share refers to where there is no verdict.
_UNJUDGED = {"bound": "of the bound", "beside": "of the estimate"}


def _roofline(expectation: expectations.Expectation) -> page_table.Cell:
    """The verdict, linked to its figures."""
    if expectation.share is None:
        return page_table.NONE
    if of := _UNJUDGED.get(expectation.verdict):
        return page_table.Cell(f"{expectation.share:.0%}", detail=of, href="#expectations")
    tone = _ROOFLINE_TONES.get(expectation.verdict, "")
    return page_table.Cell(expectation.verdict, href="#expectations", tone=tone)


def waits_table(runs: Sequence[named_runs.NamedRun]) -> page_table.Table | None:
    """How many requests each server ran at once, how long the others waited, and what prompts did
    to ITL; None if no run tells."""
    chosen = [named for named in runs if named.run.queue or named.run.prefills]
    if not chosen:
        return None
    queues = [named.run.queue for named in chosen]
    prompts = [named.run.prefills for named in chosen]

    def column(of: Sequence[object], name: str) -> list[page_table.Cell]:
        return page_table.number_cells([getattr(each, name, None) for each in of])

    waits, ttfts, p99s = (
        column(queues, "wait_ms"),
        column(queues, "ttft_ms"),
        column(prompts, "p99_itl_ms"),
    )
    for index, queue in enumerate(queues):
        if queue:
            waits[index] = replace(waits[index], detail=wait_range(queue))
            ttfts[index] = _bounded(ttfts[index], "mean_ttft_ms", queue.ttft_bounds or None)
        p99s[index] = _bounded(p99s[index], "p99_itl_ms", chosen[index].run.itl_bound)
    shares = [each.p99_share if each else None for each in prompts]
    columns = {
        ("Run", ""): [
            page_table.Cell(
                f"#{named.number}",
                named.number,
                f"{named.label} {named.run.entry.load}",
                f"#{named.anchor}",
            )
            for named in chosen
        ],
        ("In flight", ""): column(queues, "in_flight"),
        ("Emitted at once", ""): column(queues, "emitting"),
        ("Slots", ""): [_slots_cell(queue) for queue in queues],
        ("Queue", "ms"): waits,
        ("TTFT mean", "ms"): ttfts,
        ("Queue by its metrics", "ms"): column([each.run for each in chosen], "server_queue_ms"),
        ("ITL p99", "ms"): p99s,
        ("Without prompts", "ms"): column(prompts, "others_p99_itl_ms"),
        ("By prompts", ""): [
            page_table.NONE if share is None else page_table.Cell(f"{share:.0%}", share)
            for share in shares
        ],
    }
    heads = (page_table.Column(head, unit, numeric=head != "Run") for head, unit in columns)
    rows = tuple(zip(*columns.values(), strict=True))
    return page_table.Table("Queues and prompts, by the streams", tuple(heads), rows)


def _slots_cell(queue: Queue | None) -> page_table.Cell:
    """How many requests the server ran at once, and the fewest and the most that may be."""
    if queue is None:
        return page_table.NONE
    if queue.slots is None:
        none = queue.verdict == "none"
        return (
            page_table.Cell("no limit") if none else page_table.Cell("can't be told", tone="warn")
        )
    several = queue.slots_low != queue.slots_high
    between = f"{queue.slots_low} to {queue.slots_high}" if several else ""
    return page_table.Cell(str(queue.slots), queue.slots, between)


class PublishedComparison(Struct, frozen=True):
    """Runs beside the published figures whose loads they sent; notes: what limits the comparison,
    with the runs' numbers."""

    table: page_table.Table
    notes: tuple[str, ...]


def published_figures(runs: Sequence[named_runs.NamedRun]) -> PublishedComparison | None:
    """A row per run and figure, TPOT first; None if no run sent a published load."""
    rows, notes = [], dict[str, list[str]]()
    for named in runs:
        one = named.run.config.published
        for each in named.run.beside if one else ():
            if not one or each.share is None:
                notes.setdefault(each.text, []).append(f"#{named.number}")
                continue
            words, unit = FIGURES[each.metric]
            model = f"{one.models[0]} {one.variant}, {one.nodes} x {one.parallelism}"
            rows.append(
                (
                    page_table.Cell(f"#{named.number}", named.number, one.load, f"#{named.anchor}"),
                    page_table.Cell(words, detail=unit),
                    page_table.Cell(measured_text(each), each.measured),
                    page_table.Cell(f"{each.expected:,.6g}", each.expected),
                    page_table.Cell(percent_text(each), each.share),
                    page_table.Cell(one.evidence, detail=f"{model}, {one.source}"),
                )
            )
    columns = (
        page_table.Column("Run", numeric=False),
        page_table.Column("Figure", numeric=False),
        page_table.Column("Here"),
        page_table.Column("PublishedComparison"),
        page_table.Column("Difference"),
        page_table.Column("Published by", numeric=False),
    )
    if not rows and not notes:
        return None
    caption = "Runs beside the published figures whose load they sent"
    remarks = tuple(f"{', '.join(numbers)}: {text}" for text, numbers in notes.items())
    return PublishedComparison(page_table.Table(caption, columns, tuple(rows)), remarks)


_VERDICT_TONES: dict[str, page_table.Tone] = {"better": "good", "worse": "bad"}


class Baseline(Struct, frozen=True):
    """table: None if the groups can't be compared; notes say why."""

    table: page_table.Table | None
    notes: tuple[str, ...]


def compare_with_baseline(words: Sequence[str]) -> Baseline | None:
    """Compare the second group with the first; None unless there are exactly two."""
    if len(words) != 2:
        return None
    try:
        comparison = compare_runs(words)
    except (errors.BadInput, errors.BenchError) as error:
        return Baseline(None, (error.message,))
    matrix = comparison.matrix
    columns = (
        page_table.Column("Figure", numeric=False),
        page_table.Column(f"A: {words[0]}", f"{matrix.runs[0].repeats} repeats"),
        page_table.Column(f"B: {words[1]}", f"{matrix.runs[1].repeats} repeats"),
        page_table.Column("Change"),
        page_table.Column("95%"),
        page_table.Column("Verdict", numeric=False),
    )
    rows = tuple(_baseline_row(matrix, index, name) for index, name in enumerate(matrix.names))
    table = page_table.Table(f"{words[1]} compared with {words[0]}", columns, rows)
    return Baseline(table, (*comparison.notes, METHOD))


def _baseline_row(matrix: Matrix, index: int, name: str) -> tuple[page_table.Cell, ...]:
    verdict = matrix.verdict(index, 1)
    percent, low, high = (values[index, 1] for values in (matrix.percent, matrix.low, matrix.high))
    values = [None if np.isnan(value) else float(value) for value in matrix.values[index]]
    change = (
        page_table.NONE
        if np.isnan(percent)
        else page_table.Cell(f"{formats.with_sign(percent)}%", float(percent))
    )
    interval = (
        page_table.NONE
        if np.isnan(low)
        else page_table.Cell(f"{formats.with_sign(low)} to {formats.with_sign(high)}")
    )
    return (
        page_table.Cell(name),
        *page_table.number_cells(values),
        change,
        interval,
        page_table.Cell(verdict, tone=_VERDICT_TONES.get(verdict, "")),
    )
