"""Axes: a domain and ticks for the values to show."""

import math
from collections.abc import Iterable

from msgspec import Struct

from spark_bench.report.charts.theme import Spec

# Above this ratio of largest to smallest, a linear axis hides the small values.
_LOG_FROM = 20


class Axis(Struct, frozen=True):
    """An axis from `low` to `high`; title: below it, with the unit."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool
    title: str = ""
    format: str = ",.3~r"

    def share(self, value: float) -> float:
        """A value's position along the axis, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def scale(self) -> Spec:
        kind = {"type": "log"} if self.log else {"type": "linear", "zero": False}
        return {**kind, "domain": [self.low, self.high], "nice": False}

    def axis(self) -> Spec:
        return {"values": list(self.ticks), "format": self.format, "title": self.title or None}


def fitting_axis(values: Iterable[float], title: str = "") -> Axis:
    """A logarithmic axis if the values span a wide range, else a linear one from 0."""
    finite = [value for value in values if math.isfinite(value)]
    above = [value for value in finite if value > 0]
    if above and len(above) == len(finite) and max(above) / min(above) > _LOG_FROM:
        return log_axis(above, title)
    return linear_axis(max(finite, default=1.0) or 1.0, title)


def linear_axis(largest: float, title: str = "") -> Axis:
    """A linear axis from 0 to a round number not below `largest`.

    >>> linear_axis(430).ticks
    (0.0, 100.0, 200.0, 300.0, 400.0, 500.0)
    """
    raw = largest / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(step * size for step in (1, 2, 2.5, 5, 10) if step * size >= raw * 0.9)
    count = math.ceil(round(largest / step, 6))
    return Axis(0.0, count * step, tuple(step * index for index in range(count + 1)), False, title)


def log_axis(values: Iterable[float], title: str = "") -> Axis:
    """A logarithmic axis between ticks around the values: 1, 2 and 5, fewer over many decades.

    >>> log_axis([30, 900]).ticks
    (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
    """
    positive = list(values)
    smallest, largest = min(positive), max(positive)
    decades = math.log10(largest / smallest)
    steps = (1, 2, 5) if decades < 2.2 else (1, 3) if decades <= 4 else (1,)
    first, last = math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1
    every = [float(step * 10.0**power) for power in range(first - 1, last + 1) for step in steps]
    low = max(tick for tick in every if tick <= smallest)
    high = min(tick for tick in every if tick >= largest and tick > low)
    return Axis(low, high, tuple(tick for tick in every if low <= tick <= high), True, title)


def load_axis(values: Iterable[float], title: str) -> Axis:
    """A logarithmic axis with ticks at the measured loads."""
    measured = sorted(set(values))
    if len(measured) == 1:
        return Axis(measured[0] / 2, measured[0] * 2, tuple(measured), True, title)
    margin = (measured[-1] / measured[0]) ** 0.03
    return Axis(measured[0] / margin, measured[-1] * margin, tuple(measured), True, title)


def percent_axis() -> Axis:
    """An axis of percentages with finer ticks at the tail."""
    return Axis(0.0, 100.0, (0, 25, 50, 75, 90, 100), False, format=",.0f")


def spread_labels(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions for labels, in the order given: as close to `wanted` as possible, `gap` apart.

    >>> spread_labels([50, 51, 10], 12, 0, 100)
    [44.5, 56.5, 10]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[list[int]] = []
    starts: list[float] = []
    for index in order:
        groups.append([index])
        starts.append(min(max(wanted[index], low), high))
        # Overlapping groups become one, centered on its members' wanted positions.
        while len(groups) > 1 and starts[-2] + gap * len(groups[-2]) > starts[-1]:
            last = groups.pop()
            starts.pop()
            groups[-1] += last
            starts[-1] = _start([wanted[each] for each in groups[-1]], gap, low, high)
    places = dict.fromkeys(range(len(wanted)), 0.0)
    for start, group in zip(starts, groups, strict=True):
        places |= {index: start + gap * place for place, index in enumerate(group)}
    return [places[index] for index in range(len(wanted))]


def _start(wanted: list[float], gap: float, low: float, high: float) -> float:
    extent = gap * (len(wanted) - 1)
    centre = sum(wanted) / len(wanted)
    return min(max(centre - extent / 2, low), max(low, high - extent))
