"""A result in sentences: requests, failures, throughput, goodput, stalls, server, nodes, client."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import UNSET

from spark_bench.client.audit import Audit
from spark_bench.formats import brief, byte_text, digits, duration, plural
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.bounds import Bound, is_exact
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import Reconciliation
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.mixed import LatencySpread, MixedFigures
from spark_bench.metrics.queues import Queue
from spark_bench.metrics.stalls import Stalls
from spark_bench.metrics.steady import Steady
from spark_bench.protocol.failures import cure, meaning
from spark_bench.results.schema import Lengths, NodeFigures, Nodes, Range, Result, ServerFigures

WHOSE = {
    "engine": "in all streams (the engine)",
    "partial": "in some streams (a batch, a replica, the network)",
    "request": "in one stream (its request)",
    "alone": "in the only stream",
}


def finding_lines(result: Result) -> Iterator[tuple[str, str]]:
    """Yield (subject, sentence) for everything that the result shows."""
    summary = result.summary
    yield "requests", requests_line(summary, len(result.repeats))
    yield from failure_lines(summary)
    if summary.completed:
        yield "tokens/s", throughput_line(summary, result.intervals)
        if summary.goodput_slos_ms:
            yield "goodput", goodput_line(summary)
        yield "steady", steady_line(summary.steady, summary.steady_reason, result.bounds or {})
        yield "lengths", lengths_line(result.lengths)
    if isinstance(result.mixed, MixedFigures):
        yield from mixed_lines(result.mixed)
    if isinstance(result.accepted, Accepted):
        yield "accepted", accepted_line(result.accepted)
    if result.stalls and result.stalls.counts:
        yield "stalls", stalls_line(result.stalls)


def requests_line(summary: Summary, repeats: int = 0) -> str:
    """How many requests, how fast, how many at once; of several repeats, the duration of each."""
    each = " each" if repeats > 1 else ""
    sent = summary.completed + summary.failed
    if not summary.completed:
        return f"none of {sent} requests succeeded"
    return (
        f"{summary.completed} of {sent} completed in {digits(summary.duration, 's')}{each}: "
        f"{digits(summary.request_throughput)} req/s, {digits(summary.concurrency)} in "
        f"flight on average, {summary.peak_concurrency} at peak"
    )


def failure_lines(summary: Summary) -> Iterator[tuple[str, str]]:
    """A line per kind, most frequent first: what it means and what to do."""
    for kind, count in sorted(summary.failures.items(), key=lambda each: -each[1]):
        yield "failed", f"{count} {kind}: {meaning(kind)}; {cure(kind)}"


def throughput_line(summary: Summary, intervals: Mapping[str, Interval]) -> str:
    """Tokens per second; the output's with its confidence interval, if there is one."""
    within = interval(intervals.get("output_throughput"))
    return (
        f"{digits(summary.output_throughput)} output{within and f' ({within})'}, "
        f"{digits(summary.input_throughput)} input, {digits(summary.total_throughput)} total; "
        f"{digits(summary.max_output_tokens_per_s)} output tok/s in the best second"
    )


def interval(bounds: Interval | None) -> str:
    """ "±3.85 at 95%", half the interval's width; "" without one."""
    if not bounds:
        return ""
    return f"±{digits((bounds.high - bounds.low) / 2)} at {bounds.level:.0%}"


def goodput_line(summary: Summary) -> str:
    """How many responses met the objectives, all together and one by one."""
    limits = ", ".join(
        f"{name} ≤ {brief(ms, 'ms')}" for name, ms in (summary.goodput_slos_ms or {}).items()
    )
    shares = summary.slo_attainment_by_metric or {}
    each = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return (
        f"{digits(summary.request_goodput)} req/s; {summary.slo_attainment or 0:.1%} of "
        f"requests met {limits}" + (f" ({each})" if len(shares) > 1 else "")
    )


def steady_line(steady: Steady | None, reason: str, bounds: Mapping[str, Bound]) -> str:
    """Figures without ramp-up and tail, and how far they may be off.

    reason: why there is no such part; bounds: of the run's figures, by key
    """
    if steady is None:
        return f"no steady part: {reason or 'see each repeat'}"

    def figure(name: str) -> str:
        return figure_text(name, getattr(steady, name), bounds.get(f"steady.{name}"))

    latencies = [
        f"{title} {figure(f'median_{name}_ms')}/{figure(f'p99_{name}_ms')} ms"
        for title, name in (("TTFT", "ttft"), ("ITL", "itl"))
        if getattr(steady, f"median_{name}_ms") is not None
    ]
    return (
        f"from {digits(steady.start)} to {digits(steady.end, 's')}: "
        f"{figure('output_throughput')} output tok/s, {figure('concurrency')} in flight"
        + (f"; p50/p99 {', '.join(latencies)}" if latencies else "")
    )


