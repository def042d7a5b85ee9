"""Charts over time: what server and nodes reported during one run, and a figure over many runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from spark_bench import errors, formats
from spark_bench.history.history_tables import Trend
from spark_bench.report import named_runs, page_table
from spark_bench.report.charts import plot, svg
from spark_bench.results import codec, schema


def timeline_chart(timeline: Timeline) -> svg.Chart:
    """The chart of a timeline with at least one panel."""
    named = timeline.named
    sentences = "; ".join(
        f"{_line_name(panel, name)} {formats.digits(fmean(_ys(line)))} on average, "
        f"{formats.digits(max(_ys(line)), panel.unit)} at peak"
        for panel in timeline.panels
        for name, line in panel.lines
    )
    repeat = f", repeat {timeline.repeat}" if timeline.repeat else ""
    thinned = f"{timeline.drawn} of {timeline.of} samples are drawn, including peaks."
    alt = f"Run {named.number} over time. {sentences}."
    return svg.Chart(
        title=f"#{named.number} {named.label}",
        subtitle=f"{named.run.entry.load}{repeat}, {named.run.entry.when:%Y-%m-%d %H:%M} UTC",
        alt=alt,
        svg=svg.draw_chart(
            lambda layout: _timeline_spec(timeline, layout), alt, svg.BROAD, svg.SLIM
        ),
        table=_timeline_table(timeline),
        legend=tuple(
            svg.Legend(name, index)
            for panel in timeline.panels
            for name, index in _indices(panel)
            if name
        ),
        note=thinned if timeline.drawn < timeline.of else "",
    )


def _timeline_spec(timeline: Timeline, layout: svg.Layout) -> svg.Spec:
    seconds = [second for panel in timeline.panels for _, line in panel.lines for second, _ in line]
    # The axis ends with the last sample; the first may precede the start.
    low, last = min(*seconds, 0.0), max(*seconds, 0.001)
    ticks = tuple(tick for tick in plot.linear_axis(last).ticks if tick <= last)
    panels = []
    for panel in timeline.panels:
        below = "seconds since the start" if panel is timeline.panels[-1] else ""
        x = plot.Axis(low, last, ticks, False, below)
        y = plot.linear_axis(max(max(_ys(line)) for _, line in panel.lines) or 1.0)
        if not panel.unit:  # requests are whole
            whole = tuple(tick for tick in y.ticks if tick == int(tick))
            y = plot.Axis(y.low, y.high, whole, False)
        curves = []
        for (name, index), (_, line) in zip(_indices(panel), panel.lines, strict=True):
            points = tuple(plot.Point(second, value) for second, value in line)
            curves.append(plot.Curve(name, index, points, step=panel.title == "Requests"))
        title = f"{panel.title}, {panel.unit}" if panel.unit else panel.title
        panels.append(plot.plot_curves(curves, x, y, layout) | {"title": title})
    return {"vconcat": panels, "spacing": 18}


def _indices(panel: ChartPanel) -> list[tuple[str, int]]:
    """Color indices: each panel has its own colors."""
    first = {"Requests": 0, "Generated": 2}.get(panel.title, 3)
    return [(name, first + place) for place, (name, _) in enumerate(panel.lines)]


def _ys(line: Line) -> list[float]:
    return [value for _, value in line]


def _line_name(panel: ChartPanel, name: str) -> str:
    return f"{panel.title} {name}".strip().lower()


def _timeline_table(timeline: Timeline) -> page_table.Table:
    return page_table.Table(
        "Minimum, mean and maximum",
        (
            page_table.Column("What", numeric=False),
            page_table.Column("Unit", numeric=False),
            page_table.Column("Min"),
            page_table.Column("Mean"),
            page_table.Column("Max"),
        ),
        tuple(
            (
                page_table.Cell(_line_name(panel, name)),
                page_table.Cell(panel.unit or "requests"),
                *(
                    page_table.Cell(formats.digits(value), value)
                    for value in (min(ys), fmean(ys), max(ys))
                ),
            )
            for panel in timeline.panels
            for name, line in panel.lines
            for ys in [_ys(line)]
        ),
    )


# About the number of pixels there are.
MOST_SAMPLES = 500

Line = tuple[tuple[float, float], ...]


class ChartPanel(Struct, frozen=True):
    """Lines on one axis in one unit: (name, (second, value)…)."""

    title: str
    unit: str
    lines: tuple[tuple[str, Line], ...]


class Timeline(Struct, frozen=True):
    """repeat: which of several, from 1; None: there is just one. drawn: samples drawn, of `of`."""

    named: named_runs.NamedRun
    panels: tuple[ChartPanel, ...]
    repeat: int | None
    drawn: int
    of: int


def choose_timeline_run(
    runs: Sequence[named_runs.NamedRun], wanted: str | None
) -> named_runs.NamedRun | None:
    """The run whose id or file name is `wanted`, or whose id starts with it; None: the newest that
    has samples."""
    if wanted is None:
        timed = [named for named in runs if named.run.timed]
        return max(timed, key=lambda named: named.run.entry.id, default=None)
    matches = [
        named for named in runs if wanted in (named.run.entry.id, Path(named.run.entry.path).name)
    ]
    matches = matches or [
        named for named in runs if wanted and named.run.entry.id.startswith(wanted)
    ]
    if len(matches) != 1:
        what = "matches several runs" if matches else "is not one of these runs"
        raise errors.BadInput(
            f"--timeline: {wanted!r} {what}; give a run's id, such as {runs[0].run.entry.id}, or "
            "its file's name"
        )
    if not matches[0].run.timed:
        raise errors.BadInput(
            f"--timeline: {wanted} has no samples over time; measure with --metrics or --power to "
            "record the server's metrics or the nodes' power"
        )
    return matches[0]


def read_timeline(named: named_runs.NamedRun) -> Timeline:
    """Read a run's timeline from its file; of several repeats, the last one's."""
    result = codec.read_result(Path(named.run.entry.path))
    part = result.repeats[-1] if result.repeats else result
    every = list(_panels(part.server, part.nodes))
    sizes = [len(line) for panel in every for _, line in panel.lines]
    panels = tuple(
        ChartPanel(
            panel.title,
            panel.unit,
            tuple((name, thin_line(line, MOST_SAMPLES)) for name, line in panel.lines),
        )
        for panel in every
    )
    longest = max(sizes, default=0)
    return Timeline(
        named,
        panels,
        len(result.repeats) or None,
        max((len(line) for panel in panels for _, line in panel.lines), default=0),
        longest,
    )


def thin_line(line: Line, most: int) -> Line:
    """At most `most` points: the lowest and highest of each stretch, so that no peak is lost.

    >>> thin_line(((0, 1.0), (1, 9.0), (2, 1.0), (3, 1.0), (4, 0.0), (5, 1.0)), 4)
    ((0, 1.0), (1, 9.0), (3, 1.0), (4, 0.0))
    """
    if len(line) <= most:
        return line
    size = -(-len(line) // max(1, most // 2))
    stretches = (line[start : start + size] for start in range(0, len(line), size))
    return tuple(
        point
        for stretch in stretches
        for point in sorted(
            {
                min(stretch, key=lambda each: each[1]),
                max(stretch, key=lambda each: each[1]),
            }
        )
    )


def _panels(
    server: schema.ServerFigures | None, nodes: schema.Nodes | None
) -> Iterator[ChartPanel]:
    if server:
        at = server.samples.at
        lines = (
            ("running", _line(at, server.samples.running)),
            ("queued", _line(at, server.samples.queued)),
        )
        yield from _panel("Requests", "", lines)
        yield from _panel("Generated", "tok/s", (("", _line(at, server.samples.throughput)),))
    if nodes:
        power = tuple(
            (node.name, _line(node.samples.at, node.samples.power_w)) for node in nodes.nodes
        )
        yield from _panel("GPU power", "W", power)


def _panel(title: str, unit: str, lines: tuple[tuple[str, Line], ...]) -> Iterator[ChartPanel]:
    if filled := tuple((name, line) for name, line in lines if line):
        yield ChartPanel(title, unit, filled)


def _line(at: Sequence[float], column: schema.SampleColumn) -> Line:
    return tuple(
        (round(second, 3), value)
        for second, value in zip(at, column, strict=True)
        if value is not None
    )


MOST_POINTS = 400


def trend_chart(trend: Trend, label: str, index: int) -> svg.Chart:
    """The chart of a trend of at least two points; of many, just the newest are drawn."""
    points = trend.points[-MOST_POINTS:]
    values = page_table.number_cells([point.value for point in points])
    change = (
        ""
        if trend.change is None
        else f"; the last is {trend.change:+.1%} from the median of the previous ones"
    )
    alt = (
        f"Output throughput of {label} over {len(points)} runs: first {values[0].text}, last "
        f"{values[-1].text} tokens per second{change}."
    )
    curve = plot.Curve(
        label,
        index,
        tuple(
            plot.Point(
                place,
                point.value,
                f"{point.when:%Y-%m-%d %H:%M}: {formats.digits(point.value, 'tok/s')}",
            )
            for place, point in enumerate(points, start=1)
        ),
    )
    every = -(-len(points) // 8)
    ticks = tuple(float(place) for place in range(1, len(points) + 1, every))
    x = plot.Axis(1.0, float(len(points)), ticks, False, "runs, newest last")
    y = plot.fitting_axis(point.value for point in points)
    return svg.Chart(
        title=f"{label} over time",
        subtitle=f"output tokens/s, {trend.load}",
        alt=alt,
        svg=svg.draw_chart(
            lambda layout: plot.plot_curves([curve], x, y, layout), alt, svg.PLAIN, svg.NARROW
        ),
        table=page_table.Table(
            "The trend",
            (page_table.Column("Ended, UTC", numeric=False), page_table.Column("Output", "tok/s")),
            tuple(
                (page_table.Cell(f"{point.when:%Y-%m-%d %H:%M}"), cell)
                for point, cell in zip(points, values, strict=True)
            ),
        ),
        note=f"Newest {MOST_POINTS} of {len(trend.points)} runs."
        if len(points) < len(trend.points)
        else "",
    )
