"""Whole distributions at fixed points, small enough for a result file, for plots."""

import numpy as np
from msgspec import Struct

from spark_bench.metrics.times import Floats, TimedRequests, without_nan

# 0, 0.5 ... 100, and finer where tails differ: 99.1 ... 99.9.
POINTS = tuple(sorted({i / 2 for i in range(201)} | {(990 + i) / 10 for i in range(1, 10)}))


class Distributions(Struct, frozen=True):
    """Quantiles in ms at `points` (percent); empty where the run has nothing of the kind."""

    points: tuple[float, ...]
    ttft_ms: tuple[float, ...]
    itl_ms: tuple[float, ...]
    tpot_ms: tuple[float, ...]
    e2e_latency_ms: tuple[float, ...]


def distributions(timed: TimedRequests) -> Distributions:
    """Of the whole answers among them."""
    times = timed.answered
    return Distributions(
        points=POINTS,
        ttft_ms=_quantiles(without_nan(times.latency_ms("ttft"))),
        itl_ms=_quantiles(times.gaps().itl_ms()),
        tpot_ms=_quantiles(without_nan(times.latency_ms("tpot"))),
        e2e_latency_ms=_quantiles(without_nan(times.latency_ms("e2e_latency"))),
    )


def _quantiles(values: Floats) -> tuple[float, ...]:
    if not values.size:
        return ()
    return tuple(np.percentile(values, POINTS, overwrite_input=True).tolist())