def off_text(off: float) -> str:
    """How far a figure is off at most.

    >>> off_text(0.1234)
    '≤0.123'
    """
    return f"≤{digits(off)}"


def widest_off(figures: Iterable[tuple[float | None, Bound | None]]) -> str:
    """How far any of the figures of a row is off at most, in percent of it; "" if unknown.

    >>> widest_off([(200.0, Bound(198.0, 200.0)), (0.5, None), (None, None)])
    '≤1.00%'
    """
    shares = [bound.off(value) / abs(value) for value, bound in figures if value and bound]
    return f"{off_text(100 * max(shares))}%" if shares else ""


def bound_text(
    name: str, value: float | None, bound: Bound | None, places: int | None = None
) -> str:
    """What is shown beside a figure of how well it is known: "≤0.1 off", or its lowest and highest
    value where it is not exact; "" where that is less than half of its last digit, or unknown.

    name: its key, by which milliseconds are told from shares and rates
    places: its decimals where it is shown; None: those of `digits`
    """
    if value is None or bound is None:
        return ""
    if places is None:
        places = len(digits(value).partition(".")[2])
    off = bound.off(value)
    if off <= 0.5 * 10.0**-places:
        return ""
    if is_exact(name, value, bound):
        return f"{off_text(off)} off"
    return f"{digits(bound.low)} to {digits(bound.high)}"


def figure_text(name: str, value: float | None, bound: Bound | None, unit: str = "") -> str:
    """A figure, with `bound_text` in parentheses where there is something to say."""
    off = bound_text(name, value, bound)
    return f"{digits(value, unit)} ({off})" if off else digits(value, unit)


def lengths_line(lengths: Lengths) -> str:
    """Whether prompts and responses were as long as requested."""
    if lengths.tokenizer is None:
        prompts = "prompt lengths are approximate without a tokenizer (--tokenizer)"
    elif not lengths.checked:
        prompts = "prompt lengths were not checked: the server sends no usage"
    elif lengths.differing:
        prompts = (
            f"{lengths.differing} of {lengths.checked} prompts differ from the requested "
            f"length, by up to {lengths.largest_difference:+} tokens"
        )
    else:
        prompts = (
            "the prompt was as long as requested"
            if lengths.checked == 1
            else (f"all {lengths.checked} prompts were as long as requested")
        )
    early = (
        f"; {plural(lengths.stopped_early, 'response')} stopped early"
        if lengths.stopped_early
        else ""
    )
    return f"{prompts}{early}"


def mixed_lines(mixed: MixedFigures) -> Iterator[tuple[str, str]]:
    """A line per kind of prompt, and one on what prefill of long ones does to short ones."""
    for name, kind in (("short", mixed.short), ("long", mixed.long)):
        latencies = ", ".join(
            f"{title} {spread_text(spread)} ms"
            for title, spread in (
                ("TTFT", kind.ttft_ms),
                ("ITL", kind.itl_ms),
                ("E2E", kind.e2e_latency_ms),
            )
        )
        failures = f", {kind.failed} failed" if kind.failed else ""
        yield name, f"{plural(kind.completed, 'answer')}{failures}; p50/p99 {latencies}"
    during, otherwise = mixed.during, mixed.otherwise
    if during.mean and otherwise.mean:
        yield (
            "prefill",
            f"while a long prompt waited for its first token ({mixed.share:.0%} of the time), ITL "
            f"of short answers p50/p99 {spread_text(during)} ms, otherwise "
            f"{spread_text(otherwise)} ms; "
            f"{digits(during.mean / otherwise.mean)} times as long on average",
        )


def spread_text(spread: LatencySpread) -> str:
    """p50 and p99, with the bounds that their digits do not hold: "12.3/45.6 (≤0.6 off)"."""
    bounds = spread.bounds or {}
    return "/".join(
        figure_text(f"{name}_ms", getattr(spread, name), bounds.get(name))
        for name in ("p50", "p99")
    )


SOURCES = {
    "usage": "the server's counts",
    "tokenizer": "the tokenizer's counts",
    "chunk": "one token per event",
}


