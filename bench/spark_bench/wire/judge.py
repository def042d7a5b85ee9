"""How exact a recording was, judged from what the recorder counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .audit import Audit, Spread
from .recorder import Recording
from .tally import peak_rss

# Wall clock steps below this are measuring noise of the offset itself.
STEP_US = 100.0

# Later than this, and later than LATE_SHARE of the median TTFT, sending was not on time.
LATE_US = 2000.0
LATE_SHARE = 0.01

# Up to this share of reads may hold more than one token without a word about it.
MERGED = 0.01


def spread(ns: Sequence[int]) -> Spread:
    """Of durations in nanoseconds; all zero where there are none."""
    if not len(ns):
        return Spread()
    p50, p99, most = np.percentile(np.asarray(ns), (50, 99, 100)) / 1000
    return Spread(round(p50, 1), round(p99, 1), round(most, 1))


def audit(
    recordings: Sequence[Recording],
    *,
    tls: bool,
    merged: float,
    parse_seconds: float,
    ttft_ms: float | None,
    gap_ms: float | None,
) -> Audit:
    """The account of one or more recordings, with its verdict.

    merged: share of reads that held tokens of more than one event
    ttft_ms, gap_ms: medians as measured, to judge lateness and lag by; None where there are none
    """
    tallies = [r.tally for r in recordings]
    lag = spread([ns for t in tallies for ns in t.lags])
    late = spread([ns for t in tallies for ns in t.lates])
    reads = sum(t.reads for t in tallies)
    stamped = (
        any(len(t.lags) for t in tallies) and sum(t.unstamped for t in tallies) <= reads / 1000
    )
    step = max((t.step_ns for t in tallies), default=0) / 1000
    spilled = sum(r.store.spilled for r in recordings)
    reasons = _reasons(stamped, lag, late, merged, step, ttft_ms, gap_ms)
    return Audit(
        clock="kernel" if stamped else "process",
        transport="tls" if tls else "plain",
        reads=reads,
        lag_us=lag,
        late_us=late,
        merged_reads=round(merged, 6),
        clock_step_us=round(step, 1) if step > STEP_US else 0.0,
        cpu_seconds=round(sum(r.cpu_seconds for r in recordings), 6),
        wall_seconds=round(sum(r.ended_ns - r.started_ns for r in recordings) / 1e9, 6),
        parse_seconds=round(parse_seconds, 6),
        peak_rss_bytes=peak_rss(),
        spilled_bytes=spilled,
        verdict="approximate" if reasons else "exact",
        reasons=reasons,
    )


def _reasons(
    stamped: bool,
    lag: Spread,
    late: Spread,
    merged: float,
    step: float,
    ttft_ms: float | None,
    gap_ms: float | None,
) -> tuple[str, ...]:
    reasons = []
    if not stamped:
        reasons.append("the kernel gave no receive times: times are those of our reads")
    # Tokens that share a read came together if we read promptly; else they waited for us.
    if merged > MERGED and gap_ms is not None and lag.p99 > 500 * gap_ms:
        reasons.append(
            f"{merged:.1%} of reads held more than one token, read {lag.p99 / 1000:.1f} ms late: "
            "the client did not keep up"
        )
    if late.p99 > max(LATE_US, 1000 * LATE_SHARE * (ttft_ms or 0.0)):
        reasons.append(f"requests were sent late: p99 {late.p99 / 1000:.1f} ms after their turn")
    if step > STEP_US:
        reasons.append(f"the wall clock was set by {step / 1000:.1f} ms during the run")
    return tuple(reasons)
