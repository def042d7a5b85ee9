"""Reduce what was sampled to a few figures and thinned samples. Pure; times in ns are
CLOCK_MONOTONIC, the clock of the client's own time stamps."""

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
    """The server at one moment; None: not reported (see prometheus.MetricsReading).

    throughput: generated tokens per second: its own gauge, else from its counter since the previous
        sample
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

    samples: at most LIMIT, evenly spaced; the figures use all of them
    energy_joules: of its GPUs over the window; None if their power is unknown or was not sampled
        within it
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

    begin_ns, end_ns: the window of the figures
    samples: at most LIMIT, evenly spaced; the figures use all of them
    before, after: the server's own histograms by name, before and after the run; the difference is
        the run's and that of anybody else at the time
    generated_tokens, prompt_tokens: by the server's own counters between those two readings
    cache_hit_rate: share of prompt tokens found in the prefix cache between those two readings, if
        the engine counts both; else the last value of its own gauge
    accept_length: tokens that a step of speculative decoding gave on average, by the engine's
        counters between those two readings, else the mean of its gauge within the window
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
    accept_length: float | None = None
    running: Extent | None = None
    queued: Extent | None = None
    token_usage: Extent | None = None
    nodes: tuple[NodeSamples, ...] = ()
    notes: tuple[str, ...] = ()


def server_side(
    lines: Sequence[SamplerLine], begin_ns: int, end_ns: int, nodes: Iterable[str] = ()
) -> ServerSide:
    """Everything that the sampler wrote, for the window of a run.

    nodes: those that were requested; a silent one stays in, since the energy of all is then
        unknown"""
    looks = [line.opened() for line in lines if isinstance(line, ServerLine)]
    by_node: dict[str, list[NodeSample]] = {name: [] for name in nodes}
    for line in lines:
        if isinstance(line, NodeLine):
            by_node.setdefault(line.node, []).append(line.sample)
    readings = [line.look.histograms for line in looks]
    whole = [histograms for histograms in readings if histograms is not None]
    samples = list(_server_samples(looks))
    window = (begin_ns, end_ns)
    prompted = _grown([line.look.prompted for line in looks])
    hits = _grown([line.look.cache_hits for line in looks])
    queries = _grown([line.look.cache_queries for line in looks])
    queries = prompted if queries is None else queries
    gauges = [line.look.cache_hit_rate for line in looks if line.look.cache_hit_rate is not None]
    cache_hit_rate = gauges[-1] if gauges else None
    if hits is not None and queries:
        cache_hit_rate = hits / queries
    return ServerSide(
        begin_ns=begin_ns,
        end_ns=end_ns,
        samples=thin_samples(samples),
        before=whole[0] if len(whole) > 1 else {},
        after=whole[-1] if len(whole) > 1 else {},
        generated_tokens=_grown([line.look.generated for line in looks]),
        prompt_tokens=prompted,
        cache_hit_rate=cache_hit_rate,
        accept_length=_accept_length(looks, *window),
        running=extent([(s.at_ns, s.running) for s in samples], *window),
        queued=extent([(s.at_ns, s.queued) for s in samples], *window),
        token_usage=extent([(s.at_ns, s.token_usage) for s in samples], *window),
        nodes=tuple(node_samples(name, readings, *window) for name, readings in by_node.items()),
        notes=tuple(line.text for line in lines if isinstance(line, NoteLine)),
    )


def node_samples(
    name: str, samples: Sequence[NodeSample], begin_ns: int, end_ns: int
) -> NodeSamples:
    """One node's samples and figures."""

    def over(value: Callable[[NodeSample], float | None]) -> list[tuple[int, float | None]]:
        return [(s.at_ns, value(s)) for s in samples]

    power = over(lambda s: s.power_w)
    if not any(begin_ns <= at <= end_ns for at, _ in power):
        power = []  # only from before and after a short run: idle power
    return NodeSamples(
        name=name,
        samples=thin_samples(samples),
        energy_joules=integral(power, begin_ns, end_ns),
        power_w=extent(power, begin_ns, end_ns),
        temperature_c=extent(over(lambda s: s.temperature_c), begin_ns, end_ns),
        memory_used_bytes=extent(over(memory_used), begin_ns, end_ns),
        received_bytes=_whole(_grown([s.received_bytes for s in samples])),
        sent_bytes=_whole(_grown([s.sent_bytes for s in samples])),
    )


