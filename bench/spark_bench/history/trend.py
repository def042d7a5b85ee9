"""A figure of one model under one load over time, and its plot for a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from statistics import median

from msgspec import Struct

from spark_bench.formats import digits
from spark_bench.history import database, history_tables
from spark_bench.history.entry import HistoryEntry


class TrendPoint(Struct, frozen=True):
    """A run's figure; low, high: its confidence interval, if there is one."""

    id: str
    when: datetime
    value: float
    low: float | None = None
    high: float | None = None


class Trend(Struct, frozen=True):
    """The figures of runs that can be compared, oldest first.

    left_out: results that are partial, lack the figure, or differ in model, load or nodes
    """

    metric: str
    model: str
    load: str
    nodes: int | None
    points: tuple[TrendPoint, ...]
    left_out: int = 0

    @property
    def change(self) -> float | None:
        """The last value relative to the median of those before, less 1; None if there are none."""
        before = [point.value for point in self.points[:-1]]
        if not before or not (middle := median(before)):
            return None
        return self.points[-1].value / middle - 1


def find_trend(
    entries: Iterable[HistoryEntry], metric: str, like: HistoryEntry | None = None
) -> Trend | None:
    """The trend of a figure over these results; None if none of them has it.

    metric: a key of their `figures`
    like: which model, load and number of nodes; None: those of the newest that has the figure
    """
    candidates = list(entries)
    whole = [e for e in candidates if metric in e.figures and e.status == "complete"]
    whole.sort(key=lambda entry: (entry.created, entry.id))
    like = like or (whole[-1] if whole else None)
    if like is None:
        return None
    points = []
    for entry in whole:
        if (entry.model, entry.load, entry.nodes) == (like.model, like.load, like.nodes):
            figure = entry.figures[metric]
            point = TrendPoint(entry.id, entry.when, figure.value, figure.low, figure.high)
            points.append(point)
    left_out = len(candidates) - len(points)
    return Trend(metric, like.model, like.load, like.nodes, tuple(points), left_out)


WIDTH = 80
HEIGHT = 16
# Times below the plot: as many as fit.
TICKS = 5


def trend_lines(trend: Trend, width: int = WIDTH) -> Iterator[str]:
    """A title, the plot if there are two points or more, and every value. No color."""
    on = f" on {trend.nodes} node{'s' if trend.nodes != 1 else ''}" if trend.nodes else ""
    yield f"{trend.metric} of {history_tables.short_model(trend.model)}{on}, {trend.load}"
    if len(trend.points) > 1:
        yield ""
        yield from draw_points(trend.points, width)
    yield ""
    yield from (point_line(point) for point in trend.points)
    if trend.change is not None:
        before = len(trend.points) - 1
        yield f"the last is {trend.change:+.1%} from the median of the previous {before}"


def point_line(point: TrendPoint) -> str:
    """A point as a line: time, id, value with its interval."""
    within = ""
    if point.low is not None and point.high is not None:
        within = f"  [{digits(point.low)}, {digits(point.high)}]"
    when = f"{point.when.astimezone():%Y-%m-%d %H:%M}"
    return f"{when}  {database.short_id(point.id)}  {digits(point.value)}{within}"


def draw_points(
    points: Sequence[TrendPoint], width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """Plot the values over time, a dot per run; width in columns, height in lines."""
    import plotext  # type: ignore[import-untyped]

    times = [point.when.timestamp() for point in points]
    values = [point.value for point in points]
    # Evenly spaced times: days, or hours and minutes within two days.
    first, span = points[0].when, points[-1].when - points[0].when
    form = "%m-%d" if span > timedelta(days=2) else "%d. %H:%M"
    ticks = [first + span * step / (TICKS - 1) for step in range(TICKS)]
    labels = [f"{tick.astimezone():{form}}" for tick in ticks]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.draw(figure.signal(times, values, marker="braille").lines())
    figure.draw(figure.signal(times, values, marker="●"))
    figure.ruler("x").ticks([tick.timestamp() for tick in ticks], labels)
    text: str = plotext.uncolorize(figure.build().string())
    figure.clear()
    return [line.rstrip() for line in text.splitlines()]
