"""Judge how exact a recording was: how far its figures may be off, and whose doing that was."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from spark_bench import formats
from spark_bench.arrays import Bools, Ints
from spark_bench.client.audit import Audit, Spread
from spark_bench.client.recorder import Recording
from spark_bench.client.tally import PAUSE_NS, Durations, Tally, peak_rss
from spark_bench.metrics.bounds import Bound, is_exact
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import MAIN
from spark_bench.record import Request

# Smaller steps of the wall clock are noise in measuring the offset.
STEP_US = 100.0

# If the median request was sent later than both of these, the load was not sent as requested. The
# share is of the median E2E latency.
LATE_US = 2000.0
LATE_SHARE = 0.02
# The same share for the p99 of lateness.
LATE_TAIL = 0.1

# Share of a closed loop's time above which idle slots are noted: the load is smaller by as much. It
# is no part of the verdict, since the figures are those of the load that was sent, however exact.
IDLE = 0.01

# Share of tokens that may have an average in place of their own gap. Above it, the p99 of the ITL
# is no longer a gap that was observed.
AVERAGED = 0.01

# Share of reads that may lack the kernel's time, since it turns on stamping with some delay.
UNSTAMPED = 0.001

# Figures that a reason names; the others are counted.
NAMED = 3


@dataclass(frozen=True)
class WideTimes:
    """The tokens whose time is known only as a span, by cause.

    tokens: how many there are; of: how many tokens there are in all
    by_cause: for each cause, how many of them, and the longest span in ms; the cause that widened
        the figures the most comes first
    """

    tokens: int
    of: int
    by_cause: Mapping[str, tuple[int, float]]


def wide_times(requests: Sequence[Request], tally: Tally) -> WideTimes:
    """Find the tokens whose time is known only as a span, and whose doing that was.

    Causes: "unstamped" (the kernel gave no times), "paused" (the client stood still for more than
    PAUSE_NS), "late" (it came round late by less), "together" (none of these: the server or the
    network sent them together, or within one look).
    """
    whole = [request for request in requests if request.ok]
    of = sum(request.token_ns.size for request in whole)
    wide = [request for request in whole if request.token_since_ns.size]
    if not wide:
        return WideTimes(0, of, {})
    since = np.concatenate([request.token_since_ns for request in wide])
    until = np.concatenate([request.token_ns for request in wide])
    since, until = since[until > since], until[until > since]
    if tally.unstamped > sum(len(request.token_ns) for request in whole) * UNSTAMPED:
        causes = np.full(since.size, "unstamped")
    else:
        spans = np.asarray(tally.late_spans).reshape(-1, 2)
        paused = spans[spans[:, 1] - spans[:, 0] > PAUSE_NS]
        causes = np.where(_overlap(since, until, spans), "late", "together")
        causes[_overlap(since, until, paused)] = "paused"
    widths = (until - since) / 1e6
    spans_by_cause = {cause: widths[causes == cause] for cause in np.unique(causes).tolist()}
    by_cause = sorted(spans_by_cause.items(), key=lambda each: -float(each[1].sum()))
    return WideTimes(
        since.size, of, {cause: (each.size, float(each.max())) for cause, each in by_cause}
    )


def _overlap(since: Ints, until: Ints, spans: Ints) -> Bools:
    """Which of the times from `since` to `until` overlap one of the spans, which are in order."""
    if not len(spans):
        return np.zeros(since.size, np.bool_)
    # The last span that begins before the end of each time; the spans before it end earlier.
    last = np.searchsorted(spans[:, 0], until) - 1
    overlapping: Bools = (last >= 0) & (spans[np.maximum(last, 0), 1] > since)
    return overlapping


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
    requests: Sequence[Request],
    summary: Summary,
    bounds: Mapping[str, Bound],
    parse_seconds: float,
    closed: bool = False,
    unseen: str = "",
) -> Audit:
    """The client's account of one recording, with its verdict.

    tls: the connection was encrypted
    requests, summary, bounds: what was read from the recording
    parse_seconds: CPU time of reading the responses afterwards
    closed: the load kept a number of slots busy
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
        merged_reads=round(merged_share(requests), 6),
        idle_slots=round(idle_share(tally, summary), 6) if closed else UNSET,
        clock_step_us=round(step, 1) if step > STEP_US else 0.0,
        cpu_seconds=round(recording.cpu_seconds, 6),
        wall_seconds=round((recording.ended_ns - recording.started_ns) / 1e9, 6),
        parse_seconds=round(parse_seconds, 6),
        peak_rss_bytes=peak_rss(),
        spilled_bytes=recording.store.spilled,
    )
    widths = width_reasons(summary, bounds, wide_times(requests, tally), account)
    others = [*_late_reasons(account, summary), *_counting_reasons(summary)]
    others += [unseen] if unseen else []
    reasons = (*widths, *others)
    verdict = "approximate" if reasons else "exact"
    return replace(account, verdict=verdict, reasons=reasons, bounded=not others)


