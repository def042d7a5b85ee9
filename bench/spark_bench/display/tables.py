"""What a user reads at the end of a run or a sweep, and the profiles, as rich tables."""

import math
from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench import expectations, formats, options
from spark_bench.display import result_lines
from spark_bench.load.profile import Profile
from spark_bench.load.sweep import MeasuredPoint, Sweep, knee, knee_between, power_between
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.depth import Speed
from spark_bench.printable import printable
from spark_bench.results.config_schema import RunConfig
from spark_bench.results.llama_benchy import result_rows
from spark_bench.results.schema import Result


def outcome_tables(
    outcome: options.RunOutcome, sweep: Sweep | None = None
) -> Iterator[RenderableType]:
    """Everything that a run prints, in order."""
    if sweep and outcome.results:
        # Only the last one can have been interrupted.
        yield _head(outcome.results[-1], sweep.over)
        yield sweep_table(outcome.results, sweep)
        ordered = sorted(outcome.results, key=lambda result: load_value(result, sweep.over))
        yield labeled_lines(
            _merged_lines((f"at {load_value(r, sweep.over):g}", _client_lines(r)) for r in ordered)
        )
    elif any(result.config.depth is not UNSET for result in outcome.results):
        yield _head(outcome.results[-1], "depth")
        yield depth_table(outcome.results)
        yield labeled_lines(
            _merged_lines((f"depth {r.config.depth}", _depth_lines(r)) for r in outcome.results)
        )
    else:
        for result in outcome.results:
            yield from result_tables(result)
        if any(result.config.published for result in outcome.results):
            yield from published_tables(outcome.results)
    for path in outcome.written:
        yield Text(f"written to {path}", overflow="fold")


def result_tables(result: Result) -> Iterator[RenderableType]:
    """One result: what was run, latencies, then everything else in sentences."""
    yield _head(result)
    if result.summary.completed:
        yield latencies(result)
    lines = [*result_lines.finding_lines(result), *result_lines.queue_lines(result)]
    if result.summary.completed:
        lines += expectations.expectation_lines(result)
    if result.server:
        lines += result_lines.server_lines(result.server)
    if result.nodes:
        lines += result_lines.node_lines(result.nodes)
    yield labeled_lines([*lines, ("client", result_lines.client_line(result))])
    if result.notes:
        yield labeled_lines(("note", note) for note in result.notes)


def _head(result: Result, swept: str = "") -> RenderableType:
    partial = [("partial", result.reason)] if result.status == "partial" else []
    load = (result.config.profile, load_line(result.config, swept))
    return labeled_lines([*partial, load, ("server", server_line(result))])


