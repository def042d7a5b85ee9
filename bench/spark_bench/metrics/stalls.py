"""Stalls: when tokens stopped coming, in which streams, and whose prompt was read meanwhile.

A gap is long when it is far outside the run's own spread. Long gaps that end together are one
stall, if they began together too and their ends are not clearly in two heaps: an engine that paused
gives all its streams their next token in one step, and streams that are not in step end up to a
step apart, each after an equally long gap. A few gaps make no heaps. Of two of several streams,
what counts is whether their ends are further apart than the tokens of one step; of other few,
whether their gaps are equally long.

A stall of (nearly) all running streams is the engine's, a stall of one stream is its request's. One
of some streams has a cause in between: a batch, one of several replicas, the network to some
clients.

A prompt was read during a gap if its request was sent before and its first token came in it or
right after it; or, where prompts are read in pieces, if the next gap, also long, was such a one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

import numpy as np
from msgspec import UNSET, Struct, UnsetType, field

from spark_bench.arrays import Bools, Counts, Ints
from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, Gaps, TimedRequests, Times

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
# Ends in two heaps: a space between two of them, wider than what separates the tokens of one step,
# and so wide beside the others that chance gives one in a hundred: the largest share of m spaces
# exceeds g with a probability of at most m (1 - g)^(m - 1) (Fisher, "Tests of significance in
# harmonic analysis", 1929).
APART_NS = 2_000_000
CHANCE = 0.01
# So few ends make no heaps: by that formula, hardly any space between them is wide enough.
FEW = 5
# How far delivery alone moves an end against another, in robust standard deviations of gaps, which
# have two such errors themselves; the lengths of two gaps have four.
DELIVERY_DEVIATIONS = 3
# Streams that show how far the tokens of a step are apart.
STEP_STREAMS = 64
# With fewer gaps than this, there is no spread to judge by.
MIN_GAPS = 20
# Prompts read in more pieces than this are followed no further back.
PIECES = 64
# A first token comes within this share of a step after the gap that its prompt caused.
AFTER_MEDIANS = 0.75
# With fewer gaps than this share left, p99 without prompts says nothing.
LEAST_WITHOUT = 0.1
# The most gaps that one gap without a first token stands for.
MOST_WEIGHT = 10.0
# Gaps to look at in one go, for memory.
BLOCK = 1 << 16
# The most requests that a stall names.
NAMED = 8


class Stall(Struct, frozen=True):
    """at: seconds from the run's first send to where it began; ms: the mean length of its gaps but
    for those that began with a stream's first token; if all did, the longest of them.

    streams: how many it stopped, of `running` that were between their first and last token
    whose: "engine" (nearly all of several), "partial", "request" (one of several), or "alone":
        only one stream ran, so the two can't be told apart
    request: its index, when one stream stalled
    prompts: indices of requests whose prompts were read meanwhile, eight at most; left out if there
        are none
    """

    at: float
    ms: float
    streams: int
    running: int
    whose: Whose
    request: int | None = None
    prompts: tuple[int, ...] | UnsetType = UNSET


class Prefills(Struct, frozen=True):
    """What reading prompts did to other streams.

    stalls, total_ms: stalls while prompts were read, and their length
    gaps: share of the gaps between tokens in which a prompt of another request was read
    p99_itl_ms, others_p99_itl_ms: of all gaps, and of the others alone, weighted by the chance that
        a gap of their length has no first token; null: nearly every gap has one
    p99_share: the share of ITL p99 that prompts cause, by these two; null: it can't be told
    """

    stalls: int
    total_ms: float
    gaps: float
    p99_itl_ms: float
    others_p99_itl_ms: float | None
    p99_share: float | None


class Stalls(Struct, frozen=True):
    """median_ms: the run's median gap between deliveries; threshold_ms: what counts as long.

    counts, total_ms: by whose they were; top: the longest first. All empty when the run has too
    few gaps to tell.
    prefills: left out with too few gaps, and in files of earlier versions
    """

    median_ms: float | None = None
    threshold_ms: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    total_ms: dict[str, float] = field(default_factory=dict)
    top: tuple[Stall, ...] = ()
    prefills: Prefills | UnsetType = UNSET


class _Spread(Struct, frozen=True):
    """The spread of a run's gaps in ns, and what is judged by it. deviation: a robust standard
    deviation"""

    median: float
    deviation: float

    @classmethod
    def of(cls, ns: Ints) -> _Spread:
        median = float(np.median(ns))
        return cls(median, SIGMA_PER_MAD * float(np.median(np.abs(ns - median))))

    @property
    def threshold(self) -> float:
        """A longer gap is long."""
        return max(self.median + DEVIATIONS * self.deviation, MEDIANS * self.median, FLOOR_NS)

    @property
    def together(self) -> float:
        """How far the tokens of one step may be apart."""
        return max(TOGETHER_NS, TOGETHER_MEDIANS * self.median)

    @property
    def apart(self) -> float:
        """How far successive begins of a stall may be apart."""
        return max(self.together, self.median + DEVIATIONS * self.deviation)

    @property
    def unequal(self) -> float:
        """Lengths that differ by more are not those of one stall."""
        return max(APART_NS, 2**0.5 * DELIVERY_DEVIATIONS * self.deviation)

    @property
    def moved(self) -> float:
        """How far delivery may move one end against another."""
        return max(APART_NS, DELIVERY_DEVIATIONS * self.deviation)


def stalls(timed: TimedRequests, top: int = 20) -> Stalls:
    """The stalls of all streams, including those that failed later, since they ran as well.

    top: how many of the longest stalls to return one by one
    """
    times = timed.streamed
    gaps = times.gaps()
    # Deltas of one read share a stamp: they are one delivery, with the gap of the first delta.
    separate = gaps.ns[gaps.ns > 0]
    if separate.size < MIN_GAPS:
        return Stalls()
    spread = _Spread.of(separate)
    owner = times.gap_owners()
    reading = _read_during(times, gaps, owner, spread)
    long = _LongGaps(times, gaps, owner, reading, spread)
    stalled = [long.stall(group, timed.began_ns) for group in long.groups()]
    counts = Counter[str](stall.whose for stall in stalled)
    return Stalls(
        median_ms=spread.median / NS_PER_MS,
        threshold_ms=spread.threshold / NS_PER_MS,
        counts=dict(counts),
        total_ms={whose: sum(s.ms for s in stalled if s.whose == whose) for whose in counts},
        top=tuple(sorted(stalled, key=lambda stall: -stall.ms)[:top]),
        prefills=_prefills(timed, gaps, owner, reading, stalled),
    )


class _LongGaps:
    """The long gaps of a run, by position.

    ns, end_ns, began_ns: their lengths, ends and begins; owner: their streams
    opening: those that began with a stream's first token, which may come at any time of a stall
    reading: the request whose prompt was read meanwhile; -1: none
    """

    def __init__(
        self, times: Times, gaps: Gaps, owner: Counts, reading: Counts, spread: _Spread
    ) -> None:
        long = np.flatnonzero(gaps.ns > spread.threshold)
        self.times, self.spread = times, spread
        self.ns, self.end_ns, self.owner = gaps.ns[long], gaps.end_ns[long], owner[long]
        self.began_ns = self.end_ns - self.ns
        self.opening: Bools = self.began_ns == times.first_ns[self.owner]
        self.reading = reading[long]

    def groups(self) -> Iterator[Ints]:
        """Yield the gaps of each stall, as positions."""
        order = np.lexsort((self.ns, self.end_ns))
        for ended in np.split(order, np.flatnonzero(self._are_apart(order)) + 1):
            parts = self._begun_together(ended)
            while parts:
                part = parts.pop()
                part = part[np.argsort(self.end_ns[part], kind="stable")]
                spaces = np.diff(self.end_ns[part])
                widest = int(spaces.argmax()) if spaces.size else 0
                wide = spaces.size > 0 and spaces[widest] > APART_NS
                if wide and (
                    _chance(spaces) < CHANCE or (part.size <= FEW and self._are_two(part, widest))
                ):
                    parts += [part[: widest + 1], part[widest + 1 :]]
                elif part.size:
                    yield part

    def _are_apart(self, ordered: Ints) -> Bools:
        """Whether each of these gaps, in the order of their ends, ended long before the next.

        A pause delays streams that are not in step all equally long: over a whole step.
        """
        spread = self.spread
        equal = np.abs(np.diff(self.ns[ordered])) <= min(spread.unequal, spread.together)
        most = np.where(equal, max(spread.together, spread.median), spread.together)
        return np.asarray(np.diff(self.end_ns[ordered]) > most)

    def _begun_together(self, ended: Ints) -> list[Ints]:
        """Gaps that ended together, apart by when they began; an opening one goes with the last
        that had begun."""
        whole = ended[~self.opening[ended]]
        whole = whole[np.argsort(self.began_ns[whole], kind="stable")]
        breaks = np.flatnonzero(np.diff(self.began_ns[whole]) > self.spread.apart)
        parts = np.split(whole, breaks + 1)
        starts = np.array([self.began_ns[part[0]] for part in parts if part.size], np.int64)
        joined = ended[self.opening[ended]]
        into = np.maximum(np.searchsorted(starts, self.began_ns[joined], side="right") - 1, 0)
        return [np.append(part, joined[into == n]) for n, part in enumerate(parts)]

    def _are_two(self, group: Ints, ended: int) -> bool:
        """Whether the gap at this position of a few and those before it are another stall than the
        rest."""
        left, right = group[ended], group[ended + 1]
        if self.opening[left] or self.opening[right]:
            return False
        middle = self.end_ns[left] - self.ns[left] / 2
        if group.size == 2 and _running(self.times, middle).sum() > 2:
            between = self.end_ns[right] - self.end_ns[left]
            step = _step_ns(self.times, int(self.began_ns[group].max()), self.spread.median)
            return bool(between > max(self.spread.moved, step))
        return bool(abs(self.ns[right] - self.ns[left]) > self.spread.unequal)

    def stall(self, group: Ints, began: int) -> Stall:
        """The stall of these gaps. began: when the run did"""
        times = self.times
        whole = group[~self.opening[group]]
        end = int(self.end_ns[group].min())
        mean = float(self.ns[whole].mean() if whole.size else self.ns[group].max())
        stopped = np.unique(self.owner[group])
        running = max(stopped.size, int(_running(times, end - mean / 2).sum()))
        whose: Whose = "partial"
        if running == 1:
            whose = "alone"
        elif stopped.size == 1:
            whose = "request"
        elif stopped.size >= NEARLY_ALL * running:
            whose = "engine"
        read = self.reading[group]
        prompts = times.index[np.unique(read[read >= 0])[:NAMED]].tolist()
        return Stall(
            at=(end - mean - began) / NS_PER_S,
            ms=mean / NS_PER_MS,
            streams=stopped.size,
            running=running,
            whose=whose,
            request=int(times.index[stopped[0]]) if stopped.size == 1 else None,
            prompts=tuple(prompts) if 2 * (read >= 0).sum() >= read.size else UNSET,
        )


def _chance(spaces: Ints) -> float:
    """The probability that the widest of n random gaps is at least this wide."""
    others = 1 - float(spaces.max() / max(spaces.sum(), 1))
    return float(spaces.size * others ** (spaces.size - 1))


def _running(times: Times, at: float) -> Bools:
    """Which streams were between their first and last token then."""
    return (times.first_ns <= at) & (times.last_ns > at)


def _step_ns(times: Times, at: int, median: float) -> float:
    """How far the tokens of a step are apart, by each stream's last one until `at`; 0: the streams
    are not clearly in step, so a token comes by itself."""
    running = np.flatnonzero(_running(times, at))
    since = [
        at - int(stamps[stamps.searchsorted(at, "right") - 1])
        for n in running[:: running.size // STEP_STREAMS + 1]
        for stamps in [times.token_ns[times.begins[n] : times.ends[n]]]
    ]
    phases = np.sort(np.array(since, np.int64) % int(median))
    around = np.append(np.diff(phases), phases[0] + int(median) - phases[-1])
    return median - float(around.max()) if _chance(around) < CHANCE else 0.0


def _read_during(times: Times, gaps: Gaps, owner: Counts, spread: _Spread) -> Counts:
    """For each gap, the position of a request whose prompt was read during it; -1: none."""
    by_first = np.argsort(times.first_ns, kind="stable")
    firsts = times.first_ns[by_first]
    # A first token right after a gap ended it; one right after its begin ended the gap before.
    after = int(max(TOGETHER_NS, AFTER_MEDIANS * spread.median))
    # Of the first tokens in each gap, that of the request sent first. A step under way ends first.
    by_send = np.argsort(times.sent_ns, kind="stable")
    rank = np.empty(len(times), np.int64)
    rank[by_send] = np.arange(len(times))
    ranks = np.append(rank[by_first], len(times))
    reading = np.full(gaps.ns.size, -1, np.int32)
    for start in range(0, gaps.ns.size, BLOCK):
        ends = gaps.end_ns[start : start + BLOCK]
        began = ends - gaps.ns[start : start + BLOCK]
        low = np.searchsorted(firsts, began + after, side="right")
        high = np.searchsorted(firsts, ends + after, side="right")
        some = np.flatnonzero(high > low)
        if some.size:
            between = np.column_stack([low[some], high[some]]).ravel()
            earliest = by_send[np.minimum.reduceat(ranks, between)[::2]]
            before = times.sent_ns[earliest] <= began[some] + spread.median
            reading[start + some[before]] = earliest[before]
    # Pieces: from the last one back.
    long = np.flatnonzero(gaps.ns > spread.threshold)
    pairs = (np.diff(long) == 1) & (np.diff(owner[long]) == 0)
    first = long[:-1][pairs]
    sent_by = gaps.end_ns[first] - gaps.ns[first] + spread.median
    for _ in range(PIECES):
        then = reading[first + 1]
        more = (reading[first] < 0) & (then >= 0) & (times.sent_ns[then] <= sent_by)
        if not more.any():
            break
        reading[first[more]] = then[more]
    return reading


def _prefills(
    timed: TimedRequests, gaps: Gaps, owner: Counts, reading: Counts, stalled: list[Stall]
) -> Prefills:
    """What prompts did to the other streams, from the gaps of whole answers."""
    times = timed.streamed
    by_prompts = [stall.ms for stall in stalled if stall.prompts]
    whole = times.ok[owner] == 1
    if not whole.all():
        gaps, reading = gaps.where(whole), reading[whole]
    itl = gaps.itl_ms()
    p99, without = float(np.percentile(itl, 99)) if itl.size else 0.0, None
    del itl
    others = reading < 0
    if int(others.sum()) >= max(MIN_GAPS, LEAST_WITHOUT * others.size):
        # A long gap has a first token by chance more often than a short one. So each of the others
        # stands for as many as had none by chance.
        each = gaps.each_ms()[others]
        lasted = int(times.last_ns.max()) - timed.began_ns
        chance = gaps.ns[others] * (len(times) / max(lasted, 1))
        weights = np.maximum(gaps.tokens[others], 1) * np.exp(chance.clip(max=np.log(MOST_WEIGHT)))
        order = np.argsort(each)
        below = np.cumsum(weights[order])
        without = min(p99, float(each[order[np.searchsorted(below, 0.99 * below[-1])]]))
    return Prefills(
        stalls=len(by_prompts),
        total_ms=sum(by_prompts),
        gaps=1 - float(others.mean()) if others.size else 0.0,
        p99_itl_ms=p99,
        others_p99_itl_ms=without,
        p99_share=None if without is None or not p99 else 1 - without / p99,
    )
