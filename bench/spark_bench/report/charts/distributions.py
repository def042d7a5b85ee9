"""Distributions of latencies: the share of requests, or tokens, within each duration."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from spark_bench.report.charts.lines import Curve, Point, plot_curves
from spark_bench.report.charts.scales import fitting_axis, percent_axis
from spark_bench.report.charts.svg import Chart, Legend, draw_chart
from spark_bench.report.charts.theme import NARROW, PLAIN
from spark_bench.report.named_runs import NamedRun
from spark_bench.report.page_table import Cell, Column, Table, number_cells

_KINDS = (
    ("ttft_ms", "Time to first token", "requests"),
    ("itl_ms", "Inter-token latency", "tokens"),
)
_QUANTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


def distribution_charts(
    runs: Sequence[tuple[str, NamedRun]], indices: Mapping[str, int]
) -> Iterator[Chart]:
    """A chart each for TTFT and ITL; runs: (name on the chart, run)."""
    for key, title, of in _KINDS:
        curves = tuple(
            Curve(name, indices[name], tuple(points))
            for name, named in runs
            if (points := list(_points(named, key)))
        )
        if curves:
            yield _chart(curves, key, title, of, runs)


def _chart(
    curves: Sequence[Curve], key: str, title: str, of: str, runs: Sequence[tuple[str, NamedRun]]
) -> Chart:
    x, y = (
        fitting_axis((point.x for curve in curves for point in curve.points), "ms"),
        percent_axis(),
    )
    table = _table(key, title, runs)
    sentences = "; ".join(
        f"{row[0].text}: half within {row[1].text} ms, 99% within {row[4].text} ms"
        for row in table.rows
    )
    alt = f"Distribution of the {title.lower()}. {sentences}."
    return Chart(
        title=title,
        subtitle=f"share of {of} within a time, %",
        alt=alt,
        svg=draw_chart(lambda layout: plot_curves(curves, x, y, layout), alt, PLAIN, NARROW),
        table=table,
        legend=tuple(Legend(curve.name, curve.index) for curve in curves),
        always=True,
    )


def _points(named: NamedRun, key: str) -> Iterator[Point]:
    distributions = named.run.distributions
    quantiles = getattr(distributions, key) if distributions else ()
    if distributions and quantiles:
        for percent_, value in zip(distributions.points, quantiles, strict=True):
            yield Point(value, percent_)


def _table(key: str, title: str, runs: Sequence[tuple[str, NamedRun]]) -> Table:
    rows = [
        (name, np.interp(_QUANTILES, distributions.points, values).tolist())
        for name, named in runs
        if (distributions := named.run.distributions) and (values := getattr(distributions, key))
    ]
    columns = [
        number_cells([values[place] for _, values in rows]) for place in range(len(_QUANTILES))
    ]
    heads = ("p50", "p90", "p95", "p99", "p99.9", "max")
    return Table(
        f"Quantiles of the {title.lower()}",
        (Column("Run", numeric=False), *(Column(head, "ms") for head in heads)),
        tuple(
            (Cell(name), *(column[index] for column in columns))
            for index, (name, _) in enumerate(rows)
        ),
    )
