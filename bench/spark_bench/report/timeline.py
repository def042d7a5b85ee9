"""One run over time: what the server and its nodes told while it lasted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.report.names import Named
from spark_bench.results.codec import read
from spark_bench.results.server_figures import Column, Nodes, ServerFigures

# As many as there are pixels to show them.
MOST_SAMPLES = 500

Line = tuple[tuple[float, float], ...]


class Panel(Struct, frozen=True):
    """Lines over one axis: (name, (second, value)…), in one unit."""

    title: str
    unit: str
    lines: tuple[tuple[str, Line], ...]


class Timeline(Struct, frozen=True):
    """repeat: which of several, from 1; None: there is one. kept: samples drawn, of how many."""

    named: Named
    panels: tuple[Panel, ...]
    repeat: int | None
    kept: int
    of: int


def choose(runs: Sequence[Named], wanted: str | None) -> Named | None:
    """The run whose id is or starts with `wanted`; None wanted: the newest that has samples."""
    if wanted is None:
        timed = [named for named in runs if named.run.timed]
        return max(timed, key=lambda named: named.run.entry.id, default=None)
    found = [
        named for named in runs if wanted in (named.run.entry.id, Path(named.run.entry.path).name)
    ]
    found = found or [named for named in runs if wanted and named.run.entry.id.startswith(wanted)]
    if len(found) != 1:
        what = "is the beginning of several runs' ids" if found else "is none of these runs"
        raise BadInput(
            f"--timeline: {wanted!r} {what}; give a run's id, such as {runs[0].run.entry.id}, or "
            "its file's name"
        )
    if not found[0].run.timed:
        raise BadInput(
            f"--timeline: {wanted} has no samples over time: neither the server's metrics nor the "
            "nodes' power were read; run with --metrics or --power"
        )
    return found[0]


def timeline(named: Named) -> Timeline:
    """Read from the run's file; of several repeats it is the last."""
    result = read(Path(named.run.entry.path))
    part = result.repeats[-1] if result.repeats else result
    every = list(_panels(part.server, part.nodes))
    sizes = [len(line) for panel in every for _, line in panel.lines]
    panels = tuple(
        Panel(
            panel.title,
            panel.unit,
            tuple((name, thinned(line, MOST_SAMPLES)) for name, line in panel.lines),
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


def thinned(line: Line, most: int) -> Line:
    """At most so many points: of each stretch its lowest and its highest, so that no peak is lost.

    >>> thinned(((0, 1.0), (1, 9.0), (2, 1.0), (3, 1.0), (4, 0.0), (5, 1.0)), 4)
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


def _panels(server: ServerFigures | None, nodes: Nodes | None) -> Iterator[Panel]:
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


def _panel(title: str, unit: str, lines: tuple[tuple[str, Line], ...]) -> Iterator[Panel]:
    if told := tuple((name, line) for name, line in lines if line):
        yield Panel(title, unit, told)


def _line(at: Sequence[float], column: Column) -> Line:
    return tuple(
        (round(second, 3), value)
        for second, value in zip(at, column, strict=True)
        if value is not None
    )