def labeled_lines(rows: Iterable[tuple[str, str]]) -> Table:
    """Lines, each with a label in front."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=10)
    grid.add_column(overflow="fold")
    for name, text in rows:
        grid.add_row(printable(name), Text(printable(text)))
    return grid


FIGURES = ("mean", "median", "p90", "p99", "max")
HEADS = ("mean", "p50", "p90", "p99", "max")
ROWS = (
    ("TTFT", "ttft"),
    ("TTFT, scheduled", "scheduled_ttft"),
    ("ITL", "itl"),
    ("TPOT", "tpot"),
    ("E2E", "e2e_latency"),
    ("E2E, scheduled", "scheduled_e2e_latency"),
)


def latencies(result: Result) -> Table:
    """Latencies in milliseconds, and how far the figures of a row are off at most.

    Those from the scheduled time are shown only for open loads.
    """
    due = open_loop(result.config)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("ms", no_wrap=True, style="bold")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    intervals = {name: bounds for name, bounds in result.intervals.items() if "mean_" in name}
    if intervals:
        table.add_column("mean, 95%", justify="right", no_wrap=True)
    limits = result.bounds or {}
    if limits:
        table.add_column("off", justify="right", no_wrap=True)
    for title, name in ROWS:
        if due or not name.startswith("scheduled"):
            cells = [
                formats.digits(getattr(result.summary, f"{figure}_{name}_ms")) for figure in FIGURES
            ]
            if intervals:
                bounds = intervals.get(f"mean_{name}_ms")
                cells.append(f"±{formats.digits((bounds.high - bounds.low) / 2)}" if bounds else "")
            if limits:
                off = [
                    bound.off(value)
                    for figure in FIGURES
                    if (bound := limits.get(f"{figure}_{name}_ms"))
                    and (value := getattr(result.summary, f"{figure}_{name}_ms")) is not None
                ]
                cells.append(result_lines.off_text(max(off)) if off else "")
            table.add_row(title, *cells)
    return table


def load_line(config: RunConfig, swept: str = "") -> str:
    """The load in words; swept: what varies from point to point, "concurrency", "rate" or
    "depth"."""
    repeats = f", {config.repeat} times" if config.repeat > 1 else ""
    shape = {1.0: "Poisson", None: "even"}.get(config.burstiness, f"gamma {config.burstiness}")
    if swept == "rate":
        arrival = "several rates"
    elif config.dataset and _trace(config):
        arrival = f"at the times in {config.dataset.file}"
    elif ramp := config.rate_ramp:
        arrival = (
            f"{formats.brief(ramp.start)} to {formats.brief(ramp.end)} req/s ({ramp.shape}, "
            f"{shape})"
        )
    elif config.request_rate is None:
        arrival = "closed loop"
    else:
        arrival = f"{formats.brief(config.request_rate)} req/s ({shape})"
    slots = f"{config.concurrency} in flight" if config.concurrency else "no limit in flight"
    if swept == "concurrency":
        slots = "several numbers in flight"
    long = ""
    if each := config.long:
        long = f"every {each.every}th {each.input_len:,} in, {each.output_len:,} out, "
    after = ""
    if config.depth is not UNSET:
        depth = "several depths" if swept == "depth" else f"{config.depth:,} tokens"
        after = f"after {depth} of context{' (cached)' if config.depth_cached else ''}, "
    return (
        f"{formats.plural(config.num_prompts, 'prompt')}{repeats}, {after}"
        f"{_length(config.input_len)} tokens in, "
        f"{_length(config.output_len)} out, {long}{arrival}, {slots}"
    )


def server_line(result: Result) -> str:
    """The server: URL, model, endpoint, engine and version."""
    config, server = result.config, result.provenance.server
    engine = " ".join(filter(None, (server.engine, server.version)))
    return ", ".join(filter(None, (config.url, config.model, config.endpoint, engine)))


def open_loop(config: RunConfig) -> bool:
    """Whether requests were sent by the clock rather than when others had finished."""
    return bool(config.request_rate or config.rate_ramp) or _trace(config)


def _trace(config: RunConfig) -> bool:
    return config.dataset is not None and config.dataset.format == "trace"


def _length(tokens: int | None) -> str:
    return "varying" if tokens is None else f"{tokens:,}"


SWEEP_HEADS = ("req/s", "tok/s", "TTFT p50", "p99", "ITL p50", "p99", "E2E", "failed")
SWEEP_FIGURES = (
    "request_throughput",
    "output_throughput",
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_itl_ms",
    "p99_itl_ms",
    "mean_e2e_latency_ms",
)


def sweep_table(results: Sequence[Result], sweep: Sweep) -> Table:
    """A row per load, the knee marked; latencies in milliseconds, E2E the mean. "off": how far any
    figure of a row is off at most, in percent of it."""
    ordered = sorted(results, key=lambda result: load_value(result, sweep.over))
    points = [sweep_point(result, sweep.over) for result in ordered]
    # An interrupted point doesn't show what its load would have given.
    complete = [p for p, r in zip(points, ordered, strict=True) if r.status == "complete"]
    best = knee(complete) if complete else None
    stopped = next((r.reason for r in ordered if r.status == "partial"), "")
    if best:
        at = f"The knee is at {best.value:g}"
        within = knee_between(complete)
        if len(within) > 1:
            at += f" ({within[0]:g} to {within[-1]:g} by the bounds of the figures)"
        caption = f"{at}: beyond it, latency grows faster than throughput."
    elif ended := stopped or sweep.ended_by(complete):
        caption = f"Ended: {ended}."
    else:
        caption = "No knee yet: the server can take more load."
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption)
    table.caption_justify = "left"
    option = "-c" if sweep.over == "concurrency" else "-r"
    table.add_column(option, justify="right", no_wrap=True)
    for head in (*SWEEP_HEADS, *["off"] * any(result.bounds for result in ordered)):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for result, point in zip(ordered, points, strict=True):
        mark = "knee" if point is best else ""
        cells = [formats.digits(getattr(result.summary, name)) for name in SWEEP_FIGURES]
        cells.append(str(result.summary.failed or ""))
        if any(each.bounds for each in ordered):
            limits = result.bounds or {}
            figures = ((getattr(result.summary, n), limits.get(n)) for n in SWEEP_FIGURES)
            cells.append(result_lines.widest_off(figures))
        table.add_row(f"{point.value:g}", *cells, mark, style="bold" if mark else "")
    return table


def published_tables(results: Sequence[Result]) -> Iterator[RenderableType]:
    """A row per published figure of each load, TPOT first, then whose figures they are."""
    from spark_bench.expectations.published import (
        FIGURES,
        measured_text,
        percent_text,
        setting_words,
    )

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("tokens,\nload", no_wrap=True)
    table.add_column("figure", overflow="fold")
    for head in ("here", "published", "difference"):
        table.add_column(head, justify="right", no_wrap=True)
    sources: dict[tuple[str, str], None] = {}
    for result in results:
        one = result.config.published
        if not one:
            continue
        sources[one.evidence, f"{setting_words(one)} ({one.source})"] = None
        load = f"{one.input_len}/{one.output_len},\n{one.streams} in flight"
        figures = [each for each in expectations.judge_result(result)[1:] if each.share is not None]
        rows = [
            (
                ", ".join(FIGURES[each.metric]),
                measured_text(each),
                f"{each.expected:,.6g}",
                percent_text(each),
            )
            for each in figures
        ] or [("not compared: see above", "-", "-", "-")]
        for index, row in enumerate(rows):
            last = index == len(rows) - 1
            table.add_row("" if index else load, *row, end_section=last)
    yield table
    yield labeled_lines(sources)


DEPTH_COLUMNS = {
    "t/s": "speed",
    "t/s a request": "each",
    "peak t/s": "peak",
    "TTFT, ms": "ttft_ms",
}


def depth_table(results: Sequence[Result]) -> Table:
    """The rows as llama-benchy's users publish them: means, ± the standard deviation. "off": how
    far any mean of a row is off at most, in percent of it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("test", no_wrap=True, style="bold")
    rows = [row for result in results for row in result_rows(result)]
    columns = {head: [getattr(row, name) for row in rows] for head, name in DEPTH_COLUMNS.items()}
    present = {head: cells for head, cells in columns.items() if any(cells)}
    for head in present:
        table.add_column(head, justify="right", no_wrap=True)
    off = [
        result_lines.widest_off(
            (cells[n].mean, cells[n].bound) for cells in present.values() if cells[n]
        )
        for n in range(len(rows))
    ]
    if any(off):
        table.add_column("off", justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        cells = [speed_text(column[number]) for column in present.values()]
        table.add_row(row.test, *cells, *[off[number]] * any(off))
    return table


def speed_text(speed: Speed | None) -> str:
    """A mean with its standard deviation; "" for none."""
    return f"{formats.digits(speed.mean)} ± {formats.digits(speed.std)}" if speed else ""


def _depth_lines(result: Result) -> Iterator[tuple[str, str]]:
    """What is to be known about a depth beside its rows."""
    yield from result_lines.failure_lines(result.summary)
    if result.status == "partial":
        yield "partial", result.reason
    if isinstance(result.accepted, Accepted):
        yield "accepted", result_lines.accepted_line(result.accepted)
    yield from (line for line in expectations.expectation_lines(result) if line[0] == "published")
    yield from _client_lines(result)
    yield from (("note", note) for note in result.notes)


def _client_lines(result: Result) -> Iterator[tuple[str, str]]:
    """The client's verdict on itself and the first reason for it; nothing if it is exact."""
    if reasons := result.audit.reasons:
        more = f"; {len(reasons) - 1} more in its file" if len(reasons) > 1 else ""
        yield "client", f"{result.audit.verdict}: {reasons[0]}{more}"


def _merged_lines(
    points: Iterable[tuple[str, Iterable[tuple[str, str]]]],
) -> Iterator[tuple[str, str]]:
    """The lines of several results, which are called by their loads: those of all only once."""
    lines, names = dict[tuple[str, str], list[str]](), list[str]()
    for name, own in points:
        names.append(name)
        for line in own:
            lines.setdefault(line, []).append(name)
    for (about, text), where in lines.items():
        yield about, text if where == names else f"{', '.join(where)}: {text}"


def load_value(result: Result, over: str) -> float:
    """The load of a result, a point of a sweep: requests in flight or per second, as `over` says
    ("concurrency" or "rate")."""
    config = result.config
    load = config.concurrency if over == "concurrency" else config.request_rate
    assert load is not None, f"a point of a sweep over {over} has none"
    return load


def sweep_point(result: Result, over: str) -> MeasuredPoint:
    """A result as a point of a sweep."""
    summary = result.summary
    sent = summary.completed + summary.failed
    return MeasuredPoint(
        value=load_value(result, over),
        output_throughput=summary.output_throughput or 0.0,
        request_throughput=summary.request_throughput or 0.0,
        ttft_ms=_or_nan(summary.mean_ttft_ms),
        e2e_ms=_or_nan(summary.mean_e2e_latency_ms),
        goodput=summary.request_goodput,
        failed=summary.failed / sent if sent else 0.0,
        between=power_between(result.bounds or {}),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def profile_table(profiles: Iterable[Profile]) -> Table:
    """A row for each profile, under the options of `run`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("profile", no_wrap=True)
    for name in ("-n", "-i", "-o", "-r", "-c"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("use")
    for profile in profiles:
        table.add_row(
            profile.name,
            str(profile.num_prompts),
            str(profile.input_len),
            str(profile.output_len),
            "inf" if profile.request_rate is None else f"{profile.request_rate:g}",
            "none" if profile.concurrency is None else str(profile.concurrency),
            profile.use,
        )
    return table
