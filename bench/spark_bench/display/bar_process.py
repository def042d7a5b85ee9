"""The process that draws the bar: `python -m spark_bench.display.bar_process`, see bar.py.

Reads messages from stdin, draws on stderr, prints "ready" to stdout, and exits at end of file.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spark_bench.display import bar, progress, terminal
from spark_bench.formats import digits, duration, plural


def draw_until_stdin_ends() -> None:
    """Draw until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The client goes first if it shares a core with us.
    with contextlib.suppress(OSError):
        os.nice(10)
    print("ready", flush=True)
    draw_messages(sys.stdin.buffer, terminal.Terminal(stderr=True))


def draw_messages(lines: Iterable[bytes], console: Console) -> None:
    """Draw a bar for each load, cleared at the end, when the tables replace it."""
    decode = msgspec.json.Decoder(bar.DrawMessage).decode
    live, label = progress.Live(), ""
    with Screen(console=console, auto_refresh=False, transient=True) as screen:
        for line in map(decode, lines):
            if line.step is not None:
                screen.update(Text(f"{line.step} ..."), refresh=True)
            if line.label is not None:
                live, label = progress.Live(), line.label
                screen.update(Text(f"{label}: {plural(line.total or 0, line.thing)}"), refresh=True)
            if line.look is not None:
                screen.update(render_view(label, live.view(line.look)), refresh=True)
            if line.say is not None:
                console.print(line.say)


def render_view(label: str, view: progress.View) -> RenderableType:
    """The bar and two lines of figures below it; fits in 80 columns."""
    now = view.progress
    head = Table.grid(padding=(0, 1), expand=True)
    head.add_column(no_wrap=True, ratio=1)
    head.add_column(width=24)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(
        Text(label, overflow="ellipsis"),
        ProgressBar(total=max(now.total, 1), completed=now.done),
        f"{now.done}/{now.total}  {duration(now.seconds)}  {duration(view.left)} left",
    )
    failed = f", [red]{now.failed} failed[/]" if now.failed else ""
    if now.remark:
        line = Text.from_markup(f"  {now.in_flight} in flight{failed}, ")
        return Group(head, line.append(now.remark))
    return Group(
        head,
        Text.from_markup(
            f"  {now.in_flight} in flight{failed}, {digits(view.requests_per_second)} req/s, "
            f"~{digits(view.tokens_per_second)} tok/s"
        ),
        Text.from_markup(
            f"  first event p50/p99 {progress.pair_text(view.ttft)} ms, ITL "
            f"{progress.pair_text(view.itl)} ms  [dim]approx., from reads[/]"
        ),
    )


if __name__ == "__main__":
    draw_until_stdin_ends()
