"""A plot: its axes with their ticks, the curves, each named at its end, and the marked points."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.report.charts.svg import DASH, FONT, GROUND, INK, Layout, Spec, color, dot_shape

_LABEL_GAP = 15
_LONGEST_LABEL = 17
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
            extent = gap * (len(groups[-1]) - 1)
            centre = sum(wanted[each] for each in groups[-1]) / len(groups[-1])
            starts[-1] = min(max(centre - extent / 2, low), max(low, high - extent))
    places = dict.fromkeys(range(len(wanted)), 0.0)
    for start, group in zip(starts, groups, strict=True):
        places |= {index: start + gap * place for place, index in enumerate(group)}
    return [places[index] for index in range(len(wanted))]


class Point(Struct, frozen=True):
    """title: what it is, shown on hover; "" draws no dot."""

    x: float
    y: float
    title: str = ""


class Curve(Struct, frozen=True):
    """index: of its color; name: "" if another curve names the color; mark: the point of the knee,
    with its label."""

    name: str
    index: int
    points: tuple[Point, ...]
    dashed: bool = False
    mark: Point | None = None
    step: bool = False


def plot_curves(curves: Sequence[Curve], x: Axis, y: Axis, layout: Layout) -> Spec:
    """A plot; points outside the axes are drawn at their edge."""
    layers = [layer for curve in curves for layer in _line_and_dots(curve)]
    layers += _marks([curve.mark for curve in curves if curve.mark], y, layout)
    if layout.labels:
        layers.append(_names(curves, y, layout))
    for name, axis in (("x", x), ("y", y)):
        layers[0]["encoding"][name] |= {"scale": axis.scale(), "axis": axis.axis()}
    return {"width": layout.width, "height": layout.height, "layer": layers}


def _line_and_dots(curve: Curve) -> Iterator[Spec]:
    line: Spec = {"type": "line", "stroke": color(curve.index), "strokeWidth": 2}
    line |= {"strokeDash": list(DASH), "strokeWidth": 1.5} if curve.dashed else {}
    line |= {"interpolate": "step-after"} if curve.step else {"strokeJoin": "round"}
    yield {"data": _values(curve.points), "mark": line, "encoding": _encoding()}
    points = [point for point in curve.points if point.title]
    if points:
        dot = {
            "type": "point",
            "shape": dot_shape(curve.index),
            "size": 30 if curve.dashed else 64,
            "filled": True,
            "fill": GROUND if curve.dashed else color(curve.index),
            "stroke": color(curve.index) if curve.dashed else GROUND,
            "strokeWidth": 1.25,
            "opacity": 1,
            "aria": True,
        }
        described = {"description": {"field": "t", "type": "nominal"}}
        yield {"data": _values(points), "mark": dot, "encoding": _encoding() | described}


def _marks(marks: Sequence[Point], y: Axis, layout: Layout) -> Iterator[Spec]:
    """A ring around each point, and its label unless the same one is so close that they would
    overlap."""
    ring = {"type": "point", "size": 190, "filled": False, "opacity": 1}
    ring |= {"stroke": INK, "strokeWidth": 1.5}
    text = {"type": "text", "dy": -16, "fontSize": FONT, "fontWeight": 600, "fill": INK}
    # Lines must not cross a label.
    halo = {"stroke": GROUND, "strokeWidth": 3, "strokeJoin": "round"}
    labeled: list[Point] = []
    for mark in marks:
        yield {"data": _values([mark]), "mark": ring, "encoding": _encoding()}
        if any(
            mark.title == other.title
            and layout.height * abs(y.share(mark.y) - y.share(other.y)) < _LABEL_GAP
            for other in labeled
        ):
            continue
        labeled.append(mark)
        for style in (text | halo, text):
            encoding = _encoding() | {"text": {"field": "t"}}
            yield {"data": _values([mark]), "mark": style, "encoding": encoding}


def _encoding() -> dict[str, Spec]:
    return {name: {"field": name, "type": "quantitative"} for name in ("x", "y")}


def _values(points: Sequence[Point]) -> Spec:
    values: list[dict[str, Any]] = []
    for point in points:
        values.append({name: float(f"{getattr(point, name):.6g}") for name in ("x", "y")})
        if point.title:
            values[-1]["t"] = point.title
    return {"values": values}


def _names(curves: Sequence[Curve], y: Axis, layout: Layout) -> Spec:
    """Curves' names at the right end, moved apart where they would overlap."""
    named = [curve for curve in curves if curve.name and curve.points]
    ends = [layout.height * (1 - y.share(curve.points[-1].y)) for curve in named]
    places = spread_labels(ends, _LABEL_GAP, 0, layout.height)
    values = [
        {"place": place, "name": shortened(curve.name), "fill": color(curve.index)}
        for curve, place in zip(named, places, strict=True)
    ]
    mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": FONT, "dx": 10}
    return {
        "data": {"values": values},
        "mark": mark | {"fontWeight": 500},
        "encoding": {
            "x": {"value": layout.width},
            "y": {"field": "place", "type": "quantitative", "scale": None},
            "text": {"field": "name"},
            "fill": {"field": "fill", "type": "nominal", "scale": None},
        },
    }


def shortened(name: str, most: int = _LONGEST_LABEL) -> str:
    """Shorten in the middle, since models' names differ at both ends.

    >>> shortened("Qwen2.5-72B-Instruct-AWQ")
    'Qwen2.5-…ruct-AWQ'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[-half:]}"
