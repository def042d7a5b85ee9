"""The job that the sampler reads, and the JSON lines that it writes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from spark_bench.metrics.histograms import Histogram
from spark_bench.project import ProjectNode
from spark_bench.telemetry.prometheus import MetricsReading

# Time limit of one reading. A busy engine answers /metrics late, since the same loop streams its
# tokens.
SCRAPE_SECONDS = 5


class SamplerJob(Struct, frozen=True):
    """What to sample.

    url: of the server ("http://spark-1:30000", with or without /v1); "": none
    api_key: sent only to the server; passed on stdin, never shown
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
    """A node at one moment; None: unknown. at_ns: CLOCK_MONOTONIC of its arrival here.

    power_w: of all its GPUs together; temperature_c, clock_mhz (SM), utilization (percent): of the
        GPU with the highest
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
    """A reading of /metrics; at_ns: CLOCK_MONOTONIC of its arrival here.

    In transit its histograms lack their last bucket: its bound is infinite, which JSON can't
    represent, and its count is that of the whole histogram.
    """

    at_ns: int
    look: MetricsReading

    def sealed(self) -> ServerLine:
        """For transit: without last buckets."""
        return self._each(lambda h: replace(h, buckets=h.buckets[:-1]))

    def opened(self) -> ServerLine:
        """After transit: with last buckets."""
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
    """A note about something that could not be sampled."""

    text: str


class ReadyLine(Struct, frozen=True, tag="ready"):
    """Everything has been sampled once, or given up."""


SamplerLine = ServerLine | NodeLine | NoteLine | ReadyLine