def accepted_line(accepted: Accepted) -> str:
    """Tokens per step with speculative decoding: mean, spread, course, and where they come from."""
    engine = "" if accepted.engine is None else f"; by the engine's metrics {accepted.engine:.2f}"
    if accepted.unclear:
        return f"not known from the stream: {accepted.unclear}{engine}"
    source = ", ".join(SOURCES.get(word, word) for word in accepted.source.split(", "))
    out = f", {accepted.left_out:,} left out" if accepted.left_out else ""
    return (
        f"{accepted.mean:.2f} tokens per step (std {accepted.std:.2f}; answers "
        f"{accepted.low:.2f} to {accepted.high:.2f}), over the answer {course_text(accepted)}"
        f"{engine}; from {source} in {sum(accepted.steps):,} events{out}"
        + ("" if accepted.mean >= NONE_ACCEPTED else f": {NO_DRAFTS}")
    )


# Fewer tokens per step, and no draft was ever right.
NONE_ACCEPTED = 1.02
NO_DRAFTS = "hardly any draft is accepted: check the draft model and the algorithm"


def course_text(accepted: Accepted) -> str:
    """The mean of each part of the answer: "3.4 3.1 2.9"."""
    return " ".join(f"{part.mean:.1f}" for part in accepted.course)


def stalls_line(stalls: Stalls) -> str:
    """How many stalls there were, what they stopped, and the longest."""
    each = "; ".join(
        f"{count} {WHOSE.get(whose, whose)}, {digits(stalls.total_ms.get(whose), 'ms')} in total"
        for whose, count in stalls.counts.items()
    )
    if stalls.prefills and stalls.prefills.stalls:
        each += f"; {stalls.prefills.stalls} of them while prompts of other requests were read"
    if not stalls.top:
        return each
    worst = stalls.top[0]
    whose = f", while request {worst.prompts[0]}'s prompt was read" if worst.prompts else ""
    return f"{each}; the longest {digits(worst.ms, 'ms')}, at {duration(worst.at)}{whose}"


def queue_lines(result: Result) -> Iterator[tuple[str, str]]:
    """How many requests the server ran at once, and how long the others waited, by the streams; the
    server's own metrics beside it; then what prompts did to ITL. Of several repeats, all are those
    of the repeat with the median wait."""
    shown = next((each for each in result.repeats if each.queue == result.queue), result)
    if queue := shown.queue:
        compared = shown.server.reconciliation if shown.server else None
        of_server = compared.ttft_queue_ms if compared else None
        own = f"; {digits(of_server, 'ms')} by its own metrics" if of_server is not None else ""
        yield "queue", queue_line(queue) + own
    bounds = shown.bounds or {}
    prefills = shown.stalls.prefills if shown.stalls else UNSET
    if prefills and prefills.p99_share is not None and prefills.p99_share >= 0.005:
        yield (
            "prompts",
            f"reading prompts of other requests causes {prefills.p99_share:.0%} of p99 ITL: "
            f"{figure_text('p99_itl_ms', prefills.p99_itl_ms, bounds.get('p99_itl_ms'), 'ms')}, "
            f"{digits(prefills.others_p99_itl_ms, 'ms')} without",
        )


def queue_line(queue: Queue) -> str:
    """Whether the server had a limit, and how much of TTFT was waiting for it."""
    ttft = figure_text("mean_ttft_ms", queue.ttft_ms, queue.ttft_bounds or None, "ms")
    if queue.verdict == "queue":
        slots, within = f"{queue.slots}", wait_range(queue)
        if queue.slots_low != queue.slots_high:
            slots = f"{queue.slots_low} to {queue.slots_high}"
        return (
            f"the server ran {slots} of {queue.in_flight} in flight: "
            f"{digits(queue.wait_ms, 'ms')}{within and f' ({within})'} of {ttft} mean TTFT was its "
            "queue"
        )
    if queue.verdict == "unknown":
        return (
            f"{queue.emitting} of {queue.in_flight} in flight emitted at once: whether the others "
            f"waited can't be told; at most {digits(queue.wait_high_ms, 'ms')} of {ttft} mean TTFT"
        )
    if queue.emitting == queue.in_flight:
        return (
            f"none: all {queue.in_flight} in flight ran at once" if queue.in_flight > 1 else "none"
        )
    return f"none found: {queue.emitting} of {queue.in_flight} in flight emitted at once"


def wait_range(queue: Queue) -> str:
    """The shortest and the longest mean wait, where that is found: "85.3 to 92.1"; "": the digits
    hold both, or it isn't known."""
    low, high = digits(queue.wait_low_ms), digits(queue.wait_high_ms)
    return "" if low == high or queue.wait_ms is None else f"{low} to {high}"


