"""The summary of one run from its requests, and whole distributions for plots."""

from collections import Counter
from typing import Any

import numpy as np
from msgspec import Struct

from spark_bench.arrays import Floats, without_nan
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.goodput import Slo, goodput
from spark_bench.metrics.steady import steady
from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, TimedRequests, Times
from spark_bench.record import Request

# The latencies with one value per request; itl and icl are pooled over all requests.
BY_REQUEST = (
    "ttft",
    "tpot",
    "e2e_latency",
    "ttfc",
    "ttfo",
    "scheduled_ttft",
    "scheduled_e2e_latency",
    "e2e_done",
)
# Percentiles of a stored distribution, few enough for a result file: 0, 0.5 ... 100, and finer
# where tails differ: 99.1 ... 99.9.
POINTS = tuple(sorted({i / 2 for i in range(201)} | {(990 + i) / 10 for i in range(1, 10)}))
QUANTILES = {"median": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}


def summarize(timed: TimedRequests, *, slo: Slo | None = None, slots: int | None = None) -> Summary:
    """All figures of a run.

    slo: latency objectives; None: no goodput
    slots: how many requests a closed loop kept in flight; None: an open loop
    """
    requests, times = timed.requests, timed.answered
    lasted_ns = int(times.last_ns.max()) - timed.began_ns if len(times) else None
    duration = None if lasted_ns is None else lasted_ns / NS_PER_S
    window, reason = steady(timed, slots)
    tokens: Counter[str] = Counter()
    for request in requests:
        if request.ok and request.token_counts.size:
            tokens[request.counted_by] += int(request.token_counts[1:].sum())
    objectives: dict[str, Any] = {}
    if slo:
        good = goodput(timed, slo)
        objectives = {
            "goodput_slos_ms": slo.limits_ms,
            "request_goodput": good.met / duration if duration else None,
            "slo_attainment": good.attainment,
            "slo_attainment_by_metric": good.by_metric,
        }
    return Summary(
        duration=duration,
        peak_concurrency=timed.concurrency.peak,
        itl_source={source: n / tokens.total() for source, n in tokens.items() if n},
        steady=window,
        steady_reason=reason,
        **_counts(timed, duration),
        **_latencies(times),
        **objectives,
    )


def describe_latency(name: str, values: Floats) -> dict[str, float]:
    """A latency's figures by key ("mean_ttft_ms", ...); none without values.

    values: in ms; they are reordered
    """
    if not values.size:
        return {}
    plain = {"mean": values.mean(), "std": values.std(), "max": values.max()}
    ranks = np.percentile(values, list(QUANTILES.values()), overwrite_input=True)
    figures = plain | dict(zip(QUANTILES, ranks, strict=True))
    return {f"{figure}_{name}_ms": float(value) for figure, value in figures.items()}


def input_tokens(request: Request) -> int:
    """A request's prompt tokens: as the server counted them; if it didn't, as requested."""
    return request.prompt_tokens or request.asked_input or 0


def _counts(timed: TimedRequests, duration: float | None) -> dict[str, Any]:
    """Requests and tokens, and how many of each per second; no rates without a duration."""
    whole = [request for request in timed.requests if request.ok]
    failed = [request.failure for request in timed.requests if not request.ok]
    tokens_in = sum(map(input_tokens, whole))
    tokens_out = sum(request.output_tokens for request in whole)
    counts = {
        "completed": len(whole),
        "failed": len(failed),
        "failures": dict(Counter(failed)),
        "stopped_early": sum(request.stopped_early for request in whole),
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
    }
    if not duration:
        return counts
    times = timed.answered
    seconds = (times.token_ns - timed.began_ns) // int(NS_PER_S)
    return counts | {
        "request_throughput": len(whole) / duration,
        "input_throughput": tokens_in / duration,
        "output_throughput": tokens_out / duration,
        "total_throughput": (tokens_in + tokens_out) / duration,
        "concurrency": float(np.nansum(times.latency_ms("e2e_latency"))) / 1e3 / duration,
        "max_output_tokens_per_s": float(np.bincount(seconds, times.token_counts).max()),
    }


def _latencies(times: Times) -> dict[str, Any]:
    figures: dict[str, float] = {}
    for name in BY_REQUEST:
        figures |= describe_latency(name, without_nan(times.latency_ms(name)))
    gaps = times.gaps()
    return (
        figures
        | describe_latency("itl", gaps.itl_ms())
        | describe_latency("icl", gaps.ns / NS_PER_MS)
    )


class Distributions(Struct, frozen=True):
    """Quantiles in ms at `points` (percent); empty where the run has nothing of the kind."""

    points: tuple[float, ...]
    ttft_ms: tuple[float, ...]
    itl_ms: tuple[float, ...]
    tpot_ms: tuple[float, ...]
    e2e_latency_ms: tuple[float, ...]


def distributions(timed: TimedRequests) -> Distributions:
    """The distributions of latencies over the run's whole answers."""
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
