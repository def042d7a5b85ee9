"""A trend, drawn for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from spark_bench.formats import digits
from spark_bench.history.ids import tail
from spark_bench.history.table import short
from spark_bench.history.trend import Point, Trend

WIDTH = 80
HEIGHT = 16
# Times below the plot: so many fit beside each other.
TICKS = 5


def lines(trend: Trend, width: int = WIDTH) -> Iterator[str]:
    """What it is, the plot where there are two points to draw, and every value. No colour."""
    on = f" on {trend.nodes} node{'s' if trend.nodes != 1 else ''}" if trend.nodes else ""
    yield f"{trend.metric} of {short(trend.model)}{on}, {trend.load}"
    if len(trend.points) > 1:
        yield ""
        yield from drawn(trend.points, width)
    yield ""
    yield from (value(point) for point in trend.points)
    if trend.change is not None:
        before = len(trend.points) - 1
        yield f"the last is {trend.change:+.1%} from the median of the {before} before"


def value(point: Point) -> str:
    """A point as a line: when, the value with its interval, the id."""
    within = ""
    if point.low is not None and point.high is not None:
        within = f"  [{digits(point.low)}, {digits(point.high)}]"
    return f"{_local(point.when):%Y-%m-%d %H:%M}  {tail(point.id)}  {digits(point.value)}{within}"


def drawn(points: Sequence[Point], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The values over time, so many columns wide and lines high; a dot a run."""
    import plotext  # type: ignore[import-untyped]

    times = [point.when.timestamp() for point in points]
    values = [point.value for point in points]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.draw(figure.signal(times, values, marker="braille").lines())
    figure.draw(figure.signal(times, values, marker="●"))
    figure.ruler("x").ticks(*_ticks(points[0].when, points[-1].when))
    text: str = plotext.uncolorize(figure.build().string())
    figure.clear()
    return [line.rstrip() for line in text.splitlines()]


def _ticks(first: datetime, last: datetime) -> tuple[list[float], list[str]]:
    """Evenly over the time, told by day, or by hour and minute within two days."""
    span = last - first
    form = "%m-%d" if span > timedelta(days=2) else "%d. %H:%M"
    at = [first + span * step / (TICKS - 1) for step in range(TICKS)]
    return [each.timestamp() for each in at], [f"{_local(each):{form}}" for each in at]


def _local(when: datetime) -> datetime:
    return when.astimezone()
