"""Several repeats as one: medians of figures, sums of counts, the worst of the client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import over_repeats
from spark_bench.metrics.steady import Steady
from spark_bench.results.lengths import Lengths
from spark_bench.results.types import Measured, Repeat


def combined(repeats: Sequence[Repeat]) -> Measured:
    """What stands at the top of a result: the one repeat's own, or all of them together.

    Of several, only what can be combined is there; the rest is in each repeat.
    """
    if len(repeats) == 1:
        names = Measured.__struct_fields__
        return Measured(**{name: getattr(repeats[0], name) for name in names})
    summaries = [repeat.summary for repeat in repeats]
    return Measured(
        summary=median_summary(summaries),
        audit=worst_audit([repeat.audit for repeat in repeats]),
        lengths=_all_lengths([repeat.lengths for repeat in repeats]),
        intervals=over_repeats(summaries),
    )


def median_summary(summaries: Sequence[Summary]) -> Summary:
    """Counts are sums, so that no failure disappears; peak_concurrency is the highest; every
    other figure is the median of those repeats that have it."""
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
    """Exact only if all were; seconds and counts are sums, errors the largest."""

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
    """Of numbers; of mappings key by key; None where no repeat has the figure."""
    known = [value for value in values if value is not None]
    if known and isinstance(known[0], dict):
        keys = dict.fromkeys(key for value in known for key in value)
        return {key: _median([value.get(key, 0.0) for value in known]) for key in keys}
    return median(known) if known else None


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
    """The word of all, or that they differ."""
    return words[0] if len(set(words)) == 1 else "mixed"
