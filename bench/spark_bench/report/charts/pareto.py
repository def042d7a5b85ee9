"""Throughput against TTFT: the best runs, the Pareto front, lie on the upper left edge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from spark_bench.formats import digits, plural
from spark_bench.report import named_runs, page_table
from spark_bench.report.charts import plot, svg
from spark_bench.report.quality_section import score_cells, score_columns

_ROOM_LEFT, _SCORED_ROOM_LEFT = 0.8, 0.5
_LABEL_ROOM = (30, 14)  # pixels that a dot's label takes
_SCORED_ROOM = (66, 14)


def pareto_chart(dots: tuple[Dot, ...], indices: Mapping[str, int]) -> svg.Chart:
    """The chart of at least one dot."""
    front = [dot for dot in dots if dot.front]
    shown = thin_dots(dots)
    ends = f", from {_words(front[0])} to {_words(front[-1])}" if front else ""
    alt = (
        f"Output throughput against median time to first token, {len(dots)} runs. "
        f"{len(front)} on the Pareto front{ends}."
    )
    notes = []
    if shown != dots:
        notes.append(f"{len(shown)} of {len(dots)} runs are drawn, including the whole front.")
    if wrong := sum(bool(dot.named.wrong) for dot in dots):
        notes.append(f"{plural(wrong, 'run')} with wrong answers can't be on the front.")
    present = sorted({min(indices[dot.named.label], svg.COLORS) for dot in shown})
    names = {min(index, svg.COLORS): label for label, index in reversed(list(indices.items()))}
    return svg.Chart(
        title="Output throughput against time to first token",
        subtitle="tokens/s against median ms",
        alt=alt,
        svg=svg.draw_chart(
            lambda layout: _spec(shown, indices, layout), alt, svg.PLAIN, svg.NARROW
        ),
        table=_table(front),
        legend=tuple(
            svg.Legend(names[index] if index < svg.COLORS else "others", index, svg.dot_sign(index))
            for index in present
        ),
        always=True,
        note=" ".join(notes),
    )


def _spec(dots: Sequence[Dot], indices: Mapping[str, int], layout: svg.Layout) -> svg.Spec:
    ttfts = [dot.ttft_ms for dot in dots]
    # A label sits to the upper left of its dot, where by definition there is no other dot.
    scored = any(dot.named.scores for dot in dots)
    room_left = _SCORED_ROOM_LEFT if scored else _ROOM_LEFT
    x = plot.fitting_axis([*ttfts, min(ttfts) * room_left], "TTFT, ms")
    y = plot.fitting_axis(dot.throughput for dot in dots)
    edge = plot.Curve(
        "",
        svg.COLORS,
        tuple(plot.Point(d.ttft_ms, d.throughput) for d in dots if d.front),
        step=True,
    )
    spec = plot.plot_curves([edge], x, y, layout)
    spec["layer"] += [_marks(dots, indices, front=False), _marks(dots, indices, front=True)]
    taken: list[tuple[float, float]] = []
    labels = []
    for dot in sorted(dots, key=lambda each: (not each.front, -each.throughput)):
        place = (layout.width * x.share(dot.ttft_ms), layout.height * (1 - y.share(dot.throughput)))
        width, height = _SCORED_ROOM if dot.named.scores else _LABEL_ROOM
        room = all(
            abs(place[0] - other[0]) > width or abs(place[1] - other[1]) > height for other in taken
        )
        if dot.front and room:
            # Its load in short, as in the table of all runs.
            config = dot.named.run.config
            load = f"r{config.request_rate:g}" if config.request_rate is not None else ""
            if config.concurrency is not None:
                load = f"c{config.concurrency}"
            # The lowest score of what served.
            scores = [each.score.score or 0.0 for each in dot.named.scores.values()]
            score = f"{100 * min(scores):.0f} %" if scores else ""
            labels.append(_value(dot, indices) | {"l": f"{load} {score}".strip()})
            taken.append(place)
    mark = {"type": "text", "align": "right", "dx": -7, "dy": -5}
    spec["layer"].append(
        {
            "data": {"values": labels},
            "mark": mark | {"fontSize": svg.FONT, "fill": svg.INK},
            "encoding": _places() | {"text": {"field": "l"}},
        }
    )
    return spec


def _value(dot: Dot, indices: Mapping[str, int]) -> dict[str, object]:
    index = indices[dot.named.label]
    return {
        "x": float(f"{dot.ttft_ms:.5g}"),
        "y": float(f"{dot.throughput:.5g}"),
        "c": svg.color(index),
        "s": svg.dot_shape(index),
        "t": f"#{dot.named.number} {_words(dot)}",
    }


def _marks(dots: Sequence[Dot], indices: Mapping[str, int], front: bool) -> svg.Spec:
    mark = {
        "type": "point",
        "filled": True,
        "stroke": svg.GROUND,
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


def _places() -> dict[str, svg.Spec]:
    return {name: {"field": name, "type": "quantitative"} for name in ("x", "y")}


def _words(dot: Dot) -> str:
    scores = "".join(
        f", {task} {100 * (each.score.score or 0.0):.1f} %"
        for task, each in dot.named.scores.items()
    )
    return (
        f"{dot.named.label} {dot.named.run.entry.load}: {digits(dot.throughput, 'tok/s')}, TTFT "
        f"{digits(dot.ttft_ms, 'ms')}{scores}{', wrong answers' if dot.named.wrong else ''}"
        f"{', warned by the probes' if dot.named.warned else ''}"
    )


def _table(front: Sequence[Dot]) -> page_table.Table:
    ttfts = page_table.number_cells([dot.ttft_ms for dot in front])
    throughputs = page_table.number_cells([dot.throughput for dot in front])
    scored = score_columns(dot.named.scores for dot in front)
    return page_table.Table(
        "The Pareto front",
        (
            page_table.Column("Run", numeric=False),
            page_table.Column("Model", numeric=False),
            page_table.Column("Load", numeric=False),
            page_table.Column("TTFT p50", "ms"),
            page_table.Column("Output", "tok/s"),
            *scored,
        ),
        tuple(
            (
                page_table.Cell(
                    f"#{dot.named.number}", dot.named.number, href=f"#{dot.named.anchor}"
                ),
                page_table.Cell(
                    dot.named.label,
                    detail="warned by the probes" if dot.named.warned else "",
                    tone="warn" if dot.named.warned else "",
                ),
                page_table.Cell(dot.named.run.entry.load),
                ttfts[index],
                throughputs[index],
                *score_cells(scored, dot.named.scores, dot.named.wrong),
            )
            for index, dot in enumerate(front)
        ),
    )


# More dots hide each other and make the page large.
MOST_DOTS = 250


class Dot(Struct, frozen=True):
    """ttft_ms: the median; throughput: output tokens per second; front: not dominated."""

    named: named_runs.NamedRun
    ttft_ms: float
    throughput: float
    front: bool


def pareto_front(runs: Iterable[named_runs.NamedRun]) -> tuple[Dot, ...]:
    """A dot per complete run with figures, by increasing TTFT. None with wrong answers is on the
    front."""
    points = [
        (ttft, throughput, named)
        for named in runs
        if named.run.measured
        and named.run.entry.status == "complete"
        and (ttft := named.run.value("median_ttft_ms")) is not None
        and (throughput := named.run.value("output_throughput")) is not None
    ]
    # Among equal TTFTs, highest throughput first, so that the others are dominated.
    points.sort(key=lambda each: (each[0], -each[1]))
    dots, best = [], float("-inf")
    for ttft, throughput, named in points:
        front = throughput > best and not named.wrong
        dots.append(Dot(named, ttft, throughput, front))
        best = throughput if front else best
    return tuple(dots)


def thin_dots(dots: tuple[Dot, ...]) -> tuple[Dot, ...]:
    """All of the front, and every n-th of the others."""
    others = [dot for dot in dots if not dot.front]
    every = -(-len(others) // MOST_DOTS) or 1
    shown = {id(dot) for dot in others[::every]}
    return tuple(dot for dot in dots if dot.front or id(dot) in shown)
