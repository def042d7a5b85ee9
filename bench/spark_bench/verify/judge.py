"""Whether this machine is good enough to measure from; if not, why not, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spark_bench.display.figures import digits
from spark_bench.verify.report import (
    Aspect,
    Capacity,
    Cause,
    Deviation,
    Level,
    Surroundings,
    Verdict,
)
from spark_bench.verify.shape import named

# A time stamp may be off by this at p99: a tenth of the shortest step of an engine (10 ms).
STAMP_US = 1000.0
# No chunk is seen before it was sent; the two clocks are compared to within this.
EARLY_US = -5.0
# A figure may be off by the larger of these: differences that people act on are of several per
# cent, and 0.1 ms is what a switch and a network card add by themselves.
PERCENT, ABSOLUTE_US = 1.0, 100.0
# Chunks that share a read share a stamp; up to this share of them is the kernel's doing.
MERGED = 0.01
# The ruler held the pace, so that the client was tried at what was asked.
PACED = 0.95
# The client and the ruler need a core each, all but this.
ROOM = 0.25
STOLEN = 0.02


def kept_pace(level: Level) -> bool:
    """The ruler sent as fast as it was asked to."""
    return level.paced >= PACED


def followed(level: Level) -> bool:
    """All of a pace was sent, and seen chunk by chunk."""
    return (
        kept_pace(level)
        and not level.failures
        and not level.miscounted
        and level.audit.merged_reads <= MERGED
        and level.stamp_us.p99 <= STAMP_US
    )


def close(found: Deviation) -> bool:
    """A reported figure is as good as the true one."""
    return abs(found.error_us) <= max(ABSOLUTE_US, found.true_ms * 10 * PERCENT)


def problems(level: Level) -> Iterator[str]:
    """What is not good enough with so many streams."""
    if level.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in level.failures.items())
        yield f"{kinds} of {level.requests} requests failed"
    if level.miscounted:
        yield f"{level.miscounted} of {level.requests} answers were miscounted"
    if not kept_pace(level):
        yield f"the ruler held {level.paced:.0%} of the pace"
    if level.stamp_us.p99 > STAMP_US:
        yield f"time stamps are off by {span(level.stamp_us.p99)} at p99"
    if level.stamp_min_us < EARLY_US:
        yield f"chunks are seen {digits(-level.stamp_min_us, 'µs')} before they were sent"
    if level.audit.merged_reads > MERGED:
        yield f"{level.audit.merged_reads:.1%} of chunks shared a read"
    for name, found in (("TTFT", level.ttft), ("ITL", level.itl)):
        yield from (f"{name} {figure} {off(d)}" for figure, d in found.items() if not close(d))


def span(us: float) -> str:
    """
    >>> span(43.21), span(9999.0)
    ('43.2 µs', '10.0 ms')
    """
    return digits(us, "µs") if us < 999.5 else digits(us / 1e3, "ms")


def share(found: Deviation) -> str:
    """Of the truth.

    >>> share(Deviation(100.0123, 100.0, 12.3, 0.0123)), share(Deviation(30.0, 10.0, 2e4, 200.0))
    ('0.01%', '200%')
    """
    percent = abs(found.error_percent)
    return f"{percent:.2f}%" if percent < 9.995 else f"{percent:.0f}%"


def off(found: Deviation) -> str:
    """How far."""
    return f"is {span(abs(found.error_us))} ({share(found)}) off"


def verdict(levels: Sequence[Level], capacity: Capacity, around: Surroundings) -> Verdict:
    """levels: by rising number of streams. Good if every one of them is."""
    bad = {level.streams: list(problems(level)) for level in levels}
    proven = [level for i, level in enumerate(levels) if not any(map(bad.get, _upto(levels, i)))]
    good = len(proven) == len(levels)
    best = proven[-1] if proven else None
    return Verdict(
        good=good,
        sentence=_sentence(best, proven, next((n for n, why in bad.items() if why), 0), bad),
        streams=best.streams if best else 0,
        chunks_per_s=best.chunks_per_s if best else 0.0,
        aspects=tuple(aspects(levels, capacity)),
        causes=() if good else tuple(likely(levels, capacity, around)),
    )


def aspects(levels: Sequence[Level], capacity: Capacity) -> Iterator[Aspect]:
    """A sentence on each."""
    yield _stamps(levels)
    yield _latencies(levels)
    yield _counts(levels)
    yield _capacity(levels, capacity)
    yield _cost(levels)


def likely(levels: Sequence[Level], capacity: Capacity, around: Surroundings) -> Sequence[Cause]:
    """What is known to disturb, else how to find out."""
    found = [*causes(levels, around), *too_much(levels, capacity)]
    return found or [
        Cause(
            "something took the CPU from the client for a moment",
            "verify again; if it stays, --json has each figure",
        )
    ]


def too_much(levels: Sequence[Level], capacity: Capacity) -> Iterator[Cause]:
    """More was asked for than the client can take."""
    most = max(level.chunks_per_s for level in levels)
    if capacity.limit == "client" and most > capacity.paced:
        yield Cause(
            f"{most:,.0f} chunks/s are more than the client follows here",
            "ask for fewer --streams or a longer --itl, like those of the server that you measure",
        )


def causes(levels: Sequence[Level], around: Surroundings) -> Iterator[Cause]:
    """Likely ones, the surest first."""
    if levels[-1].audit.clock != "kernel":
        yield Cause(
            "receive times are this process' own, the kernel gave none",
            "run on Linux itself, with sockets that take SO_TIMESTAMPNS (gVisor's don't)",
        )
    if around.ruler_core is None:
        yield Cause(
            "there is one core for both the client and the ruler",
            "allow this process two cores (taskset, docker --cpuset-cpus); the errors shown are "
            "an upper bound, as in a real run the server is elsewhere",
        )
    if around.throttled:
        yield Cause(
            f"a CPU quota stopped the client {around.throttled} times",
            "raise or lift it (docker --cpus, the pod's CPU limit)",
        )
    if around.stolen > STOLEN:
        yield Cause(
            f"the hypervisor gave {around.stolen:.0%} of the CPU time to others (steal)",
            "measure from a machine of its own, or a virtual one with cores of its own",
        )
    usable = around.machine.usable_cores or 1
    if around.others > max(0.0, usable - 2) + ROOM:
        yield Cause(
            f"other processes used {around.others:.1f} of {usable} cores{_load(around)}",
            "stop them, or measure from a machine that is idle",
        )
    if around.machine.governor == "powersave":
        yield Cause(
            "the CPU's governor is powersave: cores are slow when they are needed",
            "sudo cpupower frequency-set -g performance",
        )
    if any(not kept_pace(level) for level in levels):
        yield Cause(
            "the ruler itself could not send as fast as it was asked to",
            "ask for fewer --streams or a longer --itl",
        )


def _upto(levels: Sequence[Level], last: int) -> list[int]:
    return [level.streams for level in levels[: last + 1]]


def _load(around: Surroundings) -> str:
    load = around.machine.load_average
    return f" (load average {load[0]:.1f})" if load else ""


def _sentence(
    best: Level | None, proven: Sequence[Level], first_bad: int, bad: dict[int, list[str]]
) -> str:
    why = f"{named(first_bad)}: {'; '.join(bad[first_bad])}" if first_bad else ""
    if best is None:
        return f"This machine is not good enough to measure from: at {why}."
    worst = max(level.stamp_us.p99 for level in proven)
    return (
        f"This machine can measure up to {named(best.streams)} at {best.chunks_per_s:,.0f} "
        f"tokens/s with time stamps good to {span(worst)} (p99)"
        + (f", but not {why}." if why else ".")
    )


def _stamps(levels: Sequence[Level]) -> Aspect:
    worst = max(level.stamp_us.p99 for level in levels)
    early = min(level.stamp_min_us for level in levels)
    return Aspect(
        "time stamps",
        worst <= STAMP_US and early >= EARLY_US,
        f"off by {span(worst)} at most at p99 (allowed: {STAMP_US / 1e3:g} ms)",
    )


def _latencies(levels: Sequence[Level]) -> Aspect:
    found = [d for level in levels for d in (*level.ttft.values(), *level.itl.values())]
    worst = max(
        found, key=lambda d: abs(d.error_us) / max(ABSOLUTE_US, d.true_ms * 10), default=None
    )
    said = f"the farthest {off(worst)}" if worst else "none"
    return Aspect(
        "TTFT, ITL",
        bool(found) and all(map(close, found)),
        f"of mean, p50 and p99 {said} (allowed: {PERCENT:g}% or {ABSOLUTE_US:g} µs)",
    )


def _counts(levels: Sequence[Level]) -> Aspect:
    wrong = sum(level.miscounted + sum(level.failures.values()) for level in levels)
    tokens = sum(level.tokens for level in levels)
    said = f"{wrong} answers failed or miscounted" if wrong else "all as sent"
    return Aspect("counts", not wrong, f"{tokens:,} tokens, {said}")


def _capacity(levels: Sequence[Level], found: Capacity) -> Aspect:
    more = {"ruler": " (the ruler sends no more)", "search": " (more was not tried)"}
    refused = min((rate for rate, kept in found.tried.items() if not kept), default=0)
    end = more.get(found.limit, f", not {refused:,}")
    return Aspect(
        "capacity",
        all(map(followed, levels)),
        f"follows {found.paced:,.0f} chunks/s{end}; takes {found.unpaced:,.0f} without "
        f"pauses, and {found.requests:,.0f} one-token answers/s "
        f"({digits(found.request_us, 'µs')} CPU each)",
    )


def _cost(levels: Sequence[Level]) -> Aspect:
    last = levels[-1]
    return Aspect(
        "cost",
        True,
        f"{digits(last.cpu_us, 'µs')} CPU a chunk and {digits(last.read_us, 'µs')} to read it "
        f"afterwards, {last.audit.peak_rss_bytes / 1e6:.0f} MB",
    )
