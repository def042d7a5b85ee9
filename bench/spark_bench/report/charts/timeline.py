"""One run over time: panels below each other, over one axis of seconds."""

from __future__ import annotations

from statistics import fmean

from spark_bench.formats import digits
from spark_bench.report.charts.lines import Curve, Point, plot
from spark_bench.report.charts.scales import Axis, linear
from spark_bench.report.charts.svg import Chart, Legend, drawn
from spark_bench.report.charts.theme import BROAD, SLIM, Layout, Spec
from spark_bench.report.table import Cell, Column, Table
from spark_bench.report.timeline import Line, Panel, Timeline


def chart(timeline: Timeline) -> Chart:
    """Of at least one panel."""
    named = timeline.named
    said = "; ".join(
        f"{_name(panel, name)} {digits(fmean(_ys(line)))} on average, "
        f"{digits(max(_ys(line)), panel.unit)} at most"
        for panel in timeline.panels
        for name, line in panel.lines
    )
    repeat = f", repeat {timeline.repeat}" if timeline.repeat else ""
    thinned = f"{timeline.kept} of {timeline.of} samples drawn, peaks kept."
    alt = f"Run {named.number} over time. {said}."
    return Chart(
        title=f"#{named.number} {named.label}",
        subtitle=f"{named.run.entry.load}{repeat}, {named.run.entry.when:%Y-%m-%d %H:%M} UTC",
        alt=alt,
        svg=drawn(lambda layout: _spec(timeline, layout), alt, BROAD, SLIM),
        table=_table(timeline),
        legend=tuple(
            Legend(name, index)
            for panel in timeline.panels
            for name, index in _indices(panel)
            if name
        ),
        note=thinned if timeline.kept < timeline.of else "",
    )


def _spec(timeline: Timeline, layout: Layout) -> Spec:
    x = _seconds(timeline)
    panels = [
        _panel(panel, x if panel is timeline.panels[-1] else _untitled(x), layout)
        for panel in timeline.panels
    ]
    return {"vconcat": panels, "spacing": 18}


def _seconds(timeline: Timeline) -> Axis:
    """To the last sample; the first may have been taken just before the start."""
    seconds = [second for panel in timeline.panels for _, line in panel.lines for second, _ in line]
    last = max(*seconds, 0.001)
    ticks = tuple(tick for tick in linear(last).ticks if tick <= last)
    return Axis(min(*seconds, 0.0), last, ticks, False, "seconds since the start")


def _untitled(x: Axis) -> Axis:
    return Axis(x.low, x.high, x.ticks, x.log)


def _panel(panel: Panel, x: Axis, layout: Layout) -> Spec:
    y = linear(max(max(_ys(line)) for _, line in panel.lines) or 1.0)
    if not panel.unit:  # there are no half requests
        whole = tuple(tick for tick in y.ticks if tick == int(tick))
        y = Axis(y.low, y.high, whole, False)
    curves = [
        Curve(
            name,
            index,
            tuple(Point(second, value) for second, value in line),
            step=panel.title == "Requests",
        )
        for (name, index), (_, line) in zip(_indices(panel), panel.lines, strict=True)
    ]
    title = f"{panel.title}, {panel.unit}" if panel.unit else panel.title
    return plot(curves, x, y, layout) | {"title": title}


def _indices(panel: Panel) -> list[tuple[str, int]]:
    """Of the colours: each panel has its own."""
    first = {"Requests": 0, "Generated": 2}.get(panel.title, 3)
    return [(name, first + place) for place, (name, _) in enumerate(panel.lines)]


def _ys(line: Line) -> list[float]:
    return [value for _, value in line]


def _name(panel: Panel, name: str) -> str:
    return f"{panel.title} {name}".strip().lower()


def _table(timeline: Timeline) -> Table:
    return Table(
        "Least, mean and most",
        (
            Column("What", numeric=False),
            Column("Unit", numeric=False),
            Column("Least"),
            Column("Mean"),
            Column("Most"),
        ),
        tuple(
            (
                Cell(_name(panel, name)),
                Cell(panel.unit or "requests"),
                *(Cell(digits(value), value) for value in (min(ys), fmean(ys), max(ys))),
            )
            for panel in timeline.panels
            for name, line in panel.lines
            for ys in [_ys(line)]
        ),
    )
