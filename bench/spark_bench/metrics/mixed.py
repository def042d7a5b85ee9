"""A load of two kinds of prompts, long ones among short ones: their figures apart, and what reading
the long ones does to the answers that are under way.

From outside, a long prompt is read between its send and its first token: in the server's queue or
in prefill, which can't be told apart here.
"""

from collections.abc import Sequence
from statistics import median

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from spark_bench.arrays import Bools, Floats, Ints, without_nan
from spark_bench.load.profile import is_long
from spark_bench.metrics.bounds import Bound, LatencyBounds, median_bounds, uncertain
from spark_bench.metrics.times import NS_PER_MS, Gaps, TimedRequests, Times


class LatencySpread(Struct, frozen=True):
    """A latency in milliseconds over `n` values; null: there are none.

    bounds: the lowest and the highest value that each of the others can have; left out: unknown, as
        in files of earlier versions
    """

    n: int
    mean: float | None
    p50: float | None
    p99: float | None
    max: float | None
    bounds: dict[str, Bound] | UnsetType = UNSET


class KindFigures(Struct, frozen=True, kw_only=True):
    """The requests of one kind: whole answers, failed ones, and the latencies of the whole ones, as
    in the summary."""

    completed: int
    failed: int
    ttft_ms: LatencySpread
    itl_ms: LatencySpread
    tpot_ms: LatencySpread
    e2e_latency_ms: LatencySpread


class MixedFigures(Struct, frozen=True, kw_only=True):
    """The two kinds of prompts, and what one does to the other.

    during, otherwise: the ITL of short answers in gaps in which a long prompt waited for its first
        token, and in all others
    share: of the time from the first send to the last token, in which a long prompt did
    """

    short: KindFigures
    long: KindFigures
    during: LatencySpread
    otherwise: LatencySpread
    share: float


def mixed_figures(timed: TimedRequests, every: int, clock_error_ns: int = 0) -> MixedFigures:
    """The figures of a run.

    every: one conversation in this many is long
    clock_error_ns: how far the kernel's clock may be off against the client's
    """
    long = {r.index: is_long(r.conversation, every) for r in timed.requests}
    answered, streamed = timed.answered, timed.streamed
    of_long, reading = (
        np.array([long[index] for index in times.index.tolist()], np.bool_)
        for times in (answered, streamed)
    )
    short, whole = (answered.where(chosen) for chosen in (~of_long, of_long))
    failed = [long[request.index] for request in timed.requests if not request.ok]
    # A long prompt that failed later was read all the same.
    prompts = LatencyBounds(streamed.where(reading), clock_error_ns / NS_PER_MS)
    during, otherwise = _apart(short, prompts, clock_error_ns)
    spans = merge_spans(prompts.times.sent_ns, prompts.times.first_ns)
    ended = int(answered.last_ns.max(initial=timed.began_ns))
    covered = (np.minimum(spans[1], ended) - np.minimum(spans[0], ended)).sum()
    return MixedFigures(
        short=_kind(short, failed.count(False), prompts.error_ms),
        long=_kind(whole, failed.count(True), prompts.error_ms),
        during=during,
        otherwise=otherwise,
        share=float(covered) / max(1, ended - timed.began_ns),
    )


def _kind(times: Times, failed: int, error_ms: float) -> KindFigures:
    latencies = LatencyBounds(times, error_ms)
    every, gaps = np.ones(len(times), np.bool_), times.gaps()
    each = np.ones(gaps.ns.size, np.bool_)
    itl = _gap_spread(gaps, times.gap_bounds(), each, each, each)
    if itl.bounds:
        itl = replace(itl, bounds=itl.bounds | {"mean": latencies.mean_gap_ms(itl.n)})
    return KindFigures(
        completed=len(times),
        failed=failed,
        itl_ms=itl,
        **{
            f"{name}_ms": _spread(
                without_nan(times.latency_ms(name)),
                uncertain(latencies.by_request(name), every, every),
            )
            for name in ("ttft", "tpot", "e2e_latency")
        },
    )


