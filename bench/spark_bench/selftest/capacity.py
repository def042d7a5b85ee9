"""How much the client can take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from spark_bench.selftest import compare, limits, shape
from spark_bench.selftest.measure import Bench
from spark_bench.selftest.report import Capacity, Level
from spark_bench.selftest.shape import Shape

# Chunks a second. Two Sparks emit a few thousand; the client's design aims at 40,000.
FIRST, LEAST, MOST = 20_000, 1_250, 160_000
# The search ends when the limit is known to this share.
CLOSE = 0.25
# One pause of the machine, as long as two chunks are apart, is not the client's limit.
TRIES = 2
UNPACED_STREAMS = 64
REQUEST_SLOTS = 64


def next_rate(tried: Mapping[int, bool], most: int = MOST) -> int | None:
    """Where to try next: doubling, halving, then between what is followed and what isn't.

    >>> next_rate({}), next_rate({20_000: True}), next_rate({20_000: True, 40_000: False})
    (20000, 40000, 30000)
    """
    good = max((rate for rate, kept in tried.items() if kept), default=0)
    bad = min((rate for rate, kept in tried.items() if not kept and rate > good), default=0)
    if not tried:
        return FIRST
    if not bad:
        return good * 2 if good * 2 <= most else None
    if not good:
        return bad // 2 if bad // 2 >= LEAST else None
    return (good + bad) // 2 if bad - good > CLOSE * good else None


def capacity(bench: Bench, scale: float) -> Capacity:
    """All three kinds. scale: of the loads' usual length (1.0)."""
    levels = paced(bench, scale)
    followed = {rate: limits.followed(level) for rate, level in levels.items()}
    good = [rate for rate, kept in followed.items() if kept]
    unpaced = bench.measure(Shape(UNPACED_STREAMS, 1, round(2000 * scale)), "without pauses")
    short = bench.measure(Shape(REQUEST_SLOTS, round(80 * scale), 1), "one-token answers")
    done = max(short.summary.completed, 1)
    return Capacity(
        paced=levels[max(good)].chunks_per_s if good else 0.0,
        limit=limit(levels, followed),
        tried=followed,
        unpaced=round(sum(r.token_ns.size for r in unpaced.requests) / unpaced.audit.wall_seconds),
        requests=round(short.summary.completed / short.audit.wall_seconds),
        slots=REQUEST_SLOTS,
        request_us=round(short.audit.cpu_seconds * 1e6 / done, 1),
    )


def paced(bench: Bench, scale: float) -> dict[int, Level]:
    """Rates, until the highest that the client follows is known."""
    levels = dict[int, Level]()
    most = min(MOST, shape.rate(bench.most_streams))
    while rate := next_rate({r: limits.followed(level) for r, level in levels.items()}, most):
        levels[rate] = best_of(TRIES, partial(_at, bench, rate, scale))
    return levels


def best_of(tries: int, measured: Callable[[], Level]) -> Level:
    """The first that was followed, else the last."""
    for _ in range(tries - 1):
        if limits.followed(level := measured()):
            return level
    return measured()


def _at(bench: Bench, rate: int, scale: float) -> Level:
    asked = shape.paced(rate, scale)
    return compare.level(asked, bench.measure(asked, f"{rate:,} chunks/s"))


def limit(levels: Mapping[int, Level], followed: Mapping[int, bool]) -> str:
    """What ended the search, by the lowest rate that was not followed."""
    bad = [rate for rate, kept in followed.items() if not kept]
    if not bad:
        return "search"
    return "client" if limits.kept_pace(levels[min(bad)]) else "ruler"
