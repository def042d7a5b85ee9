"""What the client reports, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_bench.client.audit import Spread
from spark_bench.metrics.figures import Summary
from spark_bench.record import Request
from spark_bench.ruler.streams import Stream
from spark_bench.ruler.truth import truth
from spark_bench.selftest.measure import Seen
from spark_bench.selftest.report import Deviation, Deviations, Level
from spark_bench.selftest.shape import Shape

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def level(shape: Shape, seen: Seen) -> Level:
    """One load's figures."""
    pairs = matched(seen)
    true = truth([s for _, s in pairs], {s.id: r.sent_ns for r, s in pairs}) if pairs else None
    errors = stamp_errors(pairs)
    pace = 1 / float(true.itl.mean()) if true and true.itl.size else 0.0
    tokens = sum(int(r.token_counts.sum()) for r in seen.requests if r.ok)
    return Level(
        streams=shape.slots,
        itl_ms=shape.itl_ms,
        requests=len(seen.requests),
        tokens=tokens,
        chunks_per_s=round(shape.slots * pace, 1),
        paced=round(pace * shape.itl_ms / 1e3, 4),
        miscounted=miscounted(pairs) + seen.summary.completed - len(pairs),
        failures=seen.summary.failures,
        stamp_us=spread(errors),
        stamp_min_us=round(float(errors.min()) / 1e3, 1) if errors.size else 0.0,
        ttft=deviations(seen.summary, "ttft", true.ttft) if true else {},
        itl=deviations(seen.summary, "itl", true.itl) if true else {},
        accept_us=spread(true.accept * 1e9) if true else Spread(),
        **_costs(seen, tokens),
    )


def matched(seen: Seen) -> list[tuple[Request, Stream]]:
    """Each whole answer with the ruler's own account of it."""
    streams = {stream.id: stream for stream in seen.streams}
    named = [(r, seen.ids.get(r.index, -1)) for r in seen.requests if r.ok]
    return [(request, streams[id]) for request, id in named if id in streams]


def miscounted(pairs: list[tuple[Request, Stream]]) -> int:
    """Answers whose chunks or tokens differ from those sent."""
    return sum(not np.array_equal(r.token_counts, s.token_counts) for r, s in pairs)


def stamp_errors(pairs: list[tuple[Request, Stream]]) -> Ints:
    """The client's time of each chunk minus the true one, in ns."""
    errors = [r.token_ns - s.sent_ns for r, s in pairs if len(r.token_ns) == len(s.sent_ns)]
    return np.concatenate(errors) if errors else np.empty(0, np.int64)


def spread(ns: Ints | Floats) -> Spread:
    """Of nanoseconds; all zero where there are none."""
    if not ns.size:
        return Spread()
    return Spread(*(round(float(figure) / 1e3, 1) for figure in np.percentile(ns, (50, 99, 100))))


def deviations(summary: Summary, name: str, true: Floats) -> Deviations:
    """Mean, p50 and p99 of a latency, as summed up and as they were (in seconds)."""
    if not true.size:
        return {}
    p50, p99 = np.percentile(true, (50, 99))
    truths: Mapping[str, float] = {"mean": true.mean(), "p50": p50, "p99": p99}
    keys = {"mean": "mean", "p50": "median", "p99": "p99"}
    reported = {figure: getattr(summary, f"{key}_{name}_ms") for figure, key in keys.items()}
    return {figure: deviation(reported[figure], truths[figure] * 1e3) for figure in keys}


def deviation(reported_ms: float, true_ms: float) -> Deviation:
    """
    >>> deviation(101.0, 100.0)
    Deviation(reported_ms=101.0, true_ms=100.0, error_us=1000.0, error_percent=1.0)
    """
    error = reported_ms - true_ms
    return Deviation(
        round(reported_ms, 5),
        round(float(true_ms), 5),
        round(float(error * 1e3), 2),
        round(float(error / true_ms * 100), 4) if true_ms else 0.0,
    )


def _costs(seen: Seen, tokens: int) -> dict[str, Any]:
    audit = seen.audit
    each = max(tokens, 1)
    return {
        "cpu_us": round(audit.cpu_seconds * 1e6 / each, 2),
        "read_us": round(audit.parse_seconds * 1e6 / each, 2),
        "core": round(audit.cpu_seconds / audit.wall_seconds, 4) if audit.wall_seconds else 0.0,
        "audit": audit,
    }
