"""Whether this machine is good enough to measure from; if not, the probable causes and cures."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from msgspec import Struct

from spark_bench.formats import byte_text, digits
from spark_bench.results.provenance_schema import Machine
from spark_bench.selftest import accuracy, bench

# Client and reference server need a core each. Others may use the rest, and this share of a core.
ROOM = 0.25
STOLEN = 0.02


class ClientCapacity(Struct, frozen=True, kw_only=True):
    """The client's limits on this machine.

    paced: highest rate that it followed, in one-token chunks per second (10 ms apart per stream)
    limit: what ended the search: "client", "ruler" (the reference server could not send faster), or
        "search" (it followed the highest rate tried)
    tried: by rate, whether the client followed
    unpaced: chunks per second from a server that never waits
    requests: one-token answers per second over `slots` connections; request_us: CPU time per answer
    """

    paced: float
    limit: str
    tried: dict[int, bool]
    unpaced: float
    requests: float
    slots: int
    request_us: float


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the machine was doing during the selftest.

    client_core, ruler_core: the cores of client and reference server; None: they were not pinned,
        since this process may use only one core
    others: CPU time that other processes used, in cores
    stolen: share of CPU time that the hypervisor gave to others
    throttled: how many times a CPU quota (cgroup) stopped us
    """

    machine: Machine
    client_core: int | None
    ruler_core: int | None
    others: float
    stolen: float
    throttled: int


class Aspect(Struct, frozen=True):
    """One thing that matters to accuracy, and a sentence about it."""

    name: str
    good: bool
    sentence: str


class Cause(Struct, frozen=True):
    """A probable cause, and its cure."""

    reason: str
    cure: str


class SelftestVerdict(Struct, frozen=True):
    """Whether the machine is good enough.

    streams, chunks_per_s: of the largest level that was proven good; 0 if none was
    """

    good: bool
    sentence: str
    streams: int
    chunks_per_s: float
    aspects: tuple[Aspect, ...]
    causes: tuple[Cause, ...] = ()


def judge_levels(
    levels: Sequence[accuracy.StreamLevel], capacity: ClientCapacity, around: Surroundings
) -> SelftestVerdict:
    """Good if every level is good. levels: by ascending number of streams."""
    problems = {level.streams: list(accuracy.level_problems(level)) for level in levels}
    proven = list(takewhile(lambda level: not problems[level.streams], levels))
    good = len(proven) == len(levels)
    first_bad = next((n for n, why in problems.items() if why), 0)
    why = f"{bench.count_streams(first_bad)}: {'; '.join(problems[first_bad])}" if first_bad else ""
    best = proven[-1] if proven else None
    sentence = f"This machine is not good enough to measure from: at {why}."
    if best:
        worst = max(level.stamp_us.p99 for level in proven)
        sentence = (
            f"This machine can measure up to {bench.count_streams(best.streams)} at "
            f"{best.chunks_per_s:,.0f} tokens/s with time stamps good to "
            f"{accuracy.format_us(worst)} (p99)" + (f", but not {why}." if why else ".")
        )
    return SelftestVerdict(
        good=good,
        sentence=sentence,
        streams=best.streams if best else 0,
        chunks_per_s=best.chunks_per_s if best else 0.0,
        aspects=tuple(describe_aspects(levels, capacity)),
        causes=() if good else tuple(likely_causes(levels, capacity, around)),
    )


def describe_aspects(
    levels: Sequence[accuracy.StreamLevel], capacity: ClientCapacity
) -> Iterator[Aspect]:
    """Yield a sentence on each thing that matters to accuracy."""
    worst = max(level.stamp_us.p99 for level in levels)
    early = min(level.stamp_min_us for level in levels)
    yield Aspect(
        "time stamps",
        worst <= accuracy.STAMP_US and early >= accuracy.EARLY_US,
        f"off by {accuracy.format_us(worst)} at most at p99 (allowed: "
        f"{accuracy.STAMP_US / 1e3:g} ms)",
    )
    yield _latencies(levels)
    wrong = sum(level.miscounted + sum(level.failures.values()) for level in levels)
    tokens = sum(level.tokens for level in levels)
    text = f"{wrong} answers failed or miscounted" if wrong else "all as sent"
    yield Aspect("counts", not wrong, f"{tokens:,} tokens, {text}")
    yield _capacity(levels, capacity)
    last = levels[-1]
    yield Aspect(
        "cost",
        True,
        f"{digits(last.cpu_us, 'µs')} CPU a chunk and {digits(last.read_us, 'µs')} to read it "
        f"afterwards, {byte_text(last.audit.peak_rss_bytes, 'MB')}",
    )


