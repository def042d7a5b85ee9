"""One figure of one model under one load, over time."""

from __future__ import annotations

from spark_bench.formats import digits
from spark_bench.history.trend import Trend
from spark_bench.report.charts.lines import Curve, Point, plot
from spark_bench.report.charts.scales import Axis, fitting
from spark_bench.report.charts.svg import Chart, drawn
from spark_bench.report.charts.theme import NARROW, PLAIN
from spark_bench.report.table import Cell, Column, Table, numbers

MOST_POINTS = 400


def chart(trend: Trend, label: str, index: int) -> Chart:
    """Of at least two points; only the newest are drawn where there are many."""
    points = trend.points[-MOST_POINTS:]
    values = numbers([point.value for point in points])
    change = (
        ""
        if trend.change is None
        else f"; the last is {trend.change:+.1%} off the median of those before"
    )
    alt = (
        f"Output throughput of {label} over {len(points)} runs: first {values[0].text}, last "
        f"{values[-1].text} tokens a second{change}."
    )
    curve = Curve(
        label,
        index,
        tuple(
            Point(
                place, point.value, f"{point.when:%Y-%m-%d %H:%M}: {digits(point.value, 'tok/s')}"
            )
            for place, point in enumerate(points, start=1)
        ),
    )
    every = -(-len(points) // 8)
    ticks = tuple(float(place) for place in range(1, len(points) + 1, every))
    x = Axis(1.0, float(len(points)), ticks, False, "runs, the newest last")
    y = fitting(point.value for point in points)
    return Chart(
        title=f"{label} over time",
        subtitle=f"output tokens/s, {trend.load}",
        alt=alt,
        svg=drawn(lambda layout: plot([curve], x, y, layout), alt, PLAIN, NARROW),
        table=Table(
            "The trend",
            (Column("Ended, UTC", numeric=False), Column("Output", "tok/s")),
            tuple(
                (Cell(f"{point.when:%Y-%m-%d %H:%M}"), cell)
                for point, cell in zip(points, values, strict=True)
            ),
        ),
        note=f"The newest {MOST_POINTS} of {len(trend.points)} runs."
        if len(points) < len(trend.points)
        else "",
    )
