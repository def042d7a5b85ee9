"""The page's charts: which ones, of which runs, with which text."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from spark_bench.history.history_tables import find_trend
from spark_bench.report import figure_tables, named_runs
from spark_bench.report.charts import distributions, load_curves, pareto, svg
from spark_bench.report.charts.over_time import read_timeline, timeline_chart, trend_chart

# More curves in a chart, or charts on a page, are unreadable.
MOST_CURVES = 8
MOST_FAMILIES = 3
# Points that make a trend.
LEAST_TREND = 3


class Section(Struct, frozen=True):
    """Charts of one kind; lead: what they show; note: what is omitted."""

    id: str
    title: str
    lead: str
    charts: tuple[svg.Chart, ...]
    note: str = ""


def build_sections(
    runs: Sequence[named_runs.NamedRun],
    leaders: Sequence[named_runs.NamedRun],
    chosen: named_runs.NamedRun | None,
    indices: Mapping[str, int],
) -> Iterator[Section]:
    """Sections in page order; chosen: the run whose timeline is shown; indices: colors by label."""
    yield from _load_sections(load_curves.families(runs), indices)
    if dots := pareto.pareto_front(runs):
        lead = "Up is more throughput, left is a faster first token. No run beats the line in both."
        yield Section("pareto", "Pareto front", lead, (pareto.pareto_chart(dots, indices),))
    yield from _distributions(runs, leaders, indices)
    if chosen and (over_time := read_timeline(chosen)).panels:
        lead = "What the server and its nodes reported during the run."
        yield Section("timeline", "Timeline of one run", lead, (timeline_chart(over_time),))
    trend = find_trend([named.run.entry for named in runs], "output_throughput")
    if trend and len(trend.points) >= LEAST_TREND:
        label = next(n.label for n in runs if n.run.entry.id == trend.points[-1].id)
        lead = "Runs of one model with the same load and number of nodes."
        charts = (trend_chart(trend, label, of_few([label], indices)[label]),)
        yield Section("trend", "Trend", lead, charts)


def label_colors(runs: Sequence[named_runs.NamedRun]) -> dict[str, int]:
    """A color index per label, fastest first; the same across the page."""
    ordered = sorted(runs, key=figure_tables.rank_key, reverse=True)
    return {label: index for index, label in enumerate(dict.fromkeys(n.label for n in ordered))}


def of_few(labels: Sequence[str], indices: Mapping[str, int]) -> Mapping[str, int]:
    """The page's colors; if one of these labels has none, colors for these alone."""
    if all(indices.get(label, svg.COLORS) < svg.COLORS for label in labels):
        return indices
    return {label: index for index, label in enumerate(labels)}


def _load_sections(
    kinds: Sequence[load_curves.Family], indices: Mapping[str, int]
) -> Iterator[Section]:
    for number, family in enumerate(kinds[:MOST_FAMILIES], start=1):
        ordered = sorted(family.series, key=lambda series: indices[series.label])
        curves = [series for series in ordered if len(series.loads) > 1][:MOST_CURVES]
        drawn = load_curves.Family(family.over, family.words, tuple(curves))
        knees = [
            f"{each.label} {each.knee:g}"
            + (f" ({each.within[0]:g} to {each.within[-1]:g})" if each.within else "")
            for each in drawn.series
            if each.knee is not None
        ]
        knee = "beyond the knee, latency grows faster than throughput"
        notes = []
        if left_out := len(family.series) - len(drawn.series):
            notes.append(f"Not drawn: {left_out} measured at a single load, or slower.")
        if older := sum(series.older for series in drawn.series):
            notes.append(
                f"Of runs at the same load the newest is drawn ({older} older ones omitted)."
            )
        if number == MOST_FAMILIES and len(kinds) > MOST_FAMILIES:
            notes.append(
                f"{len(kinds) - MOST_FAMILIES} more kinds of load are in the table of all runs."
            )
        yield Section(
            f"load-{number}",
            "Latency against load",
            f"{family.words}. "
            + (f"Knee: {', '.join(knees)}; {knee}." if knees else "No knee yet."),
            tuple(
                load_curves.load_charts(
                    drawn, of_few([each.label for each in drawn.series], indices)
                )
            ),
            " ".join(notes),
        )


def _distributions(
    runs: Sequence[named_runs.NamedRun],
    leaders: Sequence[named_runs.NamedRun],
    indices: Mapping[str, int],
) -> Iterator[Section]:
    """The best runs of several models, or the runs of one."""
    drawn = [named for named in leaders if named.run.measured and named.run.distributions]
    names = {named.label: named for named in drawn[:MOST_CURVES]}
    several = len(names) > 1
    if not several:
        every = [each for each in runs if each.run.measured and each.run.distributions]
        picked = every[:: -(-len(every) // MOST_CURVES) or 1]
        names = {f"#{each.number} {each.run.entry.load}": each for each in picked}
    charts = tuple(
        distributions.distribution_charts(list(names.items()), of_few(list(names), indices))
    )
    if charts:
        lead = "The best run of each model." if several else f"Runs of {leaders[0].model}."
        note = f"{len(names)} of {len(runs)} runs are drawn." if len(names) < len(runs) else ""
        yield Section("distributions", "Distributions", lead, charts, note)
