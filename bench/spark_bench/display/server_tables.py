"""What the server and its nodes told of the same time."""

from __future__ import annotations

from collections.abc import Iterator

from spark_bench.display.figures import brief, digits
from spark_bench.metrics.histograms import Reconciliation
from spark_bench.results.server_figures import NodeFigures, Nodes, Range, ServerFigures


def server(figures: ServerFigures) -> Iterator[tuple[str, str]]:
    """Its queue and cache, then where the time went."""
    parts = [
        # A gauge that never saw a request was not set while they ran (SGLang does it now and then).
        _range("running", figures.running) if figures.running and figures.running.max else "",
        _range("queued", figures.queued),
        _share("KV cache in use", figures.token_usage.max if figures.token_usage else None),
        _share("prefix cache hits", figures.cache_hit_rate),
    ]
    if told := "; ".join(filter(None, parts)):
        yield "server", told
    if figures.reconciliation:
        yield from (("", line) for line in parted(figures.reconciliation))


def nodes(found: Nodes) -> Iterator[tuple[str, str]]:
    """A line a node, and what a joule gave."""
    for node in found.nodes:
        yield node.name, node_line(node)
    if found.tokens_per_joule is not None:
        yield "energy", f"{digits(found.tokens_per_joule)} output tokens a joule, all nodes' GPUs"


def node_line(node: NodeFigures) -> str:
    """Power, heat and the host's memory, of which a GB10's GPU has a share and other GPUs none."""
    memory = node.memory_used_bytes
    parts = [
        _range("power", node.power_w, "W"),
        _range("GPU", node.temperature_c, "°C"),
        f"host memory used {brief(memory.max / 2**30, 'GiB')}" if memory else "",
        f"{digits(node.sent_bytes / 1e9, 'GB')} sent over RDMA" if node.sent_bytes else "",
    ]
    return "; ".join(filter(None, parts)) or "told nothing"


def _range(name: str, found: Range | None, unit: str = "") -> str:
    if found is None:
        return ""
    return f"{name} {digits(found.mean)} on average, {brief(found.max, unit)} at most"


def _share(name: str, share: float | None) -> str:
    return "" if share is None else f"{name} {share:.0%}"


def parted(found: Reconciliation) -> Iterator[str]:
    """TTFT by where it went; the client's ITL and E2E beside the server's own."""
    parts = [
        f"{digits(ms, 'ms')} {where}"
        for ms, where in (
            (found.ttft_queue_ms, "in the queue"),
            (found.ttft_engine_ms, "in the engine"),
            (found.ttft_outside_ms, "network and client"),
        )
        if ms is not None
    ]
    if parts and found.ttft.mean is not None:
        yield f"mean TTFT {digits(found.ttft.mean, 'ms')}: {', '.join(parts)}"
    for name, compared in (("ITL", found.itl), ("E2E", found.e2e_latency)):
        if compared.server and compared.difference is not None:
            yield (
                f"mean {name} {digits(compared.mean, 'ms')}, by the server "
                f"{digits(compared.server.mean, 'ms')}"
            )
