"""The page's charts: which there are, of which runs, and what is said with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from spark_bench.history.trend import find_trend
from spark_bench.report.charts.distributions import distribution_charts
from spark_bench.report.charts.load_curves import Family, families, load_charts
from spark_bench.report.charts.over_time import read_timeline, timeline_chart, trend_chart
from spark_bench.report.charts.pareto import pareto_chart, pareto_front
from spark_bench.report.charts.svg import Chart
from spark_bench.report.charts.theme import COLORS
from spark_bench.report.figure_tables import rank_key
from spark_bench.report.named_runs import NamedRun

# More curves than this in a chart, or charts on a page, are no longer read.
MOST_CURVES = 8
MOST_FAMILIES = 3
# A trend of fewer is none.
LEAST_TREND = 3


class Section(Struct, frozen=True):
    """Charts of one kind; lead: what they show; note: what is left out."""

    id: str
    title: str
    lead: str
    charts: tuple[Chart, ...]
    note: str = ""


def build_sections(
    runs: Sequence[NamedRun],
    leaders: Sequence[NamedRun],
    chosen: NamedRun | None,
    indices: Mapping[str, int],
) -> Iterator[Section]:
    """In the page's order; chosen: the run whose timeline is shown; indices: colours by label."""
    yield from _load_sections(families(runs), indices)
    if dots := pareto_front(runs):
        lead = "Up is more throughput, left a faster first token. Nothing beats the line in both."
        yield Section("pareto", "Pareto front", lead, (pareto_chart(dots, indices),))
    yield from _distributions(runs, leaders, indices)
    if chosen and (found := read_timeline(chosen)).panels:
        lead = "What the server and its nodes told while the run lasted."
        yield Section("timeline", "Timeline of one run", lead, (timeline_chart(found),))
    found_trend = find_trend([named.run.entry for named in runs], "output_throughput")
    if found_trend and len(found_trend.points) >= LEAST_TREND:
        label = next(n.label for n in runs if n.run.entry.id == found_trend.points[-1].id)
        lead = "Runs of one model, load and number of nodes."
        charts = (trend_chart(found_trend, label, of_few([label], indices)[label]),)
        yield Section("trend", "Trend", lead, charts)


def label_colors(runs: Sequence[NamedRun]) -> dict[str, int]:
    """A colour's index for each label, the fastest first; the same all over the page."""
    ordered = sorted(runs, key=rank_key, reverse=True)
    return {label: index for index, label in enumerate(dict.fromkeys(n.label for n in ordered))}


def of_few(labels: Sequence[str], indices: Mapping[str, int]) -> Mapping[str, int]:
    """The page's colours; but where one of few names has none there, colours for these alone."""
    if all(indices.get(label, COLORS) < COLORS for label in labels):
        return indices
    return {label: index for index, label in enumerate(labels)}


def _load_sections(found: Sequence[Family], indices: Mapping[str, int]) -> Iterator[Section]:
    for number, family in enumerate(found[:MOST_FAMILIES], start=1):
        drawn = _fewer(family, indices)
        told = [f"{each.label} {each.knee:g}" for each in drawn.series if each.knee is not None]
        knee = "more load than at the knee costs more latency than it gives throughput"
        notes = []
        if left_out := len(family.series) - len(drawn.series):
            notes.append(f"Not drawn: {left_out} measured at one load alone, or slower.")
        if older := sum(series.older for series in drawn.series):
            notes.append(f"Of runs at the same load the newest is drawn ({older} older left out).")
        if number == MOST_FAMILIES and len(found) > MOST_FAMILIES:
            notes.append(f"{len(found) - MOST_FAMILIES} more kinds of load are in the matrix only.")
        yield Section(
            f"load-{number}",
            "Latency against load",
            f"{family.words}. "
            + (f"Knee: {', '.join(told)}; {knee}." if told else "No knee was reached."),
            tuple(load_charts(drawn, of_few([each.label for each in drawn.series], indices))),
            " ".join(notes),
        )


def _fewer(family: Family, indices: Mapping[str, int]) -> Family:
    ordered = sorted(family.series, key=lambda series: indices[series.label])
    curves = [series for series in ordered if len(series.loads) > 1]
    return Family(family.over, family.words, tuple(curves[:MOST_CURVES]))


def _distributions(
    runs: Sequence[NamedRun], leaders: Sequence[NamedRun], indices: Mapping[str, int]
) -> Iterator[Section]:
    """Of the best runs of several models, or of the runs of one."""
    drawn = [named for named in leaders if named.run.measured and named.run.distributions]
    names = {named.label: named for named in drawn[:MOST_CURVES]}
    several = len(names) > 1
    if not several:
        every = [each for each in runs if each.run.measured and each.run.distributions]
        picked = every[:: -(-len(every) // MOST_CURVES) or 1]
        names = {f"#{each.number} {each.run.entry.load}": each for each in picked}
    charts = tuple(distribution_charts(list(names.items()), of_few(list(names), indices)))
    if charts:
        lead = "The best run of each model." if several else f"Runs of {leaders[0].model}."
        note = f"{len(names)} of {len(runs)} runs are drawn." if len(names) < len(runs) else ""
        yield Section("distributions", "Distributions", lead, charts, note)
