"""The server's side of a run, as it is kept: figures, and samples as columns.

Columns, so that `pandas.DataFrame(result["server"]["samples"])` is a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from spark_bench.metrics.histograms import Reconciliation

if TYPE_CHECKING:
    from spark_bench.telemetry.messages import NodeSample
    from spark_bench.telemetry.readings import Extent, NodeSamples, ServerSample, ServerSide

Column = tuple[float | None, ...]


class Range(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mean over time and maximum of something, within the run."""

    mean: float
    max: float


class ServerSamples(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server by time; all columns are of one length. null: not told.

    at: seconds since the start of the run
    running, queued: requests
    token_usage: share of the KV cache in use
    cache_hit_rate: share of prompt tokens found in the prefix cache
    throughput: tokens a second that it generated
    """

    at: tuple[float, ...]
    running: Column
    queued: Column
    token_usage: Column
    cache_hit_rate: Column
    throughput: Column


class ServerFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server's own metrics say of the run.

    reconciliation: the client's latencies beside the server's histograms
    generated_tokens, prompt_tokens: by its own counters
    cache_hit_rate: share of prompt tokens found in the prefix cache
    running, queued: requests
    token_usage: share of the KV cache in use
    """

    reconciliation: Reconciliation | None
    generated_tokens: float | None
    prompt_tokens: float | None
    cache_hit_rate: float | None
    running: Range | None
    queued: Range | None
    token_usage: Range | None
    samples: ServerSamples


class NodeColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node by time; all columns are of one length. null: not told.

    at: seconds since the start of the run
    power_w: of all its GPUs; temperature_c, clock_mhz, utilization (percent): of the busiest
    memory_used_bytes: of the host; the GPU's own only where it shares that, as a GB10 does
    received_bytes, sent_bytes: over all RDMA ports since they came up
    """

    at: tuple[float, ...]
    power_w: Column
    temperature_c: Column
    clock_mhz: Column
    utilization: Column
    memory_used_bytes: Column
    received_bytes: Column
    sent_bytes: Column


class NodeFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node over the run.

    energy_joules: of its GPUs
    memory_used_bytes: of the host; the GPU's own only where it shares that, as a GB10 does
    received_bytes, sent_bytes: over RDMA during the run
    """

    name: str
    energy_joules: float | None
    power_w: Range | None
    temperature_c: Range | None
    memory_used_bytes: Range | None
    received_bytes: int | None
    sent_bytes: int | None
    samples: NodeColumns


class Nodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """tokens_per_joule: output tokens for each joule that all nodes' GPUs took; null where one of
    them doesn't tell its power."""

    tokens_per_joule: float | None
    nodes: tuple[NodeFigures, ...]


def server_figures(side: ServerSide, reconciliation: Reconciliation | None) -> ServerFigures | None:
    """What is kept of the server's metrics; None where none were seen."""
    if not side.samples:
        return None
    return ServerFigures(
        reconciliation=reconciliation,
        generated_tokens=side.generated_tokens,
        prompt_tokens=side.prompt_tokens,
        cache_hit_rate=side.cache_hit_rate,
        running=_range(side.running),
        queued=_range(side.queued),
        token_usage=_range(side.token_usage),
        samples=ServerSamples(
            at=_seconds(side.samples, side.begin_ns),
            running=_column(side.samples, "running"),
            queued=_column(side.samples, "queued"),
            token_usage=_column(side.samples, "token_usage"),
            cache_hit_rate=_column(side.samples, "cache_hit_rate"),
            throughput=_column(side.samples, "throughput"),
        ),
    )


def node_figures(side: ServerSide, output_tokens: int) -> Nodes | None:
    """What is kept of the nodes; None where none was sampled. output_tokens: of the run."""
    from spark_bench.telemetry.readings import tokens_per_joule

    if not side.nodes:
        return None
    return Nodes(
        tokens_per_joule=tokens_per_joule(output_tokens, side.nodes),
        nodes=tuple(_node(node, side.begin_ns) for node in side.nodes),
    )


def _node(node: NodeSamples, begin_ns: int) -> NodeFigures:
    from spark_bench.telemetry.readings import memory_used

    return NodeFigures(
        name=node.name,
        energy_joules=node.energy_joules,
        power_w=_range(node.power_w),
        temperature_c=_range(node.temperature_c),
        memory_used_bytes=_range(node.memory_used_bytes),
        received_bytes=node.received_bytes,
        sent_bytes=node.sent_bytes,
        samples=NodeColumns(
            at=_seconds(node.samples, begin_ns),
            power_w=_column(node.samples, "power_w"),
            temperature_c=_column(node.samples, "temperature_c"),
            clock_mhz=_column(node.samples, "clock_mhz"),
            utilization=_column(node.samples, "utilization"),
            memory_used_bytes=tuple(map(memory_used, node.samples)),
            received_bytes=_column(node.samples, "received_bytes"),
            sent_bytes=_column(node.samples, "sent_bytes"),
        ),
    )


def _range(extent: Extent | None) -> Range | None:
    return Range(mean=extent.mean, max=extent.max) if extent else None


def _seconds(samples: Sequence[ServerSample | NodeSample], begin_ns: int) -> tuple[float, ...]:
    return tuple((sample.at_ns - begin_ns) / 1e9 for sample in samples)


def _column(samples: Sequence[object], name: str) -> Column:
    return tuple(getattr(sample, name) for sample in samples)
