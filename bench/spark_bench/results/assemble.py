"""Assemble what was measured into the parts of a result; combine several repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import Reconciliation
from spark_bench.metrics.intervals import over_repeats
from spark_bench.metrics.steady import Steady
from spark_bench.record import Request
from spark_bench.results.schema import (
    Lengths,
    Measurement,
    NodeColumns,
    NodeFigures,
    Nodes,
    Range,
    Repeat,
    SampleColumn,
    ServerFigures,
    ServerSamples,
)

if TYPE_CHECKING:
    from spark_bench.telemetry.messages import NodeSample
    from spark_bench.telemetry.readings import Extent, NodeSamples, ServerSample, ServerSide


def compare_lengths(requests: Iterable[Request], tokenizer: str | None) -> Lengths:
    """Compare requested lengths with actual ones. tokenizer: None if lengths are approximate."""
    asked_input = seen_input = checked = differing = largest = 0
    asked_output = seen_output = early = 0
    for request in requests:
        if not request.ok:
            continue
        asked_output += request.asked_output
        seen_output += request.output_tokens
        early += request.stopped_early
        if request.asked_input is None or not request.usage:
            continue
        difference = request.prompt_tokens - request.asked_input
        checked += 1
        asked_input += request.asked_input
        seen_input += request.prompt_tokens
        differing += difference != 0
        largest = max(largest, difference, key=abs)
    return Lengths(
        tokenizer=tokenizer,
        checked=checked,
        asked_input=asked_input,
        seen_input=seen_input,
        differing=differing,
        largest_difference=largest,
        asked_output=asked_output,
        seen_output=seen_output,
        stopped_early=early,
    )


def server_figures(side: ServerSide, reconciliation: Reconciliation | None) -> ServerFigures | None:
    """The server's figures and samples; None if there are no metrics."""
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
    """The nodes' figures and samples; None if none was sampled. output_tokens: of the run."""
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


def _column(samples: Sequence[object], name: str) -> SampleColumn:
    return tuple(getattr(sample, name) for sample in samples)


def combine_repeats(repeats: Sequence[Repeat]) -> Measurement:
    """The top level of a result: the only repeat's own figures, or all repeats combined.

    Of several repeats only what can be combined is there; the rest is in each repeat.
    """
    if len(repeats) == 1:
        names = Measurement.__struct_fields__
        return Measurement(**{name: getattr(repeats[0], name) for name in names})
    summaries = [repeat.summary for repeat in repeats]
    return Measurement(
        summary=median_summary(summaries),
        audit=worst_audit([repeat.audit for repeat in repeats]),
        lengths=_all_lengths([repeat.lengths for repeat in repeats]),
        intervals=over_repeats(summaries),
    )


def median_summary(summaries: Sequence[Summary]) -> Summary:
    """Combine summaries: counts are sums, so that no failure disappears; peak_concurrency is the
    highest; every other figure is the median of the repeats that have it."""
    sums = (
        *("completed", "failed", "stopped_early"),
        *("total_input_tokens", "total_output_tokens"),
    )
    windows = [summary.steady for summary in summaries if summary.steady]
    reasons = [summary.steady_reason for summary in summaries if summary.steady_reason]
    apart: dict[str, Any] = {
        **{name: sum(getattr(summary, name) for summary in summaries) for name in sums},
        "failures": dict(sum((Counter(summary.failures) for summary in summaries), Counter())),
        "peak_concurrency": max(summary.peak_concurrency for summary in summaries),
        "steady": _median_steady(windows) if len(windows) == len(summaries) else None,
        "steady_reason": reasons[0] if reasons else "",
    }
    return Summary(**apart, **_medians(summaries, apart))


def worst_audit(audits: Sequence[Audit]) -> Audit:
    """Combine audits: exact if all are; seconds and counts are sums, errors the largest."""

    def total(name: str) -> Any:
        return sum(getattr(audit, name) for audit in audits)

    def most(name: str) -> Any:
        return max((getattr(audit, name) for audit in audits), key=abs)

    reasons = dict.fromkeys(reason for audit in audits for reason in audit.reasons)
    verdicts = [audit.verdict for audit in audits if audit.verdict != "exact"]
    return Audit(
        clock=_one_of([audit.clock for audit in audits]),
        transport=_one_of([audit.transport for audit in audits]),
        reads=total("reads"),
        lag_us=_widest([audit.lag_us for audit in audits]),
        late_us=_widest([audit.late_us for audit in audits]),
        merged_reads=most("merged_reads"),
        clock_step_us=most("clock_step_us"),
        cpu_seconds=total("cpu_seconds"),
        wall_seconds=total("wall_seconds"),
        parse_seconds=total("parse_seconds"),
        peak_rss_bytes=most("peak_rss_bytes"),
        spilled_bytes=total("spilled_bytes"),
        verdict=verdicts[0] if verdicts else "exact",
        reasons=tuple(reasons),
    )


def _medians(structs: Sequence[msgspec.Struct], apart: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in structs[0].__struct_fields__ if name not in apart]
    return {name: _median([getattr(each, name) for each in structs]) for name in names}


def _median(values: Sequence[Any]) -> Any:
    """The median of numbers, or of mappings key by key; None if no repeat has the figure."""
    present = [value for value in values if value is not None]
    if present and isinstance(present[0], dict):
        keys = dict.fromkeys(key for value in present for key in value)
        return {key: _median([value.get(key, 0.0) for value in present]) for key in keys}
    return median(present) if present else None


def _median_steady(windows: Sequence[Steady]) -> Steady:
    sums = ("output_tokens", "completed", "n_ttft")
    apart: dict[str, Any] = {
        **{name: sum(getattr(window, name) for window in windows) for name in sums},
        "rule": windows[0].rule,
    }
    return Steady(**apart, **_medians(windows, apart))


def _all_lengths(lengths: Sequence[Lengths]) -> Lengths:
    def total(name: str) -> int:
        return sum(getattr(each, name) for each in lengths)

    apart = {
        "tokenizer": lengths[0].tokenizer,
        "largest_difference": max((each.largest_difference for each in lengths), key=abs),
    }
    names = [name for name in Lengths.__struct_fields__ if name not in apart]
    return Lengths(**apart, **{name: total(name) for name in names})  # type: ignore[arg-type]


def _widest(spreads: Sequence[Spread]) -> Spread:
    return Spread(
        max(spread.p50 for spread in spreads),
        max(spread.p99 for spread in spreads),
        max(spread.max for spread in spreads),
    )


def _one_of(words: Sequence[str]) -> str:
    """The value they all have, or "mixed"."""
    return words[0] if len(set(words)) == 1 else "mixed"
