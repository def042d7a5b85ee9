"""Judge how exact a recording was, from what the recorder counted."""

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from spark_bench.client.audit import Audit, Spread
from spark_bench.client.recorder import Recording
from spark_bench.client.tally import Durations, Tally, peak_rss

# Smaller steps of the wall clock are noise in measuring the offset.
STEP_US = 100.0

# If the median request was sent later than both of these, the load was not sent as requested. The
# share is of the median E2E latency.
LATE_US = 2000.0
LATE_SHARE = 0.02
# The same share for the p99 of lateness.
LATE_TAIL = 0.1

# Share of deltas that may share a read with another without a mention.
MERGED = 0.01

# Share of tokens that may have an average in place of their own gap. Above it, the p99 of the ITL
# is no longer a gap that was observed.
AVERAGED = 0.01

# Share of reads that may lack the kernel's time, since it turns on stamping with some delay.
UNSTAMPED = 0.001


def measure_spread(durations: Durations) -> Spread:
    """Median, p99 and maximum in microseconds; all 0 if there are no durations."""
    if not durations.values:
        return Spread()
    middle, high = np.percentile(np.asarray(durations.values), (50, 99))
    return Spread(*(round(float(ns) / 1000, 1) for ns in (middle, high, durations.most)))


def audit(
    recording: Recording,
    *,
    tls: bool,
    merged: float,
    parse_seconds: float,
    e2e_ms: float | None,
    gap_ms: float | None,
    spread_evenly: float = 0.0,
    uncounted: float = 0.0,
    unseen: str = "",
) -> Audit:
    """The client's account of one recording, with its verdict.

    tls: the connection was encrypted
    merged: share of token-bearing deltas that came in the same read as the one before
    parse_seconds: CPU time of reading the responses afterwards
    e2e_ms, gap_ms: measured median E2E latency and gap between tokens, to judge lateness and lag
        by; None if there are none
    spread_evenly: share of tokens after the first delta whose own gap is unknown
    uncounted: share of deltas after the first whose number of tokens is unknown
    unseen: note on tokens that no event showed; "": none
    """
    tally = recording.tally
    lag, late = measure_spread(tally.lags), measure_spread(tally.lates)
    step = tally.step_ns / 1000
    stamped = tally.unstamped <= recording.store.reads * UNSTAMPED
    account = Audit(
        clock="kernel" if stamped else "process",
        transport="tls" if tls else "plain",
        reads=recording.store.reads,
        lag_us=replace(lag, max=max(lag.max, round(tally.pauses.most / 1000, 1))),
        late_us=late,
        merged_reads=round(merged, 6),
        clock_step_us=round(step, 1) if step > STEP_US else 0.0,
        cpu_seconds=round(recording.cpu_seconds, 6),
        wall_seconds=round((recording.ended_ns - recording.started_ns) / 1e9, 6),
        parse_seconds=round(parse_seconds, 6),
        peak_rss_bytes=peak_rss(),
        spilled_bytes=recording.store.spilled,
    )
    reasons = [*_reasons(account, tally, e2e_ms, gap_ms, spread_evenly, uncounted)]
    reasons += [unseen] if unseen else []
    verdict = "approximate" if reasons else "exact"
    return replace(account, verdict=verdict, reasons=tuple(reasons))


def _reasons(
    account: Audit,
    tally: Tally,
    e2e_ms: float | None,
    gap_ms: float | None,
    spread_evenly: float,
    uncounted: float,
) -> Iterator[str]:
    """Yield why the figures are approximate: times, reads, sends, pauses, averages."""
    lag, late, merged = account.lag_us, account.late_us, account.merged_reads
    if account.clock != "kernel":
        yield "the kernel gave no receive times, so times are those of the client's reads"
    if account.clock_step_us:
        step_ms = account.clock_step_us / 1000
        yield f"the wall clock was changed by {step_ms:.1f} ms during the run"
    # Tokens in one read came together if we read promptly; otherwise, they had to wait for us.
    if merged > MERGED and gap_ms is not None and lag.p99 > 500 * gap_ms:
        yield (
            f"{merged:.1%} of tokens were read together with the one before, "
            f"{lag.p99 / 1000:.1f} ms late: the client did not keep up"
        )
    if late.p50 > max(LATE_US, 1000 * LATE_SHARE * (e2e_ms or 0.0)):
        yield f"half of the requests were sent {late.p50 / 1000:.1f} ms late or more"
    elif late.p99 > max(LATE_US, 1000 * LATE_TAIL * (e2e_ms or 0.0)):
        yield f"one request in a hundred was sent {late.p99 / 1000:.1f} ms late or more"
    # The client's own pauses: longer than half a gap, and more than a hundredth of the run.
    longest_ms, paused = tally.pauses.most / 1e6, tally.paused_ns / 1e9
    if gap_ms is not None and longest_ms > gap_ms / 2 and paused > MERGED * account.wall_seconds:
        yield (
            f"the client paused for {paused:.1f} s, up to {longest_ms:.0f} ms at a time: tokens "
            "that came during a pause share one time"
        )
    if uncounted > AVERAGED:
        yield (
            f"the number of tokens is unknown for {uncounted:.0%} of the events: each counts as "
            "one, so throughput, TPOT and ITL may be off by as much"
        )
    if spread_evenly > AVERAGED:
        yield (
            f"{spread_evenly:.0%} of tokens came in events of several tokens that could not be "
            "separated: their ITL is an average, and its p99 may be too low"
        )