def merged_share(requests: Sequence[Request]) -> float:
    """Share of deltas with tokens that came in the same read as the one before."""
    deltas = sum(r.token_ns.size for r in requests)
    together = sum(int((np.diff(r.token_ns) == 0).sum()) for r in requests)
    return together / deltas if deltas else 0.0


def idle_share(tally: Tally, summary: Summary) -> float:
    """Share of its slots' time in which a closed loop had not sent the next request yet."""
    busy = (summary.concurrency or 0.0) * (summary.duration or 0.0)
    idle = tally.idle_ns / 1e9
    return idle / (idle + busy) if busy else 0.0


def width_reasons(
    summary: Summary, bounds: Mapping[str, Bound], wide: WideTimes, account: Audit
) -> Iterator[str]:
    """Yield which of the main figures may be off, by how much, and whose doing that was."""
    off = {
        name: bound.off(value) / abs(value)
        for name in MAIN
        if "scheduled" not in name  # as wide as the others
        if (bound := bounds.get(name)) and (value := getattr(summary, name))
        if not is_exact(name, value, bound)
    }
    if account.clock_step_us:
        step_ms = account.clock_step_us / 1000
        yield f"the wall clock was changed by {step_ms:.1f} ms during the run"
    if not off:
        return
    widest = sorted(off, key=lambda name: -off[name])[:NAMED]
    named = ", ".join(_between(name, bounds[name]) for name in widest)
    more = f" and {formats.plural(len(off) - NAMED, 'more figure')}" if len(off) > NAMED else ""
    causes = "; ".join(
        _cause(cause, tokens, wide.of, longest)
        for cause, (tokens, longest) in wide.by_cause.items()
    )
    yield f"{named}{more}{causes and f': {causes}'}"


def _between(name: str, bound: Bound) -> str:
    statistic, _, latency = name.removesuffix("_ms").partition("_")
    titles = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e_latency": "E2E"}
    title = f"{statistic} {titles[latency]}" if latency in titles else name.replace("_", " ")
    unit = "ms" if name.endswith("_ms") else "s" if name == "duration" else ""
    return f"{title} is {formats.digits(bound.low)} to {formats.digits(bound.high, unit)}"


def _cause(cause: str, tokens: int, of: int, longest_ms: float) -> str:
    share = f"{tokens:,} of {of:,} tokens"
    within = f"within {formats.digits(longest_ms, 'ms')}"
    return {
        "unstamped": f"the kernel gave no receive times, so the time of {share} is that of a read",
        "paused": f"the client stood still while {share} came, {within}",
        "late": f"the client was late to read {share}, {within}",
        "together": f"{share} came together with others, {within}: bundled by the server or the "
        "network, or between two looks of the client",
    }[cause]


def idle_slots_note(audits: Sequence[Audit], summaries: Sequence[Summary]) -> Iterator[str]:
    """Yield by how much a closed loop's load was below the requested one; nothing if hardly.

    audits, summaries: of each repeat, in the same order; the repeat with the most idle time counts
    """
    shares = [audit.idle_slots or 0.0 for audit in audits]
    if not shares or (idle := max(shares)) <= IDLE:
        return
    most = shares.index(idle)
    yield (
        f"slots stood idle for {idle:.1%} of the time, "
        f"{formats.digits(audits[most].late_us.p50 / 1000, 'ms')} (median) before each request: "
        f"the figures are those of {formats.digits(summaries[most].concurrency)} requests in "
        "flight, and the server's throughput with all slots busy may be higher by as much"
    )


def _late_reasons(account: Audit, summary: Summary) -> Iterator[str]:
    """Yield how much later than scheduled the requests of an open loop were sent."""
    late = account.late_us
    if account.idle_slots is not UNSET:
        return
    e2e_ms = summary.median_e2e_latency_ms or 0.0
    if late.p50 > max(LATE_US, 1000 * LATE_SHARE * e2e_ms):
        yield f"half of the requests were sent {late.p50 / 1000:.1f} ms late or more"
    elif late.p99 > max(LATE_US, 1000 * LATE_TAIL * e2e_ms):
        yield f"one request in a hundred was sent {late.p99 / 1000:.1f} ms late or more"


def _counting_reasons(summary: Summary) -> Iterator[str]:
    """Yield why the number of tokens in an event is uncertain."""
    uncounted = summary.itl_source.get("none", 0.0)
    spread_evenly = summary.itl_source.get("even", 0.0)
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
