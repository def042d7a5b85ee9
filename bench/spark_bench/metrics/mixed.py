"""A load of two kinds of prompts, long ones among short ones: their figures apart, and what reading
the long ones does to the answers that are under way.

From outside, a long prompt is read between its send and its first token: in the server's queue or
in prefill, which can't be told apart here.
"""

from collections.abc import Sequence
from statistics import median

import numpy as np
from msgspec import Struct

from spark_bench.load.profile import is_long
from spark_bench.metrics.times import Floats, Ints, TimedRequests, without_nan


class LatencySpread(Struct, frozen=True):
    """A latency in milliseconds over `n` values; null: there are none."""

    n: int
    mean: float | None
    p50: float | None
    p99: float | None
    max: float | None


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


def mixed_figures(timed: TimedRequests, every: int) -> MixedFigures:
    """The figures of a run. every: one conversation in this many is long"""
    kinds: dict[bool, KindFigures] = {}
    answered = timed.answered
    long = np.array([is_long(r.conversation, every) for r in timed.requests], np.bool_)
    whose = {request.index: kind for request, kind in zip(timed.requests, long, strict=True)}
    of_long = np.array([whose[index] for index in answered.index.tolist()], np.bool_)
    for kind in (False, True):
        times = answered.where(of_long == kind)
        failed = sum(
            not r.ok for r, other in zip(timed.requests, long, strict=True) if other == kind
        )
        kinds[kind] = KindFigures(
            completed=len(times),
            failed=failed,
            itl_ms=_spread(times.gaps().itl_ms()),
            **{
                f"{name}_ms": _spread(without_nan(times.latency_ms(name)))
                for name in ("ttft", "tpot", "e2e_latency")
            },
        )
    # A long prompt that failed later was read all the same.
    streamed = timed.streamed
    reading = streamed.where(np.array([whose[i] for i in streamed.index.tolist()], np.bool_))
    spans = merge_spans(reading.sent_ns, reading.first_ns)
    gaps = answered.where(~of_long).gaps()
    begun = np.searchsorted(spans[0], gaps.end_ns, side="left")
    over = np.searchsorted(spans[1], gaps.end_ns - gaps.ns, side="right")
    inside = begun > over
    ended = int(answered.last_ns.max(initial=timed.began_ns))
    covered = (np.minimum(spans[1], ended) - np.minimum(spans[0], ended)).sum()
    return MixedFigures(
        short=kinds[False],
        long=kinds[True],
        during=_spread(gaps.where(inside).itl_ms()),
        otherwise=_spread(gaps.where(~inside).itl_ms()),
        share=float(covered) / max(1, ended - timed.began_ns),
    )


def _spread(values: Floats) -> LatencySpread:
    if not values.size:
        return LatencySpread(0, None, None, None, None)
    p50, p99 = np.percentile(values, [50, 99])
    return LatencySpread(
        values.size, float(values.mean()), float(p50), float(p99), float(values.max())
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
        middles = [
            median(there) if (there := [v for v in values if v is not None]) else None
            for values in zip(*((s.mean, s.p50, s.p99, s.max) for s in spreads), strict=True)
        ]
        return LatencySpread(sum(spread.n for spread in spreads), *middles)

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
