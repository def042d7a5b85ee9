"""Curves over one plot, each named at its end."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.report.charts.scales import Axis, spread_labels
from spark_bench.report.charts.theme import DASH, FONT, GROUND, INK, Layout, Spec, color, dot_shape

_LABEL_GAP = 15
_LONGEST_LABEL = 17


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
    layers: list[Spec] = []
    for curve in curves:
        layers.append(_line(curve))
        layers.extend(_dots(curve))
    marked: list[Point] = []
    for mark in filter(None, (curve.mark for curve in curves)):
        layers.append(_ring(mark))
        if not any(_near(mark, other, y, layout) for other in marked):
            layers.extend(_word(mark))
            marked.append(mark)
    if layout.labels:
        layers.append(_names(curves, y, layout))
    first = {"x": _channel("x", x), "y": _channel("y", y)}
    layers[0]["encoding"] |= first
    return {"width": layout.width, "height": layout.height, "layer": layers}


def shortened(name: str, most: int = _LONGEST_LABEL) -> str:
    """Shorten in the middle, since models' names differ at both ends.

    >>> shortened("Qwen2.5-72B-Instruct-AWQ")
    'Qwen2.5-…ruct-AWQ'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[-half:]}"


def _channel(field: str, axis: Axis | None = None) -> Spec:
    channel: Spec = {"field": field, "type": "quantitative"}
    if axis:
        channel |= {"scale": axis.scale(), "axis": axis.axis()}
    return channel


def _encoding() -> dict[str, Spec]:
    return {"x": _channel("x"), "y": _channel("y")}


def _values(points: Sequence[Point]) -> Spec:
    return {"values": [_value(point) for point in points]}


def _value(point: Point) -> dict[str, Any]:
    value: dict[str, Any] = {"x": _short(point.x), "y": _short(point.y)}
    return value | ({"t": point.title} if point.title else {})


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _line(curve: Curve) -> Spec:
    mark: Spec = {"type": "line", "stroke": color(curve.index), "strokeWidth": 2}
    mark |= {"strokeDash": list(DASH), "strokeWidth": 1.5} if curve.dashed else {}
    mark |= {"interpolate": "step-after"} if curve.step else {"strokeJoin": "round"}
    return {"data": _values(curve.points), "mark": mark, "encoding": _encoding()}


def _dots(curve: Curve) -> Iterator[Spec]:
    points = [point for point in curve.points if point.title]
    if points:
        mark = {
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
        yield {"data": _values(points), "mark": mark, "encoding": _encoding() | described}


def _near(one: Point, other: Point, y: Axis, layout: Layout) -> bool:
    """Whether they have the same label and are so close that the labels would overlap."""
    apart = layout.height * abs(y.share(one.y) - y.share(other.y))
    return one.title == other.title and apart < _LABEL_GAP


def _ring(mark: Point) -> Spec:
    ring = {"type": "point", "size": 190, "filled": False, "opacity": 1}
    return {
        "data": _values([mark]),
        "mark": ring | {"stroke": INK, "strokeWidth": 1.5},
        "encoding": _encoding(),
    }


def _word(mark: Point) -> Iterator[Spec]:
    """The label's halo, so that lines do not cross it, then the label."""
    text = {"type": "text", "dy": -16, "fontSize": FONT, "fontWeight": 600, "fill": INK}
    halo = {"stroke": GROUND, "strokeWidth": 3, "strokeJoin": "round"}
    for style in (text | halo, text):
        encoding = _encoding() | {"text": {"field": "t"}}
        yield {"data": _values([mark]), "mark": style, "encoding": encoding}


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
