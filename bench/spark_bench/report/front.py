"""The Pareto front: runs that no other beats in both throughput and time to the first token."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from spark_bench.report.names import Named

# More dots than this hide each other, and make the page large.
MOST_DOTS = 250


class Dot(Struct, frozen=True):
    """ttft_ms: the median; throughput: output tokens a second; front: not dominated."""

    named: Named
    ttft_ms: float
    throughput: float
    front: bool


def front(runs: Iterable[Named]) -> tuple[Dot, ...]:
    """A dot for each complete run with figures, from the lowest TTFT to the highest."""
    points = [
        (ttft, throughput, named)
        for named in runs
        if named.run.measured
        and named.run.entry.status == "complete"
        and (ttft := named.run.value("median_ttft_ms")) is not None
        and (throughput := named.run.value("output_throughput")) is not None
    ]
    # Of equal TTFTs the higher throughput first: the others then add none.
    points.sort(key=lambda each: (each[0], -each[1]))
    dots, best = [], float("-inf")
    for ttft, throughput, named in points:
        dots.append(Dot(named, ttft, throughput, throughput > best))
        best = max(best, throughput)
    return tuple(dots)


def thinned(dots: tuple[Dot, ...]) -> tuple[Dot, ...]:
    """The front whole, of the others every so manieth."""
    others = [dot for dot in dots if not dot.front]
    every = -(-len(others) // MOST_DOTS) or 1
    kept = {id(dot) for dot in others[::every]}
    return tuple(dot for dot in dots if dot.front or id(dot) in kept)