def memory_used(sample: NodeSample) -> float | None:
    """MemTotal less MemAvailable."""
    if sample.memory_total_bytes is None or sample.memory_available_bytes is None:
        return None
    return float(sample.memory_total_bytes - sample.memory_available_bytes)


def thin_samples(samples: Sequence[Sample], limit: int = LIMIT) -> tuple[Sample, ...]:
    """At most `limit` of them, evenly spaced, including the first and the last."""
    if len(samples) <= limit:
        return tuple(samples)
    step = (len(samples) - 1) / (limit - 1)
    return tuple(samples[round(i * step)] for i in range(limit))


def integral(
    points: Iterable[tuple[int, float | None]], begin_ns: int, end_ns: int
) -> float | None:
    """A value integrated over a window, in value times seconds, by the trapezoidal rule; first and
    last known values extend to the window's ends. None if no value is known."""
    present = [(at, value) for at, value in points if value is not None]
    if not present or end_ns <= begin_ns:
        return None
    times = np.array([at for at, _ in present], np.int64)
    inside = times[(times > begin_ns) & (times < end_ns)]
    edges = np.concatenate(([begin_ns], inside, [end_ns]))
    values = np.interp(edges, times, [value for _, value in present])
    return float(np.trapezoid(values, edges) / SECOND)


def extent(points: Sequence[tuple[int, float | None]], begin_ns: int, end_ns: int) -> Extent | None:
    """Time-weighted mean over the window and the largest value within it (or overall, if none was
    sampled within it). None if nothing is known."""
    total = integral(points, begin_ns, end_ns)
    if total is None:
        return None
    present = [(at, value) for at, value in points if value is not None]
    within = [value for at, value in present if begin_ns <= at <= end_ns]
    seconds = (end_ns - begin_ns) / SECOND
    return Extent(total / seconds, max(within or [value for _, value in present]))


def tokens_per_joule(output_tokens: int, nodes: Sequence[NodeSamples]) -> float | None:
    """Output tokens of the run per joule of all nodes' GPUs; None if a node's energy is unknown,
    since a partial sum would flatter."""
    energies = [node.energy_joules for node in nodes]
    measured = [energy for energy in energies if energy is not None]
    if not measured or len(measured) < len(energies) or sum(measured) <= 0:
        return None
    return output_tokens / sum(measured)


def _accept_length(looks: Sequence[ServerLine], begin_ns: int, end_ns: int) -> float | None:
    """Accepted drafts and one token more for each step; None: the engine reports none.

    Counted, a request's first token comes from its prefill, all others from steps.
    """
    drafts, accepted, generated, finished = (
        _grown([getattr(line.look, name) for line in looks])
        for name in ("drafts", "accepted", "generated", "finished")
    )
    # A counter that an engine shows only once it has counted something has no start.
    if drafts and looks[0].look.drafts is not None:
        if accepted is not None:
            return 1 + accepted / drafts
        if generated is not None and finished is not None:
            return (generated - finished) / drafts
    after = [line for line in looks if line.at_ns > begin_ns]
    within = [line for line in after if line.at_ns <= end_ns] or after[:1]
    gauge = [value for line in within if (value := line.look.accept_length)]
    return sum(gauge) / len(gauge) if gauge else None


def _server_samples(looks: Sequence[ServerLine]) -> Iterable[ServerSample]:
    for number, line in enumerate(looks):
        look = line.look
        throughput = look.throughput
        if throughput is None and number:
            earlier = looks[number - 1]
            grown = _grown([earlier.look.generated, look.generated])
            if grown is not None:
                throughput = grown / max(line.at_ns - earlier.at_ns, 1) * SECOND
        yield ServerSample(
            at_ns=line.at_ns,
            running=look.running,
            queued=look.queued,
            token_usage=look.token_usage,
            cache_hit_rate=look.cache_hit_rate,
            throughput=throughput,
        )


def _grown(counter: Sequence[float | None]) -> float | None:
    """How much a counter grew; None if unknown, or if it was reset (the server restarted)."""
    present = [value for value in counter if value is not None]
    if len(present) < 2 or any(b < a for a, b in pairwise(present)):
        return None
    return present[-1] - present[0]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
