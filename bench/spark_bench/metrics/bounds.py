"""The lowest and the highest value that each figure of a run can have, guaranteed.

Each time of a run lies between two known moments (`record.Request`), so each latency does, and so
does each figure that only grows when latencies grow: means, percentiles, durations; throughput and
shares, which only fall. A figure itself is computed from the latest moments, so it is mostly equal
to one of its bounds.

These are no confidence intervals. They say how far a figure may be from what really happened in
this run; how far another run would be from it is in `intervals`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from statistics import median
from typing import Any

import numpy as np
from msgspec import UNSET, Struct, UnsetType

from spark_bench.arrays import Bools, Counts, Floats, Ints, without_nan
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.goodput import NAMES, Slo
from spark_bench.metrics.steady import Steady
from spark_bench.metrics.summary import BY_REQUEST, describe_latency
from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, TimedRequests, Times, ended_ns
from spark_bench.record import Request

# A figure is exact if it is at most this far off: the larger of the two. People act on differences
# of several percent, and a switch and a network card alone add 0.1 ms.
EXACT_SHARE, EXACT_MS = 0.01, 0.1


class Bound(Struct, frozen=True):
    """The lowest and the highest value that a figure can have."""

    low: float
    high: float

    def off(self, value: float) -> float:
        """How far a figure of this value is from the true one, at most."""
        return max(value - self.low, self.high - value, 0.0)


def is_exact(name: str, value: float, bound: Bound) -> bool:
    """Whether a figure is known well enough to be used in place of the true one."""
    absolute = EXACT_MS if name.endswith("_ms") else 0.0
    return bound.off(value) <= max(EXACT_SHARE * abs(value), absolute)


def mean_bound(lows: Floats, highs: Floats) -> Bound:
    """The bounds of a mean, by those of its values."""
    return Bound(float(lows.mean()), float(highs.mean()))


class LatencyBounds:
    """The shortest and the longest that each latency of these requests can have been, in ms.

    error_ms: how far the kernel's clock may be off against the client's, in ms
    """

    def __init__(self, times: Times, error_ms: float = 0.0) -> None:
        self.times = times
        self.error_ms = error_ms

    def by_request(self, name: str) -> tuple[Floats, Floats]:
        """As `Times.latency_ms`: one pair of values per request, NaN where there is none."""
        times = self.times
        match name:
            case "tpot":
                after = np.where(times.after > 0, times.after, np.nan)
                shortest, longest = self.spans_ms
                return shortest / after, longest / after
            case "longest_itl":
                return self._longest_itl()
        end, since, from_sent = {
            "ttft": (times.first_ns, self.first_since_ns, True),
            "ttfc": (times.first_event_ns, times.first_event_since_ns, True),
            "ttfo": (times.text_ns, times.text_since_ns, True),
            "e2e_latency": (times.last_ns, self.last_since_ns, True),
            "e2e_done": (times.done_ns, times.done_since_ns, True),
            "scheduled_ttft": (times.first_ns, self.first_since_ns, False),
            "scheduled_e2e_latency": (times.last_ns, self.last_since_ns, False),
        }[name]
        since = np.where(since > 0, since, end)
        start, start_by = times.sent_ns, self.sent_by_ns
        if not from_sent:
            start = start_by = times.scheduled_ns
        happened = (end > 0) & (start > 0)
        shortest = np.maximum((since - start_by) / NS_PER_MS - self.error_ms, 0.0)
        longest = (end - start) / NS_PER_MS + self.error_ms
        return np.where(happened, shortest, np.nan), np.where(happened, longest, np.nan)

    @property
    def first_since_ns(self) -> Ints:
        """The earliest at which each request's first visible token can have come."""
        return self.times.token_since_ns[self.times.begins]

    @property
    def last_since_ns(self) -> Ints:
        """The earliest at which each request's last token can have come."""
        return self.times.token_since_ns[self.times.ends - 1]

    @property
    def sent_by_ns(self) -> Ints:
        """When each request had been sent; where that is unknown, when its answer began."""
        times = self.times
        return np.where(times.sent_by_ns > 0, times.sent_by_ns, times.first_event_ns)

    @cached_property
    def spans_ms(self) -> tuple[Floats, Floats]:
        """From first to last token of each request."""
        times = self.times
        shortest = np.maximum(self.last_since_ns - times.first_ns, 0) / NS_PER_MS
        return shortest, (times.last_ns - self.first_since_ns) / NS_PER_MS

    def mean_gap_ms(self, gaps: int) -> Bound:
        """The mean of that many gaps, all those of answers of several tokens. What shortens a gap
        lengthens the next, so it is that of whole answers, known better than their gaps are."""
        several = self.times.after > 0
        low, high = (float(spans[several].sum()) / gaps for spans in self.spans_ms)
        return Bound(low, high)

    def _longest_itl(self) -> tuple[Floats, Floats]:
        owners, longest = self.times.gap_owners(), []
        for gaps in self.times.gap_bounds():
            of_request = np.full(len(self.times), -np.inf)
            np.maximum.at(of_request, owners, gaps.each_ms())
            of_request[np.isinf(of_request)] = np.nan
            longest.append(of_request)
        return longest[0], longest[1]


