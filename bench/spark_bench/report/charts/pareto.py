"""Throughput against TTFT: the runs worth having are on the upper left edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spark_bench.formats import digits
from spark_bench.report.charts.lines import Curve, Point, plot
from spark_bench.report.charts.scales import fitting
from spark_bench.report.charts.svg import Chart, Legend, drawn
from spark_bench.report.charts.theme import (
    COLOURS,
    FONT,
    GROUND,
    INK,
    NARROW,
    PLAIN,
    Layout,
    Spec,
    colour,
    shape,
    sign,
)
from spark_bench.report.front import Dot, thinned
from spark_bench.report.table import Cell, Column, Table, numbers

_ROOM_LEFT = 0.8
_LABEL_ROOM = (30, 14)  # pixels that a dot's label takes


def chart(dots: tuple[Dot, ...], indices: Mapping[str, int]) -> Chart:
    """Of at least one dot."""
    front = [dot for dot in dots if dot.front]
    shown = thinned(dots)
    alt = (
        f"Output throughput against median time to first token, {len(dots)} runs. "
        f"{len(front)} on the Pareto front, from {_words(front[0])} to {_words(front[-1])}."
    )
    left_out = f"{len(shown)} of {len(dots)} runs drawn, the front whole." if shown != dots else ""
    present = sorted({min(indices[dot.named.label], COLOURS) for dot in shown})
    names = {min(index, COLOURS): label for label, index in reversed(list(indices.items()))}
    return Chart(
        title="Output throughput against time to first token",
        subtitle="tokens/s against median ms",
        alt=alt,
        svg=drawn(lambda layout: _spec(shown, indices, layout), alt, PLAIN, NARROW),
        table=_table(front),
        legend=tuple(
            Legend(names[index] if index < COLOURS else "others", index, sign(index))
            for index in present
        ),
        always=True,
        note=left_out,
    )


def _spec(dots: Sequence[Dot], indices: Mapping[str, int], layout: Layout) -> Spec:
    ttfts = [dot.ttft_ms for dot in dots]
    # Labels are on the upper left of their dots, where by definition no other dot is.
    x = fitting([*ttfts, min(ttfts) * _ROOM_LEFT], "TTFT, ms")
    y = fitting(dot.throughput for dot in dots)
    edge = Curve("", COLOURS, tuple(_point(dot) for dot in dots if dot.front), step=True)
    spec = plot([edge], x, y, layout)
    spec["layer"] += [_marks(dots, indices, front=False), _marks(dots, indices, front=True)]
    taken: list[tuple[float, float]] = []
    labels = []
    for dot in sorted(dots, key=lambda each: (not each.front, -each.throughput)):
        place = (layout.width * x.share(dot.ttft_ms), layout.height * (1 - y.share(dot.throughput)))
        room = all(
            abs(place[0] - other[0]) > _LABEL_ROOM[0] or abs(place[1] - other[1]) > _LABEL_ROOM[1]
            for other in taken
        )
        if dot.front and room:
            labels.append(_value(dot, indices) | {"l": _load(dot)})
            taken.append(place)
    spec["layer"].append(_labels(labels))
    return spec


def _point(dot: Dot) -> Point:
    return Point(dot.ttft_ms, dot.throughput)


def _value(dot: Dot, indices: Mapping[str, int]) -> dict[str, object]:
    index = indices[dot.named.label]
    return {
        "x": float(f"{dot.ttft_ms:.5g}"),
        "y": float(f"{dot.throughput:.5g}"),
        "c": colour(index),
        "s": shape(index),
        "t": f"#{dot.named.number} {_words(dot)}",
    }


def _marks(dots: Sequence[Dot], indices: Mapping[str, int], front: bool) -> Spec:
    mark = {
        "type": "point",
        "filled": True,
        "stroke": GROUND,
        "strokeWidth": 1,
        "size": 90 if front else 50,
        "opacity": 1 if front else 0.6,
        "aria": True,
    }
    own = {name: {"field": key, "type": "nominal", "scale": None} for name, key in _OWN}
    return {
        "data": {"values": [_value(dot, indices) for dot in dots if dot.front == front]},
        "mark": mark,
        "encoding": _places() | own,
    }


_OWN = (("fill", "c"), ("shape", "s"), ("description", "t"))


def _places() -> dict[str, Spec]:
    return {name: {"field": name, "type": "quantitative"} for name in ("x", "y")}


def _labels(values: Sequence[dict[str, object]]) -> Spec:
    mark = {"type": "text", "align": "right", "dx": -7, "dy": -5, "fontSize": FONT, "fill": INK}
    return {
        "data": {"values": list(values)},
        "mark": mark,
        "encoding": _places() | {"text": {"field": "l"}},
    }


def _load(dot: Dot) -> str:
    """Its load in short, as in the matrix."""
    config = dot.named.run.config
    if config.concurrency is not None:
        return f"c{config.concurrency}"
    return f"r{config.request_rate:g}" if config.request_rate is not None else ""


def _words(dot: Dot) -> str:
    return (
        f"{dot.named.label} {dot.named.run.entry.load}: {digits(dot.throughput, 'tok/s')}, TTFT "
        f"{digits(dot.ttft_ms, 'ms')}"
    )


def _table(front: Sequence[Dot]) -> Table:
    ttfts = numbers([dot.ttft_ms for dot in front])
    throughputs = numbers([dot.throughput for dot in front])
    return Table(
        "The Pareto front",
        (
            Column("Run", numeric=False),
            Column("Model", numeric=False),
            Column("Load", numeric=False),
            Column("TTFT p50", "ms"),
            Column("Output", "tok/s"),
        ),
        tuple(
            (
                Cell(f"#{dot.named.number}", dot.named.number, href=f"#{dot.named.anchor}"),
                Cell(dot.named.label),
                Cell(dot.named.run.entry.load),
                ttfts[index],
                throughputs[index],
            )
            for index, dot in enumerate(front)
        ),
    )
