"""What `verify` prints at its end, 80 columns wide."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spark_bench.formats import digits
from spark_bench.selftest.accuracy import Deviation, StreamLevel, format_percent
from spark_bench.selftest.selftest import SelftestReport
from spark_bench.selftest.verdict import SelftestVerdict, Surroundings

STAMPS = ("streams", "chunks/s", "p50", "p99", "max", "merged", "CPU", "+ read", "core")
ABOUT_STAMPS = "Time stamps of chunks: error in µs; merged: share in a common read; CPU: µs each"
LATENCIES = ("", "streams", "true ms", "mean", "p50", "p99", "accept")
ABOUT_LATENCIES = "Latencies: error in µs; accept: from our send to the server's read, µs p50/p99"


def render_selftest(report: SelftestReport) -> Iterator[RenderableType]:
    """Yield everything in the order in which it is printed."""
    yield Text(f"\n{ABOUT_STAMPS}", style="bold")
    yield _table(STAMPS, map(stamp_cells, report.levels))
    yield Text(ABOUT_LATENCIES, style="bold")
    yield _table(LATENCIES, latency_rows(report.levels))
    yield _grid([*verdict_rows(report.verdict), ("machine", machine_line(report.surroundings))])
    style = "bold green" if report.verdict.good else "bold red"
    yield Text(f"\n{report.verdict.sentence}", style=style)
    if report.verdict.causes:
        yield _grid(("because", f"{c.reason}: {c.cure}") for c in report.verdict.causes)


def stamp_cells(level: StreamLevel) -> tuple[str, ...]:
    stamp = level.stamp_us
    return (
        f"{level.streams:,}",
        f"{level.chunks_per_s:,.0f}",
        *map(digits, (stamp.p50, stamp.p99, stamp.max)),
        f"{level.audit.merged_reads:.1%}",
        digits(level.cpu_us),
        digits(level.read_us),
        f"{level.core:.0%}",
    )


def latency_rows(levels: Sequence[StreamLevel]) -> Iterator[tuple[str, ...]]:
    for level in levels:
        accept = f"{digits(level.accept_us.p50)}/{digits(level.accept_us.p99)}"
        for name, figures, last in (("TTFT", level.ttft, accept), ("ITL", level.itl, "")):
            if figures:
                true = digits(figures["mean"].true_ms)
                errors = (error_cell(figures[key]) for key in ("mean", "p50", "p99"))
                yield name, f"{level.streams:,}", true, *errors, last


def error_cell(figure: Deviation) -> str:
    """
    >>> error_cell(Deviation(100.0123, 100.0, 12.3, 0.0123))
    '+12.3 0.01%'
    """
    sign = "+" if figure.error_us >= 0 else "-"
    return f"{sign}{digits(abs(figure.error_us))} {format_percent(figure)}"


def verdict_rows(verdict: SelftestVerdict) -> Iterator[tuple[str, str]]:
    for aspect in verdict.aspects:
        yield aspect.name, aspect.sentence if aspect.good else f"NOT GOOD: {aspect.sentence}"


def machine_line(around: Surroundings) -> str:
    """Describe the machine, and how quiet it was."""
    machine = around.machine
    load = machine.load_average
    pins = (
        "one core for both"
        if around.client_core is None
        else f"client on core {around.client_core}, reference server on {around.ruler_core}"
    )
    words = [
        f"{machine.cpu or machine.platform}, {machine.usable_cores} cores, {pins}",
        f"others used {around.others:.1f} cores",
        f"load average {load[0]:.1f}" if load else "",
        f"steal {around.stolen:.1%}",
        f"throttled {around.throttled} times" if around.throttled else "",
        f"governor {machine.governor}" if machine.governor else "",
    ]
    return "; ".join(filter(None, words))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number or head else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=11)
    grid.add_column(overflow="fold")
    for name, text in rows:
        grid.add_row(name, Text(text))
    return grid
