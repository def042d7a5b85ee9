"""What was sampled, thinned for keeping and reduced to a few figures. Pure; times in ns are
CLOCK_MONOTONIC, the clock of the client's own stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from msgspec import Struct

from spark_bench.metrics.histograms import Histogram
from spark_bench.telemetry.messages import NodeLine, NodeSample, NoteLine, SamplerLine, ServerLine

LIMIT = 600
SECOND = 1e9
Sample = TypeVar("Sample")


class ServerSample(Struct, frozen=True, omit_defaults=True):
    """The server at one moment; None: it does not tell (see prometheus.Look).

    throughput: generated tokens a second: its own gauge, else from its counter since the sample
        before
    """

    at_ns: int
    running: float | None = None
    queued: float | None = None
    token_usage: float | None = None
    cache_hit_rate: float | None = None
    throughput: float | None = None


class Extent(Struct, frozen=True):
    """Mean over time and maximum of something, within the run's window."""

    mean: float
    max: float


class NodeSamples(Struct, frozen=True, omit_defaults=True):
    """One node over the run.

    samples: at most LIMIT, evenly chosen; the figures are made of all
    energy_joules: of its GPUs over the window; None where their power is not known, or was not
        sampled within it
    memory_used_bytes: of the node, which a GB10's GPU shares
    received_bytes, sent_bytes: over RDMA between the first and the last sample
    """

    name: str
    samples: tuple[NodeSample, ...] = ()
    energy_joules: float | None = None
    power_w: Extent | None = None
    temperature_c: Extent | None = None
    memory_used_bytes: Extent | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


class ServerSide(Struct, frozen=True, omit_defaults=True):
    """The server's side of a run.

    begin_ns, end_ns: the window that the figures are of
    samples: at most LIMIT, evenly chosen; the figures are made of all
    before, after: the server's own histograms by their names, on both sides of the run; what lies
        between is the run's, and anybody else's at that time (their last bound is infinite, which
        JSON shows as null)
    generated_tokens, prompt_tokens: by the server's own counters between those two looks
    cache_hit_rate: share of prompt tokens found in the prefix cache between those two looks, where
        the engine counts both; else the last value of its own gauge
    notes: what could not be sampled, and why
    """

    begin_ns: int = 0
    end_ns: int = 0
    samples: tuple[ServerSample, ...] = ()
    before: dict[str, Histogram] = {}
    after: dict[str, Histogram] = {}
    generated_tokens: float | None = None
    prompt_tokens: float | None = None
    cache_hit_rate: float | None = None
    running: Extent | None = None
    queued: Extent | None = None
    token_usage: Extent | None = None
    nodes: tuple[NodeSamples, ...] = ()
    notes: tuple[str, ...] = ()


def server_side(
    lines: Sequence[SamplerLine], begin_ns: int, end_ns: int, nodes: Iterable[str] = ()
) -> ServerSide:
    """All that the sampler told, for the window of a run; nodes: those that it was asked for, of
    which a silent one is kept too (what all of them took is not known then)."""
    looks = [line.opened() for line in lines if isinstance(line, ServerLine)]
    by_node: dict[str, list[NodeSample]] = {name: [] for name in nodes}
    for line in lines:
        if isinstance(line, NodeLine):
            by_node.setdefault(line.node, []).append(line.sample)
    told = [line.look.histograms for line in looks]
    whole = [histograms for histograms in told if histograms is not None]
    seen = list(_server_samples(looks))
    window = (begin_ns, end_ns)
    return ServerSide(
        begin_ns=begin_ns,
        end_ns=end_ns,
        samples=thin_samples(seen),
        before=whole[0] if len(whole) > 1 else {},
        after=whole[-1] if len(whole) > 1 else {},
        generated_tokens=_grown([line.look.generated for line in looks]),
        prompt_tokens=_grown([line.look.prompted for line in looks]),
        cache_hit_rate=_cache_hit_rate(looks),
        running=extent([(s.at_ns, s.running) for s in seen], *window),
        queued=extent([(s.at_ns, s.queued) for s in seen], *window),
        token_usage=extent([(s.at_ns, s.token_usage) for s in seen], *window),
        nodes=tuple(node_samples(name, told, *window) for name, told in by_node.items()),
        notes=tuple(line.text for line in lines if isinstance(line, NoteLine)),
    )


