"""What the sampler writes, a JSON line each, and the job it reads."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from spark_bench.metrics.histograms import Histogram
from spark_bench.project import ProjectNode
from spark_bench.telemetry.prometheus import MetricsReading

# A busy engine answers /metrics late, since it shares the loop that streams its tokens.
SCRAPE_SECONDS = 5


class SamplerJob(Struct, frozen=True):
    """What to sample.

    url: of the server ("http://spark-1:30000", with or without /v1); "" for none
    api_key: sent to the server alone; it travels on stdin and never shows
    interval: seconds between samples
    nodes: whose power, temperature, memory and RDMA counters
    """

    url: str = ""
    api_key: str = ""
    interval: float = 1.0
    nodes: tuple[ProjectNode, ...] = ()

    def __repr__(self) -> str:
        names = ", ".join(node.name for node in self.nodes)
        return f"SamplerJob(url={self.url!r}, interval={self.interval}, nodes=({names}))"


class NodeSample(Struct, frozen=True, omit_defaults=True):
    """A node at one moment; None: it does not tell. at_ns: CLOCK_MONOTONIC of its arrival here.

    power_w: of all its GPUs together; temperature_c, clock_mhz (SM), utilization (percent): of the
        GPU that has most
    gpu_memory_bytes: None where the GPU shares the node's memory (GB10)
    memory_available_bytes, memory_total_bytes: of the node
    received_bytes, sent_bytes: over all RDMA ports since they came up
    """

    at_ns: int
    power_w: float | None = None
    temperature_c: float | None = None
    clock_mhz: float | None = None
    utilization: float | None = None
    gpu_memory_bytes: float | None = None
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


class ServerLine(Struct, frozen=True, tag="server"):
    """What /metrics told; at_ns: CLOCK_MONOTONIC of its arrival here.

    On its way its histograms lack their last bucket, whose bound is infinite (JSON has no such
    number) and whose count is that of all.
    """

    at_ns: int
    look: MetricsReading

    def sealed(self) -> ServerLine:
        """As it travels."""
        return self._each(lambda h: replace(h, buckets=h.buckets[:-1]))

    def opened(self) -> ServerLine:
        """As it was before it travelled."""
        return self._each(lambda h: replace(h, buckets=(*h.buckets, (inf, h.count))))

    def _each(self, change: Callable[[Histogram], Histogram]) -> ServerLine:
        if self.look.histograms is None:
            return self
        changed = {name: change(h) for name, h in self.look.histograms.items()}
        return replace(self, look=replace(self.look, histograms=changed))


class NodeLine(Struct, frozen=True, tag="node"):
    node: str
    sample: NodeSample


class NoteLine(Struct, frozen=True, tag="note"):
    """Something that could not be sampled, for the reader."""

    text: str


class ReadyLine(Struct, frozen=True, tag="ready"):
    """Everything has told something, or has been given up."""


SamplerLine = ServerLine | NodeLine | NoteLine | ReadyLine
