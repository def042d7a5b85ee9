"""What a run showed: a line of words for each thing that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spark_bench.client.audit import Audit
from spark_bench.formats import brief, digits, duration, plural
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import Reconciliation
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import Stalls
from spark_bench.metrics.steady import Steady
from spark_bench.protocol.failures import cure, meaning
from spark_bench.results.schema import Lengths, NodeFigures, Nodes, Range, Result, ServerFigures

WHOSE = {
    "engine": "of all streams (the engine)",
    "partial": "of some streams (a batch, a replica, the network)",
    "request": "of one stream (its request)",
    "alone": "of the only stream",
}


def finding_lines(result: Result) -> Iterator[tuple[str, str]]:
    """(what it is about, the line)."""
    summary = result.summary
    yield "requests", requests_line(summary, len(result.repeats))
    yield from failure_lines(summary)
    if summary.completed:
        yield "tokens/s", throughput_line(summary, result.intervals)
        if summary.goodput_slos_ms:
            yield "goodput", goodput_line(summary)
        yield "steady", steady_line(summary.steady, summary.steady_reason)
        yield "lengths", lengths_line(result.lengths)
    if result.stalls and result.stalls.counts:
        yield "stalls", stalls_line(result.stalls)


def requests_line(summary: Summary, repeats: int = 0) -> str:
    """How many, how fast, how many at once. Of several repeats the time is one's."""
    each = " each" if repeats > 1 else ""
    sent = summary.completed + summary.failed
    if not summary.completed:
        return f"none of {sent} counts"
    return (
        f"{summary.completed} of {sent} answered in {digits(summary.duration, 's')}{each}: "
        f"{digits(summary.request_throughput)} a second, {digits(summary.concurrency)} in "
        f"flight on average, {summary.peak_concurrency} at most"
    )


def failure_lines(summary: Summary) -> Iterator[tuple[str, str]]:
    """A line a kind, the most frequent first: what it is, and what to do."""
    for kind, count in sorted(summary.failures.items(), key=lambda each: -each[1]):
        yield "failed", f"{count} {kind}: {meaning(kind)}; {cure(kind)}"


def throughput_line(summary: Summary, intervals: Mapping[str, Interval]) -> str:
    """Tokens a second, the output with its interval where there is one."""
    within = interval(intervals.get("output_throughput"))
    return (
        f"{digits(summary.output_throughput)} output{within and f' ({within})'}, "
        f"{digits(summary.input_throughput)} input, {digits(summary.total_throughput)} total; "
        f"{digits(summary.max_output_tokens_per_s)} output in the best second"
    )


def interval(found: Interval | None) -> str:
    """ "±3.85 at 95%", half the interval's width; or nothing."""
    if not found:
        return ""
    return f"±{digits((found.high - found.low) / 2)} at {found.level:.0%}"


def goodput_line(summary: Summary) -> str:
    """How many answers met the objectives, and how many met each."""
    limits = ", ".join(
        f"{name} ≤ {brief(ms, 'ms')}" for name, ms in (summary.goodput_slos_ms or {}).items()
    )
    shares = summary.slo_attainment_by_metric or {}
    each = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return (
        f"{digits(summary.request_goodput)} req/s; {summary.slo_attainment or 0:.1%} of those "
        f"sent met {limits}" + (f" ({each})" if len(shares) > 1 else "")
    )


def steady_line(found: Steady | None, reason: str) -> str:
    """The part without start and tail."""
    if found is None:
        return f"no such part: {reason or 'over repeats, see each'}"
    latencies = [
        f"{name} {digits(median)}/{digits(p99)} ms"
        for name, median, p99 in (
            ("TTFT", found.median_ttft_ms, found.p99_ttft_ms),
            ("ITL", found.median_itl_ms, found.p99_itl_ms),
        )
        if median is not None
    ]
    return (
        f"from {digits(found.start)} to {digits(found.end, 's')}: "
        f"{digits(found.output_throughput)} output tok/s, {digits(found.concurrency)} in flight"
        + (f"; p50/p99 {', '.join(latencies)}" if latencies else "")
    )


def lengths_line(found: Lengths) -> str:
    """Whether prompts and answers were as long as asked."""
    if found.tokenizer is None:
        prompts = "of prompts approximate, for want of a tokenizer (--tokenizer)"
    elif not found.checked:
        prompts = "of prompts not checked: the server tells no usage"
    elif found.differing:
        prompts = (
            f"{found.differing} of {found.checked} prompts differ from what was asked, by up to "
            f"{found.largest_difference:+} tokens"
        )
    else:
        prompts = (
            "the prompt as asked"
            if found.checked == 1
            else (f"all {found.checked} prompts as asked")
        )
    early = (
        f"; {plural(found.stopped_early, 'answer')} stopped early" if found.stopped_early else ""
    )
    return f"{prompts}{early}"


def stalls_line(found: Stalls) -> str:
    """How many pauses, whose, and the worst."""
    each = "; ".join(
        f"{count} {WHOSE.get(whose, whose)}, {digits(found.total_ms.get(whose), 'ms')} in all"
        for whose, count in found.counts.items()
    )
    if not found.top:
        return each
    worst = found.top[0]
    return f"{each}; the longest {digits(worst.ms, 'ms')} at {duration(worst.at)}"


def client_line(audit: Audit) -> str:
    """ "exact", or "approximate" with the reasons, and what it rests on."""
    if audit.verdict == "exact":
        return f"exact: {_stamps(audit)}"
    return f"{audit.verdict} because {'; '.join(audit.reasons)} ({_stamps(audit)})"


def _stamps(audit: Audit) -> str:
    by = "the kernel" if audit.clock == "kernel" else "this process"
    tls = "" if audit.transport == "plain" else f" ({audit.transport})"
    core = audit.cpu_seconds / audit.wall_seconds if audit.wall_seconds else 0.0
    return (
        f"receive times by {by}{tls}, lag p99 {digits(audit.lag_us.p99, 'µs')}; sends late by "
        f"{digits(audit.late_us.p99, 'µs')} at p99; {audit.merged_reads:.1%} of events read with "
        "the one before; "
        f"{core:.0%} of a core, {audit.peak_rss_bytes / 1e6:.0f} MB"
    )


def server_lines(figures: ServerFigures) -> Iterator[tuple[str, str]]:
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
        yield from (("", line) for line in reconciliation_lines(figures.reconciliation))


def node_lines(found: Nodes) -> Iterator[tuple[str, str]]:
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


def reconciliation_lines(found: Reconciliation) -> Iterator[str]:
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
