"""One figure of one model under one load, over time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from statistics import median

from msgspec import Struct

from spark_bench.history.entry import Entry


class Point(Struct, frozen=True):
    """A run's figure; low, high: its confidence interval, where there is one."""

    id: str
    when: datetime
    value: float
    low: float | None = None
    high: float | None = None


class Trend(Struct, frozen=True):
    """The points of runs that can be compared, the oldest first.

    left_out: results that are partial, lack the figure, or are of another model, load or number
        of nodes
    """

    metric: str
    model: str
    load: str
    nodes: int | None
    points: tuple[Point, ...]
    left_out: int = 0

    @property
    def change(self) -> float | None:
        """The last value against the median of those before, as a share of it; None without."""
        before = [point.value for point in self.points[:-1]]
        if not before or not (middle := median(before)):
            return None
        return self.points[-1].value / middle - 1


def trend(entries: Iterable[Entry], metric: str, like: Entry | None = None) -> Trend | None:
    """The trend of a figure among these results; None where none of them has it.

    metric: a key of their `figures`
    like: of which model, load and number of nodes; None: those of the newest that has the figure
    """
    known = list(entries)
    whole = [e for e in known if metric in e.figures and e.status == "complete"]
    whole.sort(key=lambda entry: (entry.created, entry.id))
    like = like or (whole[-1] if whole else None)
    if like is None:
        return None
    same = [entry for entry in whole if _alike(entry, like)]
    points = tuple(_point(entry, metric) for entry in same)
    return Trend(metric, like.model, like.load, like.nodes, points, len(known) - len(same))


def _alike(one: Entry, other: Entry) -> bool:
    return (one.model, one.load, one.nodes) == (other.model, other.load, other.nodes)


def _point(entry: Entry, metric: str) -> Point:
    figure = entry.figures[metric]
    return Point(entry.id, entry.when, figure.value, figure.low, figure.high)
