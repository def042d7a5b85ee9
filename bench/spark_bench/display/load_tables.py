"""Tables of loads: the points of a sweep, and the profiles."""

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from spark_bench.formats import digits
from spark_bench.load.profile import Profile
from spark_bench.load.sweep import MeasuredPoint, Sweep, knee
from spark_bench.results.schema import Result

HEADS = ("req/s", "tok/s", "TTFT p50", "p99", "ITL p50", "p99", "E2E", "failed")


def sweep_table(results: Sequence[Result], sweep: Sweep) -> Table:
    """A row per load, the knee marked; latencies in milliseconds, E2E the mean."""
    ordered = sorted(results, key=lambda result: load_value(result, sweep.over))
    points = [sweep_point(result, sweep.over) for result in ordered]
    # A point that was interrupted says nothing about its load.
    whole = [p for p, r in zip(points, ordered, strict=True) if r.status == "complete"]
    best = knee(whole) if whole else None
    stopped = next((r.reason for r in ordered if r.status == "partial"), "")
    caption = f"Ended: {stopped}." if stopped and not best else _caption(sweep, whole, best)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption)
    table.caption_justify = "left"
    at = "-c" if sweep.over == "concurrency" else "-r"
    table.add_column(at, justify="right", no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for result, point in zip(ordered, points, strict=True):
        mark = "knee" if point is best else ""
        table.add_row(f"{point.value:g}", *_cells(result), mark, style="bold" if mark else "")
    return table


def load_value(result: Result, over: str) -> float:
    """The load of a result: requests in flight or per second."""
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
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _cells(result: Result) -> list[str]:
    summary = result.summary
    names = (
        "request_throughput output_throughput median_ttft_ms p99_ttft_ms median_itl_ms p99_itl_ms "
        "mean_e2e_latency_ms"
    )
    return [*(digits(getattr(summary, name)) for name in names.split()), str(summary.failed or "")]


def _caption(sweep: Sweep, points: list[MeasuredPoint], best: MeasuredPoint | None) -> str:
    ended = sweep.ended_by(points)
    if best:
        return f"The knee is at {best.value:g}: beyond it, latency grows faster than throughput."
    return f"Ended: {ended}." if ended else "No knee yet: the server can take more load."


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
