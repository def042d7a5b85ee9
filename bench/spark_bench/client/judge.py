"""How exact a recording was, judged by what the recorder counted."""

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from spark_bench.client.audit import Audit, Spread
from spark_bench.client.recorder import Recording
from spark_bench.client.tally import Durations, Tally, peak_rss

# Wall clock steps below this are measuring noise of the offset itself.
STEP_US = 100.0

# A request sent later than both of these, the share being of the median E2E latency, is a load that
# was not offered as asked.
LATE_US = 2000.0
LATE_SHARE = 0.02
# The same of the latest hundredth.
LATE_TAIL = 0.1

# Up to this share of deltas may share a read without a word about it.
MERGED = 0.01

# Up to this share of tokens may have an average in place of their own gap: above it the 99th
# percentile of the ITL is no longer one of gaps that were seen.
AVERAGED = 0.01

# Up to this share of reads may be without the kernel's time: it turns stamping on with some delay.
UNSTAMPED = 0.001


def measure_spread(durations: Durations) -> Spread:
    """In microseconds; all zero where there are none."""
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
    """The account of one recording, with its verdict.

    merged: share of token bearing deltas that shared a read with the one before
    parse_seconds: CPU that reading the responses took afterwards
    unseen: the note on tokens that no event showed
    e2e_ms, gap_ms: medians as measured, to judge lateness and lag by; None where there are none
    spread_evenly: share of the tokens after a first delta whose own gaps are unknown
    uncounted: share of the deltas after a first one whose number of tokens is unknown
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
    """Why the figures are approximate: times, reads, sends, pauses, averages."""
    lag, late, merged = account.lag_us, account.late_us, account.merged_reads
    if account.clock != "kernel":
        yield "the kernel gave no receive times, so times are those of the client's reads"
    if account.clock_step_us:
        step_ms = account.clock_step_us / 1000
        yield f"the wall clock was changed by {step_ms:.1f} ms during the run"
    # Tokens that share a read came together if we read promptly; else they waited for us.
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