def client_line(result: Result) -> str:
    """ "exact", or "approximate" with reasons; how far the p99s are off at most; then how time was
    taken and what the client used."""
    audit = result.audit
    off = _most_off(result)
    if audit.verdict == "exact":
        return f"exact: {off and f'{off}; '}{_stamps(audit)}"
    return f"{audit.verdict}: {'; '.join(audit.reasons)} ({off and f'{off}; '}{_stamps(audit)})"


def _most_off(result: Result) -> str:
    """How far the p99 of TTFT and ITL may be from the true ones; "" where that is unknown."""
    bounds = result.bounds or {}
    parts = []
    for title, name in (("TTFT", "p99_ttft_ms"), ("ITL", "p99_itl_ms")):
        value = getattr(result.summary, name)
        if name in bounds and value is not None:
            off = bounds[name].off(value)
            short = digits(off, "ms") if off >= 0.9995 else digits(off * 1000, "µs")
            parts.append(f"{title} p99 {digits(value, 'ms')}, at most {short} off")
    return "; ".join(parts)


def _stamps(audit: Audit) -> str:
    by = "the kernel" if audit.clock == "kernel" else "this process"
    tls = "" if audit.transport == "plain" else f" ({audit.transport})"
    core = audit.cpu_seconds / audit.wall_seconds if audit.wall_seconds else 0.0
    idle = audit.idle_slots or 0.0
    slots = f"slots idle {idle:.1%} of the time; " if idle > 0.001 else ""
    return (
        f"receive times from {by}{tls}, read {digits(audit.lag_us.p99, 'µs')} later (p99); sends "
        f"{digits(audit.late_us.p99, 'µs')} late (p99); {audit.merged_reads:.1%} of events "
        f"shared a read; {slots}{core:.0%} of a core, "
        f"{byte_text(audit.peak_rss_bytes, 'MB')}"
    )


def server_lines(figures: ServerFigures) -> Iterator[tuple[str, str]]:
    """The server's queue and caches, then where the time went."""
    parts = [
        # SGLang sometimes doesn't set its gauge during a run: one that stays 0 is left out.
        _range("running", figures.running) if figures.running and figures.running.max else "",
        _range("queued", figures.queued),
        _share("KV cache in use", figures.token_usage.max if figures.token_usage else None),
        _share("prefix cache hits", figures.cache_hit_rate),
    ]
    if text := "; ".join(filter(None, parts)):
        yield "server", text
    if figures.reconciliation:
        yield from (("", line) for line in reconciliation_lines(figures.reconciliation))


def node_lines(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """A line per node, and output tokens per joule."""
    for node in nodes.nodes:
        yield node.name, node_line(node)
    if nodes.tokens_per_joule is not None:
        yield (
            "energy",
            f"{digits(nodes.tokens_per_joule)} output tokens per joule, over all nodes' GPUs",
        )


def node_line(node: NodeFigures) -> str:
    """Power, temperature, host memory (which a GB10's GPU shares), and bytes over RDMA."""
    memory = node.memory_used_bytes
    parts = [
        _range("power", node.power_w, "W"),
        _range("GPU", node.temperature_c, "°C"),
        f"host memory used {byte_text(memory.max, 'GiB')}" if memory else "",
        f"{byte_text(node.sent_bytes, 'GB')} sent over RDMA" if node.sent_bytes else "",
    ]
    return "; ".join(filter(None, parts)) or "no readings"


def _range(name: str, extent: Range | None, unit: str = "") -> str:
    if extent is None:
        return ""
    return f"{name} {digits(extent.mean)} on average, {brief(extent.max, unit)} at peak"


def _share(name: str, share: float | None) -> str:
    return "" if share is None else f"{name} {share:.0%}"


def reconciliation_lines(reconciliation: Reconciliation) -> Iterator[str]:
    """Where TTFT was spent; the client's ITL and E2E next to the server's own."""
    parts = [
        f"{digits(ms, 'ms')} {where}"
        for ms, where in (
            (reconciliation.ttft_queue_ms, "in the queue"),
            (reconciliation.ttft_engine_ms, "in the engine"),
            (reconciliation.ttft_outside_ms, "in network and client"),
        )
        if ms is not None
    ]
    if parts and reconciliation.ttft.mean is not None:
        yield f"mean TTFT {digits(reconciliation.ttft.mean, 'ms')}: {', '.join(parts)}"
    for name, compared in (("ITL", reconciliation.itl), ("E2E", reconciliation.e2e_latency)):
        if compared.server and compared.difference is not None:
            yield (
                f"mean {name} {digits(compared.mean, 'ms')}, by the server's clock "
                f"{digits(compared.server.mean, 'ms')}"
            )