def bound_figures(
    timed: TimedRequests, summary: Summary, *, slo: Slo | None = None, clock_error_ns: int = 0
) -> dict[str, Bound]:
    """The bounds of a run's figures, by key of `Summary`.

    slo: the objectives that the summary's goodput is about
    clock_error_ns: how far the kernel's clock may be off against the client's

    Those of the steady part are "steady.output_throughput" and so on, for the same window. Without
    bounds: counts of the whole run, which are exact.
    """
    times = timed.answered
    if not len(times):
        return {}
    latencies = LatencyBounds(times, clock_error_ns / NS_PER_MS)
    bounds: dict[str, Bound] = {}
    for name in BY_REQUEST:
        shortest, longest = latencies.by_request(name)
        bounds |= _latency(name, without_nan(shortest), without_nan(longest), summary)
    bounds |= _gaps(latencies, summary)
    seconds = _duration(timed, latencies)
    bounds["duration"] = seconds
    for name in ("request", "input", "output", "total"):
        rate = getattr(summary, f"{name}_throughput")
        if rate is not None and summary.duration and seconds.low > 0:
            amount = rate * summary.duration
            bounds[f"{name}_throughput"] = Bound(amount / seconds.high, amount / seconds.low)
    if seconds.low > 0:
        shortest, longest = latencies.by_request("e2e_latency")
        bounds["concurrency"] = Bound(
            float(np.nansum(shortest)) / 1e3 / seconds.high,
            float(np.nansum(longest)) / 1e3 / seconds.low,
        )
    if slo:
        bounds |= _goodput(timed.requests, latencies, slo, summary, seconds)
    if summary.max_output_tokens_per_s is not None:
        bounds["max_output_tokens_per_s"] = _best_second(timed)
    if summary.steady:
        steady = _steady(timed, latencies, summary.steady)
        bounds |= {f"steady.{name}": bound for name, bound in steady.items()}
    return bounds


