"""Stalls: when tokens stopped coming, and in which streams.

A gap is long when it is far outside the run's own spread. Long gaps that end together are one
stall: an engine that paused gives all its streams their next token in one step. A stall of
(nearly) all running streams is the engine's, a stall of one stream is its request's. One of some
streams has a cause in between: a batch, one of several replicas, the network to some clients.
"""

from collections import Counter
from typing import Literal

import numpy as np
from msgspec import Struct, field

from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, Counts, Gaps, TimedRequests, Times

Whose = Literal["engine", "partial", "request", "alone"]

# Long: 10 robust standard deviations above the median (one is 1.4826 MAD if gaps are normal), at
# least 3 medians (a skipped step is no stall), and more than a busy client machine can cause.
DEVIATIONS = 10
SIGMA_PER_MAD = 1.4826
MEDIANS = 3
FLOOR_NS = 5_000_000
# The tokens of one step leave a server within this share of a step, or within a millisecond.
TOGETHER_MEDIANS = 0.25
TOGETHER_NS = 1_000_000
NEARLY_ALL = 0.9
# With fewer gaps than this, there is no spread to judge by.
MIN_GAPS = 20


class Stall(Struct, frozen=True):
    """at: seconds from the run's first send to where it began; ms: the mean length of its gaps.

    streams: how many it stopped, of `running` that were between their first and last token
    whose: "engine" (nearly all of several), "partial", "request" (one of several), or "alone":
        only one stream ran, so the two can't be told apart
    request: its index, when one stream stalled
    """

    at: float
    ms: float
    streams: int
    running: int
    whose: Whose
    request: int | None = None


class Stalls(Struct, frozen=True):
    """median_ms: the run's median gap between deliveries; threshold_ms: what counts as long.

    counts, total_ms: by whose they were; top: the longest first. All empty when the run has too
    few gaps to tell.
    """

    median_ms: float | None = None
    threshold_ms: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    total_ms: dict[str, float] = field(default_factory=dict)
    top: tuple[Stall, ...] = ()


def stalls(timed: TimedRequests, top: int = 20) -> Stalls:
    """The stalls of all streams, including those that failed later, since they ran as well.

    top: how many of the longest stalls to return one by one
    """
    times = timed.streamed
    gaps = times.gaps()
    # Deltas of one read share a stamp: they are one delivery, with the gap of the first delta.
    apart = gaps.ns[gaps.ns > 0]
    if apart.size < MIN_GAPS:
        return Stalls()
    median = float(np.median(apart))
    deviation = SIGMA_PER_MAD * float(np.median(np.abs(apart - median)))
    threshold = max(median + DEVIATIONS * deviation, MEDIANS * median, FLOOR_NS)
    together = max(TOGETHER_NS, TOGETHER_MEDIANS * median)
    long = gaps.ns > threshold
    owner = times.gap_owners()[long]
    grouped = _grouped(times, gaps.where(long), owner, together, timed.began_ns)
    counts = Counter[str](stall.whose for stall in grouped)
    return Stalls(
        median_ms=median / NS_PER_MS,
        threshold_ms=threshold / NS_PER_MS,
        counts=dict(counts),
        total_ms={whose: sum(s.ms for s in grouped if s.whose == whose) for whose in counts},
        top=tuple(sorted(grouped, key=lambda stall: -stall.ms)[:top]),
    )


def _grouped(times: Times, long: Gaps, owner: Counts, together: float, began: int) -> list[Stall]:
    if not long.ns.size:
        return []
    order = np.argsort(long.end_ns)
    ends, ns, owner = long.end_ns[order], long.ns[order], owner[order]
    group = np.cumsum(np.diff(ends, prepend=ends[0]) > together, dtype=np.int64)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    mean = np.bincount(group, ns) / np.bincount(group)
    # How many streams each group has.
    streams = np.bincount(np.unique(np.stack([group, owner]), axis=1)[0])
    # How many streams were between their first and last token then.
    middle = ends[first] - mean / 2
    begun = np.searchsorted(np.sort(times.first_ns), middle, side="right")
    ended = np.searchsorted(np.sort(times.last_ns), middle, side="right")
    running = np.maximum(streams, begun - ended)
    kinds: list[Whose] = ["alone", "request", "engine", "partial"]
    which = np.select([running == 1, streams == 1, streams >= NEARLY_ALL * running], [0, 1, 2], 3)
    at = (ends[first] - mean - began) / NS_PER_S
    return [
        Stall(
            at=float(at[i]),
            ms=float(mean[i] / NS_PER_MS),
            streams=int(streams[i]),
            running=int(running[i]),
            whose=kinds[which[i]],
            request=int(times.index[owner[first[i]]]) if streams[i] == 1 else None,
        )
        for i in range(first.size)
    ]
