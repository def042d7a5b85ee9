"""Turn what was measured into the parts of a result; combine several repeats."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import msgspec
from msgspec import UNSET

from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics import figures, histograms, intervals
from spark_bench.metrics.accepted import Accepted, merge_accepted
from spark_bench.metrics.bounds import median_bounds
from spark_bench.metrics.depth import DepthFigures, merge_depth
from spark_bench.metrics.mixed import MixedFigures, merge_mixed
from spark_bench.metrics.steady import Steady
from spark_bench.record import Request
from spark_bench.results import schema
from spark_bench.telemetry import readings


def compare_lengths(requests: Iterable[Request], tokenizer: str | None) -> schema.Lengths:
    """Compare requested lengths with actual ones.

    tokenizer: what counted the prompts; None if their lengths are approximate
    """
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
    return schema.Lengths(
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


# ---- the server's and the nodes' side


def server_figures(
    side: readings.ServerSide, reconciliation: histograms.Reconciliation | None
) -> schema.ServerFigures | None:
    """The server's own figures and samples; None if it has no metrics."""
    if not side.samples:
        return None
    columns = ("running", "queued", "token_usage", "cache_hit_rate", "throughput")
    return schema.ServerFigures(
        reconciliation=reconciliation,
        generated_tokens=side.generated_tokens,
        prompt_tokens=side.prompt_tokens,
        cache_hit_rate=side.cache_hit_rate,
        running=_range(side.running),
        queued=_range(side.queued),
        token_usage=_range(side.token_usage),
        samples=schema.ServerSamples(
            at=tuple((sample.at_ns - side.begin_ns) / 1e9 for sample in side.samples),
            **{name: _column(side.samples, name) for name in columns},
        ),
    )


def node_figures(side: readings.ServerSide, output_tokens: int) -> schema.Nodes | None:
    """The nodes' figures and samples; None if no node was sampled.

    output_tokens: tokens generated in the run, for tokens per joule
    """
    if not side.nodes:
        return None
    columns = (
        *("power_w", "temperature_c", "clock_mhz", "utilization"),
        *("received_bytes", "sent_bytes"),
    )
    nodes = [
        schema.NodeFigures(
            name=node.name,
            energy_joules=node.energy_joules,
            power_w=_range(node.power_w),
            temperature_c=_range(node.temperature_c),
            memory_used_bytes=_range(node.memory_used_bytes),
            received_bytes=node.received_bytes,
            sent_bytes=node.sent_bytes,
            samples=schema.NodeColumns(
                at=tuple((sample.at_ns - side.begin_ns) / 1e9 for sample in node.samples),
                memory_used_bytes=tuple(map(readings.memory_used, node.samples)),
                **{name: _column(node.samples, name) for name in columns},
            ),
        )
        for node in side.nodes
    ]
    efficiency = readings.tokens_per_joule(output_tokens, side.nodes)
    return schema.Nodes(tokens_per_joule=efficiency, nodes=tuple(nodes))


def _range(extent: readings.Extent | None) -> schema.Range | None:
    return schema.Range(mean=extent.mean, max=extent.max) if extent else None


def _column(samples: Sequence[object], name: str) -> schema.SampleColumn:
    return tuple(getattr(sample, name) for sample in samples)


# ---- several repeats