def _latencies(levels: Sequence[accuracy.StreamLevel]) -> Aspect:
    figures = [d for level in levels for d in (*level.ttft.values(), *level.itl.values())]
    worst = max(
        figures,
        key=lambda d: abs(d.error_us) / max(accuracy.ABSOLUTE_US, d.true_ms * 10),
        default=None,
    )
    text = f"the farthest {accuracy.format_error(worst)}" if worst else "none"
    return Aspect(
        "TTFT, ITL",
        bool(figures) and all(map(accuracy.is_close, figures)),
        f"of mean, p50 and p99 {text} "
        f"(allowed: {accuracy.PERCENT:g}% or {accuracy.ABSOLUTE_US:g} µs)",
    )


def _capacity(levels: Sequence[accuracy.StreamLevel], capacity: ClientCapacity) -> Aspect:
    limits = {"ruler": " (the reference server sends no more)", "search": " (more was not tried)"}
    refused = min((rate for rate, followed in capacity.tried.items() if not followed), default=0)
    end = limits.get(capacity.limit, f", not {refused:,}")
    enough = capacity.paced >= max(level.chunks_per_s for level in levels)
    return Aspect(
        "capacity",
        enough or all(level.followed for level in levels),
        f"follows {capacity.paced:,.0f} chunks/s{end}; takes {capacity.unpaced:,.0f} without "
        f"pauses, and {capacity.requests:,.0f} one-token answers/s "
        f"({digits(capacity.request_us, 'µs')} CPU each)",
    )


def likely_causes(
    levels: Sequence[accuracy.StreamLevel], capacity: ClientCapacity, around: Surroundings
) -> Sequence[Cause]:
    """Causes: what disturbed the client; if nothing did, overload; else what to try next."""
    unknown = Cause(
        "something took the CPU from the client for a moment",
        "verify again; if it happens again, --json has every figure",
    )
    return [*disturbances(levels, around)] or [*overload(levels, capacity)] or [unknown]


def disturbances(levels: Sequence[accuracy.StreamLevel], around: Surroundings) -> Iterator[Cause]:
    """Yield what probably disturbed the client, the most certain first."""
    if levels[-1].audit.clock != "kernel":
        yield Cause(
            "receive times are this process's own: the kernel gave none",
            "run on Linux itself, where sockets take SO_TIMESTAMPNS",
        )
    if around.ruler_core is None:
        yield Cause(
            "there is one core for both the client and the reference server",
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
            "measure from a machine of its own, or a virtual one with dedicated cores",
        )
    usable, load = around.machine.usable_cores or 1, around.machine.load_average
    if around.others > max(0.0, usable - 2) + ROOM:
        average = f" (load average {load[0]:.1f})" if load else ""
        yield Cause(
            f"other processes used {around.others:.1f} of {usable} cores{average}",
            "stop them, or measure from an idle machine",
        )
    if around.machine.governor == "powersave":
        yield Cause(
            "the CPU's governor is powersave: cores are slow when they are needed",
            "sudo cpupower frequency-set -g performance",
        )
    if any(not level.kept_pace for level in levels):
        yield Cause(
            "the reference server itself could not send as fast as it was asked to",
            "ask for fewer --streams or a longer --itl",
        )


def overload(levels: Sequence[accuracy.StreamLevel], capacity: ClientCapacity) -> Iterator[Cause]:
    """Yield a cause if the levels demand more than the client can take."""
    most = max(level.chunks_per_s for level in levels)
    if capacity.limit == "client" and most > capacity.paced:
        yield Cause(
            f"{most:,.0f} chunks/s are more than this client can follow here",
            "ask for fewer --streams or a longer --itl, like those of the server that you measure",
        )
