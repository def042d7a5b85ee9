"""Throughput and latencies against load, and which runs make one curve: those that differ in their
load, concurrency or rate, alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from spark_bench.formats import digits
from spark_bench.load.sweep import knee, knee_between
from spark_bench.report import named_runs, page_table
from spark_bench.report.charts import plot, svg
from spark_bench.results.config_schema import RunConfig

_LOADS = {"concurrency": "requests in flight", "request_rate": "requests per second"}
_CHARTS = (
    ("Output throughput", "tokens/s", (("output_throughput", ""),)),
    ("Time to first token", "ms", (("median_ttft_ms", "median"), ("p99_ttft_ms", "p99"))),
    ("Inter-token latency", "ms", (("median_itl_ms", "median"), ("p99_itl_ms", "p99"))),
    (
        "Whole response",
        "ms",
        (("median_e2e_latency_ms", "median"), ("p99_e2e_latency_ms", "p99")),
    ),
)


def load_charts(family: Family, indices: Mapping[str, int]) -> Iterator[svg.Chart]:
    """A chart for throughput, one each for TTFT, ITL and E2E; indices: colors by label."""
    x = plot.load_axis(
        (load for series in family.series for load in series.loads), _LOADS[family.over]
    )
    for title, unit, figures in _CHARTS:
        curves = tuple(
            curve
            for series in family.series
            for place, (name, statistic) in enumerate(figures)
            for curve in [_curve(series, name, statistic, unit, indices[series.label], place > 0)]
            if curve.points
        )
        if curves:
            yield _chart(family, title, unit, figures, curves, x)


def _chart(
    family: Family,
    title: str,
    unit: str,
    figures: Sequence[tuple[str, str]],
    curves: Sequence[plot.Curve],
    x: plot.Axis,
) -> svg.Chart:
    y = plot.fitting_axis(point.y for curve in curves for point in curve.points)
    statistics = [statistic for _, statistic in figures if statistic]
    subtitle = f"{unit}, {' (line) and '.join(statistics)} (dashed)" if statistics else unit
    named = [curve for curve in curves if curve.name]
    sentences = []
    for curve in named:
        first, last = curve.points[0], curve.points[-1]
        at_knee = f", {curve.mark.title}" if curve.mark else ""
        start = f"{curve.name}: {digits(first.y, unit)} at {first.x:g}"
        sentences.append(f"{start}, {digits(last.y, unit)} at {last.x:g}{at_knee}")
    alt = f"{title} by {x.title}. {'; '.join(sentences)}."
    return svg.Chart(
        title=title,
        subtitle=subtitle,
        alt=alt,
        svg=svg.draw_chart(
            lambda layout: plot.plot_curves(curves, x, y, layout), alt, svg.WIDE, svg.NARROW
        ),
        table=_table(family, title, unit, figures),
        legend=tuple(svg.Legend(each.name, each.index, svg.dot_sign(each.index)) for each in named),
    )


def _curve(
    series: Series, name: str, statistic: str, unit: str, index: int, second: bool
) -> plot.Curve:
    points = tuple(
        plot.Point(load, value, f"{series.label}, load {load:g}: {statistic} {digits(value, unit)}")
        for load, named in zip(series.loads, series.runs, strict=True)
        if (value := named.run.value(name)) is not None
    )
    at_knee = [point for point in points if point.x == series.knee and not second]
    mark = plot.Point(at_knee[0].x, at_knee[0].y, f"knee {series.knee:g}") if at_knee else None
    return plot.Curve("" if second else series.label, index, points, dashed=second, mark=mark)


def _table(
    family: Family, title: str, unit: str, figures: Sequence[tuple[str, str]]
) -> page_table.Table:
    rows = [
        (series, load, named)
        for series in family.series
        for load, named in zip(series.loads, series.runs, strict=True)
    ]
    columns = [
        page_table.number_cells([named.run.value(name) for _, _, named in rows])
        for name, _ in figures
    ]
    return page_table.Table(
        f"{title} by {_LOADS[family.over]}",
        (
            page_table.Column("Model", numeric=False),
            page_table.Column("Load"),
            *(page_table.Column(statistic or "Output", unit) for _, statistic in figures),
            page_table.Column("", numeric=False),
        ),
        tuple(
            (
                page_table.Cell(series.label),
                page_table.Cell(f"{load:g}", load),
                *(column[index] for column in columns),
                page_table.Cell("knee" if load == series.knee else ""),
            )
            for index, (series, load, _) in enumerate(rows)
        ),
    )


Over = Literal["concurrency", "request_rate"]

# What a sweep changes along with the load, and what identifies the server rather than the load.
_FREE = (
    "command",
    "overrides",
    "repeat",
    "num_prompts",
    "duration",
    "timeout",
    "warmup",
    "ramp",
    "seed",
    "profile",
    "slo",
    "url",
    "model",
)


class Series(Struct, frozen=True):
    """The runs of one model and variant by load; knee: the load at its knee, None if there is none;
    within: the lowest and the highest at which it may be, by the bounds of the figures, if several.

    Of several runs at one load it contains the newest; `older` counts the others.
    """

    label: str
    loads: tuple[float, ...]
    runs: tuple[named_runs.NamedRun, ...]
    knee: float | None
    older: int = 0
    within: tuple[float, ...] = ()


class Family(Struct, frozen=True):
    """Series that fit in one chart: their prompts and responses are alike."""

    over: Over
    words: str
    series: tuple[Series, ...]

    @property
    def points(self) -> int:
        return sum(len(each.loads) for each in self.series)


def families(runs: Iterable[named_runs.NamedRun]) -> tuple[Family, ...]:
    """Families with at least one curve of two loads, most points first."""
    by_load: dict[tuple[Over, str], list[named_runs.NamedRun]] = defaultdict(list)
    for named in runs:
        config = named.run.config
        if not named.run.measured or named.run.entry.status != "complete":
            continue
        if config.concurrency is not None:
            by_load["concurrency", _rest(config, "concurrency")].append(named)
        if config.request_rate is not None:
            by_load["request_rate", _rest(config, "request_rate")].append(named)
    kinds = [build_family(over, members) for (over, _), members in by_load.items()]
    drawn = [each for each in kinds if any(len(series.loads) > 1 for series in each.series)]
    return tuple(sorted(drawn, key=lambda each: -each.points))


def build_family(over: Over, members: Sequence[named_runs.NamedRun]) -> Family:
    """A family from runs of one kind of load."""
    by_label: dict[str, list[named_runs.NamedRun]] = defaultdict(list)
    for named in members:
        by_label[named.label].append(named)
    series = []
    for label, same in by_label.items():
        newest = {
            curve_load(named, over): named for named in sorted(same, key=lambda n: n.run.entry.id)
        }
        loads = tuple(sorted(newest))
        runs = tuple(newest[load] for load in loads)
        points = [named.run.at(load) for load, named in zip(loads, runs, strict=True)]
        at_knee, within = knee(points), knee_between(points)
        value = at_knee.value if at_knee else None
        several = (within[0], within[-1]) if len(within) > 1 else ()
        series.append(Series(label, loads, runs, value, len(same) - len(runs), several))
    return Family(over, _curve_words(members[0].run.config, over), tuple(series))


def curve_load(named: named_runs.NamedRun, over: Over) -> float:
    """Requests in flight, or requests per second."""
    return float(getattr(named.run.config, over))


def _rest(config: RunConfig, over: Over) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(config)
    rest = {key: value for key, value in fields.items() if key not in (*_FREE, over)}
    return msgspec.json.encode(rest, order="sorted").decode()


def _curve_words(config: RunConfig, over: Over) -> str:
    lengths = " / ".join(
        "varying" if tokens is None else f"{tokens:,}"
        for tokens in (config.input_len, config.output_len)
    )
    words = [f"{lengths} tokens in / out", config.endpoint]
    if over == "concurrency" and config.request_rate is not None:
        words.append(f"{config.request_rate:g} requests/s")
    if over == "request_rate" and config.concurrency is not None:
        words.append(f"at most {config.concurrency} in flight")
    if config.conversations.turns > 1:
        words.append(f"{config.conversations.turns} turns")
    if config.conversations.shared_prefix:
        words.append(f"{config.conversations.shared_prefix} tokens of shared prefix")
    if config.cache == "hit":
        words.append("cached prompts")
    if config.dataset:
        words.append(f"{config.dataset.format} {config.dataset.file}")
    return ", ".join(words)
