"""The client's figures beside the server's own, from the histograms of its /metrics.

SGLang 0.5.23 (srt/observability/metrics_collector.py) and vLLM observe, between a request's
arrival in their API process and its tokens there: TTFT (queue included), the latency of each
token after the first (a step of k tokens counts k times as gap/k) and E2E. So client - server is
what HTTP, the network and the client add.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from msgspec import Struct

from spark_bench.arrays import Floats, without_nan
from spark_bench.metrics.times import TimedRequests

# Names by figure; the first that the server has is taken. vLLM before 0.11 said
# time_per_output_token for what is now inter_token_latency.
NAMES = {
    "ttft": ("sglang:time_to_first_token_seconds", "vllm:time_to_first_token_seconds"),
    "itl": (
        "sglang:inter_token_latency_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
    ),
    "e2e_latency": ("sglang:e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"),
    "queue": ("sglang:queue_time_seconds", "vllm:request_queue_time_seconds"),
}
# Share by which the two counts may differ: steps that the client sees as one delta, or not at all
# (hidden tokens), are counted differently.
ITL_TOLERANCE = 0.01


class Histogram(Struct, frozen=True):
    """A Prometheus histogram at one moment, summed over its label sets.

    buckets: (upper bound in seconds, observations at or below it), rising; the last is infinite
    sum: of all observations, in seconds; count: how many
    """

    name: str
    buckets: tuple[tuple[float, float], ...]
    sum: float
    count: float


class Bounded(Struct, frozen=True):
    """A percentile of a histogram, in ms: at least low, at most high (None: no upper bound);
    estimate: by a straight line between them, as Prometheus' histogram_quantile has it."""

    low: float
    high: float | None
    estimate: float


class ServerFigure(Struct, frozen=True):
    """What the server observed during the run, in ms."""

    name: str
    n: int
    mean: float
    p50: Bounded
    p90: Bounded
    p99: Bounded


class Compared(Struct, frozen=True):
    """One figure of both, in ms. difference: client's mean - server's mean; share: of the client's
    mean. note: why something is absent, or why the two may not be of the same requests."""

    n: int
    mean: float | None
    p50: float | None
    p99: float | None
    server: ServerFigure | None
    difference: float | None = None
    share: float | None = None
    note: str = ""


class Reconciliation(Struct, frozen=True):
    """The client's figures beside the server's.

    queue: the server's alone
    ttft_queue_ms + ttft_engine_ms + ttft_outside_ms = the client's mean TTFT: waiting in the
        server's queue, its work up to the first token, network and client. None where a
        histogram of it is missing.
    """

    ttft: Compared
    itl: Compared
    e2e_latency: Compared
    queue: ServerFigure | None
    queue_note: str
    ttft_queue_ms: float | None
    ttft_engine_ms: float | None
    ttft_outside_ms: float | None


def reconcile(
    before: Mapping[str, Histogram], after: Mapping[str, Histogram], timed: TimedRequests
) -> Reconciliation:
    """Put the client's figures beside the server's.

    before, after: the server's histograms by name, just before and just after the run. A name that
        is only in `after` began at zero: some servers show a histogram only once it has an
        observation
    """
    times = timed.answered
    figures = {figure: _observed(names, before, after) for figure, names in NAMES.items()}
    ttft = _compared(without_nan(times.latency_ms("ttft")), *figures["ttft"], 0.0)
    queue, queue_note = figures["queue"]
    in_queue = queue.mean if queue else None
    of_server = ttft.server.mean if ttft.server else None
    return Reconciliation(
        ttft=ttft,
        itl=_compared(times.gaps().itl_ms(), *figures["itl"], ITL_TOLERANCE),
        e2e_latency=_compared(
            without_nan(times.latency_ms("e2e_latency")), *figures["e2e_latency"], 0.0
        ),
        queue=queue,
        queue_note=queue_note,
        ttft_queue_ms=in_queue,
        ttft_engine_ms=None if of_server is None or in_queue is None else of_server - in_queue,
        ttft_outside_ms=ttft.difference,
    )


def _observed(
    names: tuple[str, ...], before: Mapping[str, Histogram], after: Mapping[str, Histogram]
) -> tuple[ServerFigure | None, str]:
    """What the server observed between the two readings; or None, and why there is no figure."""
    name = next((name for name in names if name in after), None)
    if name is None:
        return None, "n/a: the server has no such histogram"
    run, start = after[name], before.get(name)
    if start is not None:
        if [upper for upper, _ in start.buckets] != [upper for upper, _ in run.buckets]:
            return None, "n/a: the server's buckets changed during the run"
        pairs = zip(start.buckets, run.buckets, strict=True)
        buckets = tuple((upper, count - old) for (_, old), (upper, count) in pairs)
        run = Histogram(name, buckets, run.sum - start.sum, run.count - start.count)
        if min([run.count, *(count for _, count in buckets)]) < 0:
            return None, "n/a: the server's counts fell: it was restarted during the run"
    if not run.count:
        return None, "n/a: the server observed nothing during the run"
    p50, p90, p99 = (bounded(run, percentile) for percentile in (50, 90, 99))
    figure = ServerFigure(name, round(run.count), run.sum / run.count * 1e3, p50, p90, p99)
    return figure, ""


def bounded(observed: Histogram, percentile: float) -> Bounded:
    """The bucket in which a percentile (0 to 100) lies, in ms, and an estimate within it.

    The estimate is linear within the bucket, as Prometheus' histogram_quantile has it.
    """
    rank = observed.count * percentile / 100
    edges = [(0.0, 0.0), *observed.buckets]
    for (low, below), (high, count) in pairwise(edges):
        if count >= rank and count > below:
            if np.isinf(high):
                return Bounded(low * 1e3, None, low * 1e3)
            estimate = low + (high - low) * (rank - below) / (count - below)
            return Bounded(low * 1e3, high * 1e3, estimate * 1e3)
    return Bounded(edges[-1][0] * 1e3, None, edges[-1][0] * 1e3)


def _compared(values: Floats, server: ServerFigure | None, note: str, tolerance: float) -> Compared:
    n = int(values.size)
    if not n:
        return Compared(0, None, None, None, server, note=note or "n/a: the client has none")
    mean = float(values.mean())
    p50, p99 = (float(value) for value in np.percentile(values, (50, 99)))
    if server is None:
        return Compared(n, mean, p50, p99, None, note=note)
    difference = mean - server.mean
    share = difference / mean if mean else None
    mismatch = ""
    if abs(n - server.n) > tolerance * n:
        mismatch = f"the server counted {server.n}, the client {n}: "
        if server.n < n:
            mismatch += "not all of it is in the server's figures"
        elif tolerance:
            mismatch += "others used it, some failed, or tokens were hidden"
        else:
            mismatch += "others used it, or some failed"
    return Compared(n, mean, p50, p99, server, difference, share, mismatch)