def _apart(
    short: Times, prompts: LatencyBounds, error_ns: int
) -> tuple[LatencySpread, LatencySpread]:
    """The ITL of gaps in which one of these prompts waited for its first token, and of all others.

    Which gaps those are is uncertain where a time is: surely the ones that even at their shortest
    overlap a wait at its shortest, and possibly those that do at their longest.
    """
    waits, (low, high) = prompts.times, short.gap_bounds()
    gaps = short.gaps()
    begun_by, begun_since = gaps.end_ns - gaps.ns, gaps.end_ns - high.ns
    inside = _overlaps(begun_by, gaps.end_ns, waits.sent_ns, waits.first_ns)
    sure = (low.ns > 0) & _overlaps(
        begun_by, begun_by + low.ns, prompts.sent_by_ns + error_ns, prompts.first_since_ns
    )
    possible = _overlaps(begun_since, gaps.end_ns, waits.sent_ns - error_ns, waits.first_ns)
    return (
        _gap_spread(gaps, (low, high), inside, sure, possible),
        _gap_spread(gaps, (low, high), ~inside, ~possible, ~sure),
    )


def _overlaps(begins: Ints, ends: Ints, starts: Ints, stops: Ints) -> Bools:
    """Which of the intervals overlap one of the others; empty ones of these don't count."""
    valid = stops > starts
    starts, stops = merge_spans(starts[valid], stops[valid])
    begun = np.searchsorted(starts, ends, side="left")
    over = np.searchsorted(stops, begins, side="right")
    return np.asarray(begun > over)


def _gap_spread(
    gaps: Gaps, ends: tuple[Gaps, Gaps], chosen: Bools, sure: Bools, possible: Bools
) -> LatencySpread:
    """The ITL of the chosen gaps: all that are sure, and some of the possible ones."""
    each = (end.each_ms() for end in ends)
    return _spread(gaps.where(chosen).itl_ms(), uncertain(each, sure, possible, gaps.tokens))


def _spread(values: Floats, bounds: dict[str, Bound]) -> LatencySpread:
    if not values.size:
        return LatencySpread(0, None, None, None, None)
    p50, p99 = np.percentile(values, [50, 99])
    return LatencySpread(
        values.size, float(values.mean()), float(p50), float(p99), float(values.max()), bounds
    )


def merge_spans(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Intervals as ones that do not overlap, in order."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    if not starts.size:
        return starts, ends
    latest = np.maximum.accumulate(ends)
    first = np.append(True, starts[1:] > latest[:-1])
    last = np.append(np.flatnonzero(first)[1:] - 1, starts.size - 1)
    return starts[first], latest[last]


def merge_mixed(repeats: Sequence[MixedFigures]) -> MixedFigures:
    """Several repeats: counts are sums, others medians over the repeats that have the figure."""

    def together(spreads: Sequence[LatencySpread]) -> LatencySpread:
        middles = {
            name: median(there) if (there := [v for v in values if v is not None]) else None
            for name in ("mean", "p50", "p99", "max")
            for values in [[getattr(spread, name) for spread in spreads]]
        }
        bounds = median_bounds([spread.bounds for spread in spreads if spread.n])
        return LatencySpread(n=sum(spread.n for spread in spreads), bounds=bounds, **middles)

    def kind(kinds: Sequence[KindFigures]) -> KindFigures:
        return KindFigures(
            completed=sum(each.completed for each in kinds),
            failed=sum(each.failed for each in kinds),
            ttft_ms=together([each.ttft_ms for each in kinds]),
            itl_ms=together([each.itl_ms for each in kinds]),
            tpot_ms=together([each.tpot_ms for each in kinds]),
            e2e_latency_ms=together([each.e2e_latency_ms for each in kinds]),
        )

    return MixedFigures(
        short=kind([each.short for each in repeats]),
        long=kind([each.long for each in repeats]),
        during=together([each.during for each in repeats]),
        otherwise=together([each.otherwise for each in repeats]),
        share=median(each.share for each in repeats),
    )
