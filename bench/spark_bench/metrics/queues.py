"""How many requests a server ran at once, and how long the others waited for a slot, from outside.

A server with N slots that fills a free one at once has begun min(sent, N + ended) requests at any
moment: its k-th beginning is the later of the k-th send and the end of the (k - N)-th answer. In
which order it takes requests does not matter to the mean wait. N is at least the most streams that
emitted at once. Where all in flight did, nobody waited.

Elsewhere the first tokens tell. If N is right, what is left of each TTFT without the wait is work,
b + a x tokens of the batch of prompts, whose first tokens come together. So each N is tried, for
servers that read one batch after another and for those that do not, and what leaves the least
unexplained is taken. If waiting explains little, nothing is said.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from msgspec import UNSET, Struct, UnsetType

from spark_bench.arrays import Ints
from spark_bench.metrics.bounds import Bound, LatencyBounds, mean_bound
from spark_bench.metrics.times import NS_PER_MS, TimedRequests, Times

# Chunks of one step are delivered one after another; first tokens of a batch come within this of
# each other, and streams that overlap by less may not have run at once.
TOGETHER_NS = 1_000_000
# An explanation is as good as the best one if it leaves at most this many times as much.
AS_GOOD = 1.15
# A wait is found if it leaves at most this share of what is left without one.
EXPLAINED = 1 / 3
# Mean waits that differ by this share of the mean TTFT are the same, and one below it is none.
SHARE = 0.05
# A closed loop of equal answers shows its limit only at its start, so what is left there counts as
# much as what is left of the whole run. The start: this many times the most in flight.
EARLY = 4
# Work below this share of a token's time is none: no server reads a prompt so quickly.
LEAST_WORK = 0.1
# The work of servers that read in turn varies no more than this share of its mean.
VARIES = 0.35
# What time stamps leave, in ms.
STAMPS_MS = 0.05
# The most numbers of slots to try.
TRIED = 200


class Queue(Struct, frozen=True):
    """What streams show of a queue for the server's slots; latencies are means in ms.

    emitting: the most streams that emitted tokens at once; the server ran as many at least
    in_flight: the most requests in flight at once
    verdict: "queue": requests waited for a slot; "none": hardly any did; "unknown": neither can be
        told
    slots, slots_low, slots_high: how many the server ran at once, and the fewest and the most that
        explain the times as well; null: no limit was found
    wait_ms: of all requests for a slot; null: unknown
    wait_low_ms, wait_high_ms: the least and the most that explain the times as well; of an unknown
        wait, 0 and the most possible if the server fills free slots at once
    behind_ms: from there until the last first token of another request before its own: as much of
        TTFT may be a wait for prompts of others
    ttft_ms: of the same requests
    ttft_bounds: the lowest and the highest value that it can have; left out: unknown, as in files
        of earlier versions
    """

    emitting: int
    in_flight: int
    verdict: Literal["queue", "none", "unknown"]
    slots: int | None
    slots_low: int | None
    slots_high: int | None
    wait_ms: float | None
    wait_low_ms: float
    wait_high_ms: float
    behind_ms: float
    ttft_ms: float
    ttft_bounds: Bound | UnsetType = UNSET


class _Explanation(Struct, frozen=True):
    """slots: what the server may have; in_turn: whether it reads prompts so; left: of the TTFTs, in
    ms; wait_ms, behind_ms: see Queue."""

    slots: int
    in_turn: bool
    left: float
    wait_ms: float
    behind_ms: float


def queue(timed: TimedRequests, clock_error_ns: int = 0) -> Queue | None:
    """The server's queue, by all requests with a token, even those that failed later; None if there
    are none.

    clock_error_ns: how far the kernel's clock may be off against the client's
    """
    times = timed.streamed
    if not len(times):
        return None
    last_since = times.token_since_ns[times.ends - 1]
    ends = np.where(times.ok == 1, times.last_ns, np.maximum(times.done_ns, times.last_ns))
    emitting = max(1, _peak(times.first_ns, last_since - TOGETHER_NS))
    in_flight = max(emitting, _peak(times.sent_ns, ends))
    every = list(_explanations(times, ends, emitting, in_flight))
    best = min(every, key=lambda each: each.left)
    unlimited = min((e for e in every if e.slots == in_flight), key=lambda each: each.left)
    good = [each for each in every if each.left <= AS_GOOD * best.left]
    low, high = min(e.wait_ms for e in good), max(e.wait_ms for e in good)
    ttft = float((times.first_ns - times.sent_ns).mean()) / NS_PER_MS
    verdict: Literal["queue", "none", "unknown"] = "queue"
    possible = max(each.wait_ms for each in every)
    if possible <= SHARE * ttft or (high <= SHARE * ttft and not best.in_turn):
        verdict, best = "none", unlimited
    elif high - low > 2 * SHARE * ttft or best.left > EXPLAINED * unlimited.left:
        verdict, best, low, high = "unknown", unlimited, 0.0, possible
    tried = [each.slots for each in good] if verdict == "queue" else None
    return Queue(
        emitting=emitting,
        in_flight=in_flight,
        verdict=verdict,
        slots=best.slots if tried else None,
        slots_low=min(tried) if tried else None,
        slots_high=max(tried) if tried else None,
        wait_ms=None if verdict == "unknown" else best.wait_ms,
        wait_low_ms=low,
        wait_high_ms=high,
        behind_ms=best.behind_ms,
        ttft_ms=ttft,
        ttft_bounds=mean_bound(
            *LatencyBounds(times, clock_error_ns / NS_PER_MS).by_request("ttft")
        ),
    )


def _peak(begins: Ints, ends: Ints) -> int:
    """The most of these intervals that were open at once; one that ends before it begins never
    is."""
    valid = ends >= begins
    at = np.concatenate([begins[valid], ends[valid]])
    change = np.repeat(np.array([1, -1]), int(valid.sum()))
    return int(np.cumsum(change[np.lexsort((change, at))]).max(initial=0))


def _explanations(times: Times, ends: Ints, fewest: int, most: int) -> Iterator[_Explanation]:
    """Yield one for each number of slots, for servers that read prompts in turn and for others,
    which take requests in the order of their sends or of their first tokens."""
    gaps = times.gaps().ns
    least_ms = (
        LEAST_WORK * float(np.median(gaps[gaps > 0])) / NS_PER_MS if np.any(gaps > 0) else 0.0
    )
    sends, ends = np.sort(times.sent_ns), np.sort(ends)
    by_first = np.argsort(times.first_ns, kind="stable")
    firsts = times.first_ns[by_first]
    # Batches: where each begins, the tokens that it reads, and the first token before it.
    starts = np.flatnonzero(np.diff(firsts, prepend=firsts[0] - 2 * TOGETHER_NS) > TOGETHER_NS)
    sizes = np.diff(starts, append=firsts.size)
    tokens = np.add.reduceat(np.maximum(times.prompt_tokens[by_first], 1), starts)
    read = np.repeat(tokens.astype(np.float64), sizes)
    turns = np.repeat(np.append(0, firsts[starts[1:] - 1]), sizes)
    by_send = np.argsort(times.sent_ns[by_first], kind="stable")
    few = most - fewest < TRIED
    tried = np.arange(fewest, most + 1) if few else np.geomspace(fewest, most, TRIED).round()
    for slots in np.unique(tried.astype(int)).tolist():
        begun = sends.copy()
        begun[slots:] = np.maximum(begun[slots:], ends[: max(begun.size - slots, 0)])
        wait = float((begun - sends).mean()) / NS_PER_MS
        for order in (by_send, np.arange(begun.size)):
            waiting = np.maximum(turns[order] - begun, 0) / NS_PER_MS
            work = (firsts[order] - begun) / NS_PER_MS
            for in_turn in (False, True):
                own = work - waiting if in_turn else work
                varied = read[order] - read.mean()
                square = float(varied @ varied)
                slope = max(float(varied @ own) / square, 0.0) if square else 0.0
                left = np.abs(own - slope * varied - np.median(own - slope * varied))
                early = left[: EARLY * most].mean() + STAMPS_MS
                score = float(np.sqrt((left.mean() + STAMPS_MS) * early))
                impossible = float(np.median(own)) < least_ms
                if impossible or (in_turn and left.mean() > VARIES * own.mean()):
                    score = np.inf
                yield _Explanation(slots, in_turn, score, wait, float(waiting.mean()))
