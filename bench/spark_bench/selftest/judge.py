"""Whether this machine is good enough to measure from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from spark_bench.selftest.aspects import aspects
from spark_bench.selftest.causes import likely
from spark_bench.selftest.limits import problems, span
from spark_bench.selftest.report import Capacity, Level, Surroundings, Verdict
from spark_bench.selftest.shape import named


def verdict(levels: Sequence[Level], capacity: Capacity, around: Surroundings) -> Verdict:
    """levels: by rising number of streams. Good if every one of them is."""
    bad = {level.streams: list(problems(level)) for level in levels}
    proven = list(takewhile(lambda level: not bad[level.streams], levels))
    good = len(proven) == len(levels)
    best = proven[-1] if proven else None
    return Verdict(
        good=good,
        sentence=_sentence(best, proven, next((n for n, why in bad.items() if why), 0), bad),
        streams=best.streams if best else 0,
        chunks_per_s=best.chunks_per_s if best else 0.0,
        aspects=tuple(aspects(levels, capacity)),
        causes=() if good else tuple(likely(levels, capacity, around)),
    )


def _sentence(
    best: Level | None, proven: Sequence[Level], first_bad: int, bad: dict[int, list[str]]
) -> str:
    why = f"{named(first_bad)}: {'; '.join(bad[first_bad])}" if first_bad else ""
    if best is None:
        return f"This machine is not good enough to measure from: at {why}."
    worst = max(level.stamp_us.p99 for level in proven)
    return (
        f"This machine can measure up to {named(best.streams)} at {best.chunks_per_s:,.0f} "
        f"tokens/s with time stamps good to {span(worst)} (p99)"
        + (f", but not {why}." if why else ".")
    )
