"""Throughput and latencies against the load, with the knee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from spark_bench.formats import digits
from spark_bench.report.charts.lines import Curve, Point, plot
from spark_bench.report.charts.scales import Axis, fitting, loads
from spark_bench.report.charts.svg import Chart, Legend, drawn
from spark_bench.report.charts.theme import NARROW, WIDE, sign
from spark_bench.report.curves import Family, Series
from spark_bench.report.table import Cell, Column, Table, numbers

_LOADS = {"concurrency": "requests in flight", "request_rate": "requests a second"}
_CHARTS = (
    ("Output throughput", "tokens/s", (("output_throughput", ""),)),
    ("Time to first token", "ms", (("median_ttft_ms", "median"), ("p99_ttft_ms", "p99"))),
    ("Inter-token latency", "ms", (("median_itl_ms", "median"), ("p99_itl_ms", "p99"))),
    (
        "Whole answer",
        "ms",
        (("median_e2e_latency_ms", "median"), ("p99_e2e_latency_ms", "p99")),
    ),
)


def charts(family: Family, indices: Mapping[str, int]) -> Iterator[Chart]:
    """One for throughput, one each for TTFT, ITL and E2E; indices: the colours, by label."""
    x = loads((load for series in family.series for load in series.loads), _LOADS[family.over])
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
    curves: Sequence[Curve],
    x: Axis,
) -> Chart:
    y = fitting(point.y for curve in curves for point in curve.points)
    statistics = [statistic for _, statistic in figures if statistic]
    told = f"{unit}, {' (line) and '.join(statistics)} (dashed)" if statistics else unit
    said = "; ".join(_sentence(curve, x, unit) for curve in curves if curve.name)
    alt = f"{title} by {x.title}. {said}."
    return Chart(
        title=title,
        subtitle=told,
        alt=alt,
        svg=drawn(lambda layout: plot(curves, x, y, layout), alt, WIDE, NARROW),
        table=_table(family, title, unit, figures),
        legend=tuple(
            Legend(curve.name, curve.index, sign(curve.index)) for curve in curves if curve.name
        ),
    )


def _curve(series: Series, name: str, statistic: str, unit: str, index: int, second: bool) -> Curve:
    points = tuple(
        Point(load, value, f"{series.label}, load {load:g}: {statistic} {digits(value, unit)}")
        for load, named in zip(series.loads, series.runs, strict=True)
        if (value := named.run.value(name)) is not None
    )
    at_knee = [point for point in points if point.x == series.knee and not second]
    mark = Point(at_knee[0].x, at_knee[0].y, f"knee {series.knee:g}") if at_knee else None
    return Curve("" if second else series.label, index, points, dashed=second, mark=mark)


def _sentence(curve: Curve, x: Axis, unit: str) -> str:
    first, last = curve.points[0], curve.points[-1]
    at_knee = f", {curve.mark.title}" if curve.mark else ""
    return (
        f"{curve.name}: {digits(first.y, unit)} at {first.x:g}, {digits(last.y, unit)} at "
        f"{last.x:g}{at_knee}"
    )


def _table(family: Family, title: str, unit: str, figures: Sequence[tuple[str, str]]) -> Table:
    rows = [
        (series, load, named)
        for series in family.series
        for load, named in zip(series.loads, series.runs, strict=True)
    ]
    columns = [numbers([named.run.value(name) for _, _, named in rows]) for name, _ in figures]
    return Table(
        f"{title} by {_LOADS[family.over]}",
        (
            Column("Model", numeric=False),
            Column("Load"),
            *(Column(statistic or "Output", unit) for _, statistic in figures),
            Column("", numeric=False),
        ),
        tuple(
            (
                Cell(series.label),
                Cell(f"{load:g}", load),
                *(column[index] for column in columns),
                Cell("knee" if load == series.knee else ""),
            )
            for index, (series, load, _) in enumerate(rows)
        ),
    )
