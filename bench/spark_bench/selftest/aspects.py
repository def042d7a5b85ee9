"""Each thing that matters, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spark_bench.display.figures import digits
from spark_bench.selftest.limits import (
    ABSOLUTE_US,
    EARLY_US,
    PERCENT,
    STAMP_US,
    close,
    followed,
    off,
    span,
)
from spark_bench.selftest.report import Aspect, Capacity, Level


def aspects(levels: Sequence[Level], capacity: Capacity) -> Iterator[Aspect]:
    """A sentence on each."""
    yield _stamps(levels)
    yield _latencies(levels)
    yield _counts(levels)
    yield _capacity(levels, capacity)
    yield _cost(levels)


def _stamps(levels: Sequence[Level]) -> Aspect:
    worst = max(level.stamp_us.p99 for level in levels)
    early = min(level.stamp_min_us for level in levels)
    return Aspect(
        "time stamps",
        worst <= STAMP_US and early >= EARLY_US,
        f"off by {span(worst)} at most at p99 (allowed: {STAMP_US / 1e3:g} ms)",
    )


def _latencies(levels: Sequence[Level]) -> Aspect:
    found = [d for level in levels for d in (*level.ttft.values(), *level.itl.values())]
    worst = max(
        found, key=lambda d: abs(d.error_us) / max(ABSOLUTE_US, d.true_ms * 10), default=None
    )
    said = f"the farthest {off(worst)}" if worst else "none"
    return Aspect(
        "TTFT, ITL",
        bool(found) and all(map(close, found)),
        f"of mean, p50 and p99 {said} (allowed: {PERCENT:g}% or {ABSOLUTE_US:g} µs)",
    )


def _counts(levels: Sequence[Level]) -> Aspect:
    wrong = sum(level.miscounted + sum(level.failures.values()) for level in levels)
    tokens = sum(level.tokens for level in levels)
    said = f"{wrong} answers failed or miscounted" if wrong else "all as sent"
    return Aspect("counts", not wrong, f"{tokens:,} tokens, {said}")


def _capacity(levels: Sequence[Level], found: Capacity) -> Aspect:
    more = {"ruler": " (the ruler sends no more)", "search": " (more was not tried)"}
    refused = min((rate for rate, kept in found.tried.items() if not kept), default=0)
    end = more.get(found.limit, f", not {refused:,}")
    return Aspect(
        "capacity",
        found.paced >= max(level.chunks_per_s for level in levels) or all(map(followed, levels)),
        f"follows {found.paced:,.0f} chunks/s{end}; takes {found.unpaced:,.0f} without "
        f"pauses, and {found.requests:,.0f} one-token answers/s "
        f"({digits(found.request_us, 'µs')} CPU each)",
    )


def _cost(levels: Sequence[Level]) -> Aspect:
    last = levels[-1]
    return Aspect(
        "cost",
        True,
        f"{digits(last.cpu_us, 'µs')} CPU a chunk and {digits(last.read_us, 'µs')} to read it "
        f"afterwards, {last.audit.peak_rss_bytes / 1e6:.0f} MB",
    )
