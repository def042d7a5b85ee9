"""Distributions of latencies: the share of requests, or tokens, within each duration."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from spark_bench.report import named_runs, page_table
from spark_bench.report.charts.plot import Curve, Point, fitting_axis, percent_axis, plot_curves
from spark_bench.report.charts.svg import NARROW, PLAIN, Chart, Legend, draw_chart

_KINDS = (
    ("ttft_ms", "Time to first token", "requests"),
    ("itl_ms", "Inter-token latency", "tokens"),
)
_QUANTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


def distribution_charts(
    runs: Sequence[tuple[str, named_runs.NamedRun]], indices: Mapping[str, int]
) -> Iterator[Chart]:
    """A chart each for TTFT and ITL; runs: (name on the chart, run)."""
    y = percent_axis()
    for key, title, of in _KINDS:
        curves = []
        for name, named in runs:
            distributions = named.run.distributions
            if distributions and (quantiles := getattr(distributions, key)):
                points = map(Point, quantiles, distributions.points)
                curves.append(Curve(name, indices[name], tuple(points)))
        if not curves:
            continue
        x = fitting_axis((point.x for curve in curves for point in curve.points), "ms")
        table = _table(key, title, runs)
        sentences = "; ".join(
            f"{row[0].text}: half within {row[1].text} ms, 99% within {row[4].text} ms"
            for row in table.rows
        )
        alt = f"Distribution of the {title.lower()}. {sentences}."
        plot = partial(plot_curves, curves, x, y)
        yield Chart(
            title=title,
            subtitle=f"share of {of} within a time, %",
            alt=alt,
            svg=draw_chart(plot, alt, PLAIN, NARROW),
            table=table,
            legend=tuple(Legend(curve.name, curve.index) for curve in curves),
            always=True,
        )


def _table(
    key: str, title: str, runs: Sequence[tuple[str, named_runs.NamedRun]]
) -> page_table.Table:
    rows = [
        (name, np.interp(_QUANTILES, distributions.points, values).tolist())
        for name, named in runs
        if (distributions := named.run.distributions) and (values := getattr(distributions, key))
    ]
    columns = [
        page_table.number_cells([values[place] for _, values in rows])
        for place in range(len(_QUANTILES))
    ]
    heads = ("p50", "p90", "p95", "p99", "p99.9", "max")
    return page_table.Table(
        f"Quantiles of the {title.lower()}",
        (
            page_table.Column("Run", numeric=False),
            *(page_table.Column(head, "ms") for head in heads),
        ),
        tuple(
            (page_table.Cell(name), *(column[index] for column in columns))
            for index, (name, _) in enumerate(rows)
        ),
    )