def _best_second(timed: TimedRequests) -> Bound:
    """The tokens of the best second since the first send, which was when it began or later."""
    times, began = timed.answered, timed.began_ns
    begun_by = [request.sent_by_ns for request in timed.requests if request.sent_by_ns]
    latest = min(begun_by, default=int(times.first_event_ns.min()))
    first = np.maximum((times.token_since_ns - latest) // int(NS_PER_S), 0)
    last = (times.token_ns - began) // int(NS_PER_S)
    sure = first == last
    fewest = np.bincount(last[sure], times.token_counts[sure], minlength=1).max()
    change = np.zeros(int(last.max()) + 2)
    np.add.at(change, first, times.token_counts)
    np.add.at(change, last + 1, -times.token_counts)
    return Bound(float(fewest), float(np.cumsum(change).max()))


def _steady(timed: TimedRequests, latencies: LatencyBounds, steady: Steady) -> dict[str, Bound]:
    """The bounds of the figures of this window: what surely lies in it, and what may."""
    times, began = timed.answered, timed.began_ns
    start, end = (began + round(edge * NS_PER_S) for edge in (steady.start, steady.end))
    seconds = (end - start) / NS_PER_S
    tokens = times.token_counts.astype(np.int64)
    tokens[times.begins] += times.hidden_tokens
    since, at = times.token_since_ns, times.token_ns
    sure, possible = (since > start) & (at <= end), (at > start) & (since <= end)
    output = Bound(float(tokens[sure].sum()), float(tokens[possible].sum()))
    whole = (latencies.last_since_ns > start) & (times.last_ns <= end)
    perhaps = (times.last_ns > start) & (latencies.last_since_ns <= end)
    completed = Bound(float(whole.sum()), float(perhaps.sum()))
    spans = np.array(
        [
            (r.sent_ns, r.sent_by_ns or r.sent_ns, r.done_since_ns or ended_ns(r), ended_ns(r))
            for r in timed.requests
            if r.sent_ns
        ],
        np.int64,
    ).clip(start, end)
    shortest, longest = np.maximum(spans[:, 2] - spans[:, 1], 0), spans[:, 3] - spans[:, 0]
    sent_by = latencies.sent_by_ns
    inside = (times.sent_ns >= start) & (sent_by < end)
    around = (sent_by >= start) & (times.sent_ns < end)
    later = np.ones(at.size, bool)
    later[times.begins] = False
    later = later[1:]
    gaps_in = ((since[:-1] >= start) & (at[1:] <= end))[later]
    gaps_around = ((at[:-1] >= start) & (since[1:] <= end))[later]
    low, high = times.gap_bounds()
    return {
        "output_tokens": output,
        "output_throughput": Bound(output.low / seconds, output.high / seconds),
        "completed": completed,
        "request_throughput": Bound(completed.low / seconds, completed.high / seconds),
        "concurrency": Bound(
            float(shortest.sum()) / (end - start), float(longest.sum()) / (end - start)
        ),
        **_named("ttft", uncertain(latencies.by_request("ttft"), inside, around)),
        **_named(
            "itl",
            uncertain((low.each_ms(), high.each_ms()), gaps_in, gaps_around, low.tokens),
        ),
    }


def _named(latency: str, bounds: Mapping[str, Bound]) -> dict[str, Bound]:
    """The bounds that the steady part states, by its keys."""
    statistics = {"mean": "mean", "median": "p50", "p99": "p99"}
    return {
        f"{word}_{latency}_ms": bounds[key] for word, key in statistics.items() if key in bounds
    }


def uncertain(
    spans: Iterable[Floats], sure: Bools, possible: Bools, counts: Counts | None = None
) -> dict[str, Bound]:
    """The bounds of the mean, p50, p99 and max over the sure values and any of the possible.

    Adding a value moves each of these toward it. So the lowest figure is that of the sure ones at
    their shortest, alone or with the lowest value of the others as often as there are others.

    spans: at their shortest, and at their longest; counts: how often each value counts
    """
    statistics: dict[str, Callable[[Floats], Any]] = {
        "mean": np.mean,
        "p50": np.median,
        "p99": partial(np.percentile, q=99),
        "max": np.max,
    }
    lows, highs = dict[str, float](), dict[str, float]()
    for values, extreme, figures in zip(spans, (np.min, np.max), (lows, highs), strict=True):
        valid = ~np.isnan(values)
        inside, others = (
            values[each] if counts is None else np.repeat(values[each], counts[each])
            for each in (sure & valid, possible & ~sure & valid)
        )
        if inside.size:
            figures |= {key: float(statistic(inside)) for key, statistic in statistics.items()}
        if others.size:
            others.fill(extreme(others))
            inside = np.append(inside, others)
            for key, statistic in statistics.items():
                value = float(statistic(inside))
                figures[key] = float(extreme([figures.get(key, value), value]))
    return {key: Bound(low, highs[key]) for key, low in lows.items()}


def _duration(timed: TimedRequests, latencies: LatencyBounds) -> Bound:
    """From the first send to the last token, in seconds."""
    times, error = latencies.times, latencies.error_ms / 1e3
    begun_by = [request.sent_by_ns for request in timed.requests if request.sent_by_ns]
    latest = min(begun_by, default=int(times.first_event_ns.min()))
    shortest = (int(latencies.last_since_ns.max()) - latest) / NS_PER_S
    longest = (int(times.last_ns.max()) - timed.began_ns) / NS_PER_S
    return Bound(max(shortest - error, 0.0), longest + error)


def _latency(name: str, shortest: Floats, longest: Floats, summary: Summary) -> dict[str, Bound]:
    """The bounds of a latency's mean, percentiles, maximum and standard deviation."""
    spread = getattr(summary, f"std_{name}_ms")
    # The standard deviation changes by no more than the root mean square of all changes, as the
    # distance of two vectors is at least that of their lengths.
    off = float(np.sqrt(np.mean((longest - shortest) ** 2))) if longest.size else 0.0
    lows, highs = describe_latency(name, shortest), describe_latency(name, longest)
    bounds = {key: Bound(low, highs[key]) for key, low in lows.items()}
    if spread is not None:
        bounds[f"std_{name}_ms"] = Bound(max(spread - off, 0.0), spread + off)
    return bounds


def _gaps(latencies: LatencyBounds, summary: Summary) -> dict[str, Bound]:
    """The bounds of ITL and ICL."""
    shortest, longest = latencies.times.gap_bounds()
    bounds = _latency("itl", shortest.itl_ms(), longest.itl_ms(), summary)
    bounds |= _latency("icl", shortest.ns / NS_PER_MS, longest.ns / NS_PER_MS, summary)
    for name, count in (("itl", int(latencies.times.after.sum())), ("icl", shortest.ns.size)):
        if f"mean_{name}_ms" in bounds and count:
            bounds[f"mean_{name}_ms"] = latencies.mean_gap_ms(count)
    return bounds


def _goodput(
    requests: Sequence[Request],
    latencies: LatencyBounds,
    slo: Slo,
    summary: Summary,
    seconds: Bound,
) -> dict[str, Bound]:
    limits: Mapping[str, float] = slo.limits_ms
    shortest = [latencies.by_request(NAMES[name])[0] <= limit for name, limit in limits.items()]
    longest = [~(latencies.by_request(NAMES[name])[1] > limit) for name, limit in limits.items()]
    # A latency that an answer does not have misses no objective.
    lacking = [np.isnan(latencies.by_request(NAMES[name])[0]) for name in limits]
    possible = [met | none for met, none in zip(shortest, lacking, strict=True)]
    fewest = int(np.logical_and.reduce(longest).sum())
    most = int(np.logical_and.reduce(possible).sum())
    bounds = {}
    if summary.slo_attainment is not None:
        sent = sum(request.sent_ns > 0 for request in requests)
        bounds["slo_attainment"] = Bound(fewest / sent, most / sent)
    if summary.request_goodput is not None and seconds.low > 0:
        bounds["request_goodput"] = Bound(fewest / seconds.high, most / seconds.low)
    return bounds


def median_bounds(
    repeats: Sequence[dict[str, Bound] | UnsetType],
) -> dict[str, Bound] | UnsetType:
    """The bounds of the medians over several repeats: the medians of their bounds."""
    present = [bounds for bounds in repeats if bounds is not UNSET]
    if not present or len(present) < len(repeats):
        return UNSET
    names = [name for name in present[0] if all(name in bounds for bounds in present)]
    return {
        name: Bound(
            median(bounds[name].low for bounds in present),
            median(bounds[name].high for bounds in present),
        )
        for name in names
    }