def node_samples(name: str, told: Sequence[NodeSample], begin_ns: int, end_ns: int) -> NodeSamples:
    """One node's samples and what they amount to."""

    def over(value: Callable[[NodeSample], float | None]) -> list[tuple[int, float | None]]:
        return [(s.at_ns, value(s)) for s in told]

    power = over(lambda s: s.power_w)
    if not any(begin_ns <= at <= end_ns for at, _ in power):
        power = []  # of before and after a short run: idle, and no measure of it
    return NodeSamples(
        name=name,
        samples=thin_samples(told),
        energy_joules=integral(power, begin_ns, end_ns),
        power_w=extent(power, begin_ns, end_ns),
        temperature_c=extent(over(lambda s: s.temperature_c), begin_ns, end_ns),
        memory_used_bytes=extent(over(memory_used), begin_ns, end_ns),
        received_bytes=_whole(_grown([s.received_bytes for s in told])),
        sent_bytes=_whole(_grown([s.sent_bytes for s in told])),
    )


def memory_used(sample: NodeSample) -> float | None:
    """MemTotal less MemAvailable."""
    if sample.memory_total_bytes is None or sample.memory_available_bytes is None:
        return None
    return float(sample.memory_total_bytes - sample.memory_available_bytes)


def thin_samples(samples: Sequence[Sample], limit: int = LIMIT) -> tuple[Sample, ...]:
    """At most `limit` of them, the first and the last among them, evenly chosen."""
    if len(samples) <= limit:
        return tuple(samples)
    step = (len(samples) - 1) / (limit - 1)
    return tuple(samples[round(i * step)] for i in range(limit))


def integral(
    points: Iterable[tuple[int, float | None]], begin_ns: int, end_ns: int
) -> float | None:
    """Value times seconds over a window, by trapezoids; before the first and after the last known
    point the value is taken to stay. None where no point is known."""
    known = [(at, value) for at, value in points if value is not None]
    if not known or end_ns <= begin_ns:
        return None
    times = np.array([at for at, _ in known], np.int64)
    inside = times[(times > begin_ns) & (times < end_ns)]
    edges = np.concatenate(([begin_ns], inside, [end_ns]))
    values = np.interp(edges, times, [value for _, value in known])
    return float(np.trapezoid(values, edges) / SECOND)


def extent(points: Sequence[tuple[int, float | None]], begin_ns: int, end_ns: int) -> Extent | None:
    """Time-weighted mean over the window, and the largest value sampled within it (or, where none
    was, the largest of all). None where nothing is known."""
    total = integral(points, begin_ns, end_ns)
    if total is None:
        return None
    known = [(at, value) for at, value in points if value is not None]
    within = [value for at, value in known if begin_ns <= at <= end_ns]
    seconds = (end_ns - begin_ns) / SECOND
    return Extent(total / seconds, max(within or [value for _, value in known]))


def tokens_per_joule(output_tokens: int, nodes: Sequence[NodeSamples]) -> float | None:
    """Output tokens of the run for each joule that all nodes' GPUs took; None where a node's
    energy is not known: a part of it would flatter."""
    energies = [node.energy_joules for node in nodes]
    known = [energy for energy in energies if energy is not None]
    if not known or len(known) < len(energies) or sum(known) <= 0:
        return None
    return output_tokens / sum(known)


def _server_samples(looks: Sequence[ServerLine]) -> Iterable[ServerSample]:
    for number, line in enumerate(looks):
        look = line.look
        earlier = looks[number - 1] if number else None
        yield ServerSample(
            at_ns=line.at_ns,
            running=look.running,
            queued=look.queued,
            token_usage=look.token_usage,
            cache_hit_rate=look.cache_hit_rate,
            throughput=look.throughput if look.throughput is not None else _rate(earlier, line),
        )


def _rate(earlier: ServerLine | None, line: ServerLine) -> float | None:
    grown = _grown([earlier.look.generated, line.look.generated]) if earlier else None
    if earlier is None or grown is None:
        return None
    return grown / max(line.at_ns - earlier.at_ns, 1) * SECOND


def _grown(counter: Sequence[float | None]) -> float | None:
    """How far a counter came; None where it is not told, or began anew (the server restarted)."""
    known = [value for value in counter if value is not None]
    if len(known) < 2 or any(b < a for a, b in pairwise(known)):
        return None
    return known[-1] - known[0]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _cache_hit_rate(looks: Sequence[ServerLine]) -> float | None:
    hits = _grown([line.look.cache_hits for line in looks])
    queries = _grown([line.look.cache_queries for line in looks])
    if queries is None:
        queries = _grown([line.look.prompted for line in looks])
    if hits is not None and queries:
        return hits / queries
    told = [line.look.cache_hit_rate for line in looks]
    return next((rate for rate in reversed(told) if rate is not None), None)
