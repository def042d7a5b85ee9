"""What a run showed: a line of words for each thing that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spark_bench.display.figures import brief, counted, digits, duration
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import Stalls
from spark_bench.metrics.steady import Steady
from spark_bench.protocol.failures import cure, meaning
from spark_bench.results.lengths import Lengths
from spark_bench.results.types import Result

WHOSE = {
    "engine": "of all streams (the engine)",
    "partial": "of some streams (a batch, a replica, the network)",
    "request": "of one stream (its request)",
    "alone": "of the only stream",
}


def findings(result: Result) -> Iterator[tuple[str, str]]:
    """(what it is about, the line)."""
    summary = result.summary
    yield "requests", requests(summary, len(result.repeats))
    yield from failures(summary)
    if summary.completed:
        yield "tokens/s", throughput(summary, result.intervals)
        if summary.goodput_slos_ms:
            yield "goodput", goodput(summary)
        yield "steady", steady(summary.steady, summary.steady_reason)
        yield "lengths", lengths(result.lengths)
    if result.stalls and result.stalls.counts:
        yield "stalls", stalls(result.stalls)


def requests(summary: Summary, repeats: int = 0) -> str:
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


def failures(summary: Summary) -> Iterator[tuple[str, str]]:
    """A line a kind, the most frequent first: what it is, and what to do."""
    for kind, count in sorted(summary.failures.items(), key=lambda each: -each[1]):
        yield "failed", f"{count} {kind}: {meaning(kind)}; {cure(kind)}"


def throughput(summary: Summary, intervals: Mapping[str, Interval]) -> str:
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


def goodput(summary: Summary) -> str:
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


def steady(found: Steady | None, reason: str) -> str:
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


def lengths(found: Lengths) -> str:
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
        f"; {counted(found.stopped_early, 'answer')} stopped early" if found.stopped_early else ""
    )
    return f"{prompts}{early}"


def stalls(found: Stalls) -> str:
    """How many pauses, whose, and the worst."""
    each = "; ".join(
        f"{count} {WHOSE.get(whose, whose)}, {digits(found.total_ms.get(whose), 'ms')} in all"
        for whose, count in found.counts.items()
    )
    if not found.top:
        return each
    worst = found.top[0]
    return f"{each}; the longest {digits(worst.ms, 'ms')} at {duration(worst.at)}"