def combine_repeats(repeats: Sequence[schema.Repeat]) -> schema.Measurement:
    """The top level of a result: the only repeat's own figures, or all repeats combined.

    For several repeats it has only what can be combined; the rest is in each repeat.
    """
    if len(repeats) == 1:
        names = schema.Measurement.__struct_fields__
        return schema.Measurement(**{name: getattr(repeats[0], name) for name in names})
    summaries = [repeat.summary for repeat in repeats]
    queues = [repeat.queue for repeat in repeats if repeat.queue is not UNSET]
    queues.sort(key=lambda queue: -1.0 if queue.wait_ms is None else queue.wait_ms)
    lengths = [repeat.lengths for repeat in repeats]
    accepted = [each for repeat in repeats if isinstance(each := repeat.accepted, Accepted)]
    depths = [depth for repeat in repeats if isinstance(depth := repeat.depth, DepthFigures)]
    mixed = [kinds for repeat in repeats if isinstance(kinds := repeat.mixed, MixedFigures)]
    apart: dict[str, Any] = {
        "tokenizer": lengths[0].tokenizer,
        "largest_difference": max((each.largest_difference for each in lengths), key=abs),
    }
    sums = [name for name in schema.Lengths.__struct_fields__ if name not in apart]
    return schema.Measurement(
        summary=median_summary(summaries),
        audit=worst_audit([repeat.audit for repeat in repeats]),
        lengths=schema.Lengths(**apart, **_sums(lengths, sums)),
        intervals=intervals.over_repeats(summaries),
        bounds=median_bounds([repeat.bounds for repeat in repeats]),
        accepted=merge_accepted(accepted) if accepted else UNSET,
        depth=merge_depth(depths) if depths else UNSET,
        mixed=merge_mixed(mixed) if mixed else UNSET,
        queue=queues[len(queues) // 2] if len(queues) == len(repeats) else UNSET,
    )


def median_summary(summaries: Sequence[figures.Summary]) -> figures.Summary:
    """Combine the summaries of several repeats.

    Counts are sums, so that no failure disappears; peak_concurrency is the highest; every other
    figure is the median over the repeats that have it.
    """
    sums = (
        *("completed", "failed", "stopped_early"),
        *("total_input_tokens", "total_output_tokens"),
    )
    windows = [summary.steady for summary in summaries if summary.steady]
    steady = None
    if len(windows) == len(summaries):
        counts = _sums(windows, ("output_tokens", "completed", "n_ttft"))
        whole = {**counts, "rule": windows[0].rule}
        steady = Steady(**whole, **_medians(windows, whole))
    reasons = [summary.steady_reason for summary in summaries if summary.steady_reason]
    apart: dict[str, Any] = {
        **_sums(summaries, sums),
        "failures": dict(sum((Counter(summary.failures) for summary in summaries), Counter())),
        "peak_concurrency": max(summary.peak_concurrency for summary in summaries),
        "steady": steady,
        "steady_reason": reasons[0] if reasons else "",
    }
    return figures.Summary(**apart, **_medians(summaries, apart))


def worst_audit(audits: Sequence[Audit]) -> Audit:
    """Combine audits: exact if all are; seconds and counts are summed, errors are the largest."""
    reasons = dict.fromkeys(reason for audit in audits for reason in audit.reasons)
    verdicts = [audit.verdict for audit in audits if audit.verdict != "exact"]
    sums = ("reads", "cpu_seconds", "wall_seconds", "parse_seconds", "spilled_bytes")
    most = ("merged_reads", "clock_step_us", "peak_rss_bytes")
    largest = {name: max((getattr(each, name) for each in audits), key=abs) for name in most}
    return Audit(
        clock=_one_of([audit.clock for audit in audits]),
        transport=_one_of([audit.transport for audit in audits]),
        lag_us=_widest([audit.lag_us for audit in audits]),
        late_us=_widest([audit.late_us for audit in audits]),
        **_sums(audits, sums),
        **largest,
        idle_slots=max((each.idle_slots or 0.0 for each in audits), default=0.0)
        if all(each.idle_slots is not UNSET for each in audits)
        else UNSET,
        verdict=verdicts[0] if verdicts else "exact",
        reasons=tuple(reasons),
        bounded=UNSET
        if any(audit.bounded is UNSET for audit in audits)
        else all(audit.bounded for audit in audits),
    )


def _sums(structs: Sequence[msgspec.Struct], names: Iterable[str]) -> dict[str, Any]:
    return {name: sum(getattr(each, name) for each in structs) for name in names}


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


def _widest(spreads: Sequence[Spread]) -> Spread:
    return Spread(
        max(spread.p50 for spread in spreads),
        max(spread.p99 for spread in spreads),
        max(spread.max for spread in spreads),
    )


def _one_of(words: Sequence[str]) -> str:
    """The value that all of them have, or "mixed"."""
    return words[0] if len(set(words)) == 1 else "mixed"
