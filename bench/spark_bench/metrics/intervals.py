"""Confidence intervals: over the repeats of a run, within one run over its requests, of a share."""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from msgspec import Struct

from spark_bench.arrays import Floats, Ints, without_nan
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, TimedRequests

LEVEL = 0.95
# So many that the ends of a 95 % interval move by only a few percent of its width between seeds.
RESAMPLES = 1000
FEWEST_RESAMPLES = 200
# Indices drawn in all, which bounds the time (0.1 s per figure), and at once, which bounds memory.
MOST_DRAWS = 2_000_000
BLOCK_DRAWS = 250_000

# The figures that runs are compared by.
MAIN = (
    "duration",
    "request_throughput",
    "input_throughput",
    "output_throughput",
    "total_throughput",
    "request_goodput",
    "concurrency",
    *(
        f"{figure}_{name}_ms"
        for name in ("ttft", "itl", "tpot", "e2e_latency", "scheduled_ttft")
        for figure in ("mean", "median", "p99")
    ),
)

Sampled = Callable[[Ints], Floats]


class Interval(Struct, frozen=True):
    """Where a figure lies, with probability `level`: between low and high.

    estimate: over repeats their mean, within a run the run's own figure
    median: over repeats; None within a run
    n: repeats, or requests
    """

    estimate: float
    low: float
    high: float
    n: int
    method: Literal["student-t", "bootstrap"]
    median: float | None = None
    level: float = LEVEL


def wilson(right: int, n: int, level: float = LEVEL) -> tuple[float, float] | tuple[None, None]:
    """Wilson's score interval of a share: `right` of `n`; (None, None) of nothing.

    Unlike the normal approximation it stays between 0 and 1, and has a width at 0 and 1 too
    (E. B. Wilson, JASA 22, 1927, pp. 209-212).

    >>> "{:.4f} {:.4f}".format(*wilson(8, 10))
    '0.4902 0.9433'
    """
    if not n:
        return None, None
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, width = right / n, z * z / n
    middle = (share + width / 2) / (1 + width)
    half = z / (1 + width) * sqrt(share * (1 - share) / n + width / (4 * n))
    # At the ends the formula is exact, and its rounding errors are not.
    return (middle - half if right else 0.0), (middle + half if right < n else 1.0)


def over_repeats(summaries: Sequence[Summary]) -> dict[str, Interval]:
    """The interval of each figure's mean over the repeats, by key of `Summary`.

    By Student's t, which assumes that repeats are independent and their figures about normal.
    Figures that fewer than two repeats have are left out.
    """
    if len(summaries) < 2:
        return {}
    from scipy.special import stdtrit  # scipy.stats takes 0.7 s and 70 MB for it

    figures = {}
    for name in MAIN:
        measured = [getattr(summary, name) for summary in summaries]
        values = np.array([value for value in measured if value is not None])
        if values.size >= 2:
            mean, middle = float(values.mean()), float(np.median(values))
            quantile = stdtrit(values.size - 1, (1 + LEVEL) / 2)
            half = float(quantile * values.std(ddof=1) / np.sqrt(values.size))
            figures[name] = Interval(
                mean, mean - half, mean + half, values.size, "student-t", middle
            )
    return figures


def over_requests(timed: TimedRequests, *, seed: int = 0) -> dict[str, Interval]:
    """Intervals within one run, by key of `Summary`: a percentile bootstrap (Efron) over requests.

    Whole requests are drawn, not gaps: the gaps of one request depend on each other. Requests that
    ran together depend on each other too (they share the engine's luck), so these intervals are
    the narrowest that can be defended; repeats tell more. output_throughput is concurrency x
    tokens / sum of E2E, at the concurrency that was achieved.

    seed: of the draws; the same seed gives the same intervals
    """
    times = timed.answered
    rng = np.random.default_rng(seed)
    figures: dict[str, Interval] = {}
    for name in ("ttft", "tpot"):
        figures |= _latency(name, without_nan(times.latency_ms(name)), rng)
    if len(times) < 2:
        return figures
    several = times.after > 0
    if several.sum() >= 2:
        spans = (times.last_ns - times.first_ns)[several] / NS_PER_MS
        figures["mean_itl_ms"] = _ratio(spans, times.after[several], 1.0, rng)
    seconds = times.latency_ms("e2e_latency") / 1e3
    whole = (int(times.last_ns.max()) - timed.began_ns) / NS_PER_S
    concurrency = float(seconds.sum()) / whole
    figures["output_throughput"] = _ratio(times.output_tokens, seconds, concurrency, rng)
    return figures


def _latency(name: str, values: Floats, rng: np.random.Generator) -> dict[str, Interval]:
    if values.size < 2:
        return {}

    def sampled(drawn: Ints) -> Floats:
        each = values[drawn]
        mean = each.mean(axis=1)
        return np.stack([mean, *np.percentile(each, (50, 99), axis=1, overwrite_input=True)])

    estimates = [values.mean(), *np.percentile(values, (50, 99))]
    ends = _bootstrap(sampled, values.size, rng)
    keys = (f"mean_{name}_ms", f"median_{name}_ms", f"p99_{name}_ms")
    return {
        key: Interval(float(estimate), float(low), float(high), values.size, "bootstrap")
        for key, estimate, (low, high) in zip(keys, estimates, ends.T, strict=True)
    }


def _ratio(
    above: Floats | Ints, below: Floats | Ints, scale: float, rng: np.random.Generator
) -> Interval:
    """The interval of scale x sum(above) / sum(below)."""

    def sampled(drawn: Ints) -> Floats:
        ratio: Floats = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
        return ratio[np.newaxis]

    low, high = _bootstrap(sampled, above.size, rng)[:, 0] * scale
    estimate = scale * float(above.sum() / below.sum())
    return Interval(estimate, float(low), float(high), above.size, "bootstrap")


def _bootstrap(sampled: Sampled, n: int, rng: np.random.Generator) -> Floats:
    """The ends of the intervals, of shape (2, figures).

    sampled: computes figures of shape (figures, resamples) from drawn indices (resamples, n)
    n: the number of requests
    """
    resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_DRAWS // n))
    block = max(1, BLOCK_DRAWS // n)
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    drawn = [sampled(rng.integers(0, n, (size, n))) for size in sizes]
    tail = 50 * (1 - LEVEL)
    ends: Floats = np.percentile(np.concatenate(drawn, axis=1), (tail, 100 - tail), axis=1)
    return ends
