"""`spark-cluster logs`: the ranks' logs, merged by time."""

import os
import queue
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from spark_cluster.commands import inventory_option
from spark_cluster.feeds import NS, LogFeed, LogLine, LogMerge
from spark_cluster.printable import printable
from spark_cluster.project import find_project

# Longer than the nodes' latencies differ by; too short for a reader to notice.
HOLD_SECONDS = 0.3
# How long the first lines wait for nodes that take longer to connect.
TOGETHER_SECONDS = 6.0
Node = Mapping[str, Any]
COLORS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")


@click.command("logs")
@inventory_option
@click.option("-f", "--follow", is_flag=True, help="Follow new lines until Ctrl-C.")
@click.option(
    "-n",
    "--tail",
    default="200",
    show_default=True,
    metavar="LINES",
    help="Lines of each rank's log, or all.",
)
@click.argument("ranks", nargs=-1, metavar="[RANK]...")
def command(inventory: Path | None, follow: bool, tail: str, ranks: tuple[str, ...]) -> int:
    """Show the ranks' logs, merged by time. RANK: a number or a node's name; default: all.

    \b
    Lines are ordered by the time stamps that Docker gave them; a node's clock that is off by more
    than a second is corrected. With -f, a rank that ends and comes back is followed again.
    Exit code 1 if a log could not be read.
    """
    if tail != "all" and not tail.isdigit():
        raise click.BadParameter(f"{tail!r} is not a number, nor 'all'", param_hint="--tail")
    project = find_project(inventory)
    listing = project.fetch("listing", {"light": str(project.inventory)}, hosts="@local")
    lines: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
    feeds = [
        LogFeed(number, node, tail, follow, lines.put, print_note)
        for number, node in choose_ranks(listing["nodes"], ranks).items()
    ]
    # A process's log has no time stamps, and when a line was read is not when it was written.
    timed = all(feed.node["runtime"] == "docker" for feed in feeds)
    show = LinePrinter({feed.rank: feed.node["name"] for feed in feeds}, timed=timed)
    with _running(feeds), _quiet():
        if follow:
            _follow(feeds, lines, show)  # until Ctrl-C
        for feed in feeds:
            feed.join()
            if feed.failed:
                print_note(f"{feed.node['name']}: {feed.failed}")
        merge = LogMerge(0)
        for line in _waiting(lines, 0):
            merge.add(line)
        for line in merge.rest():
            show(line)
    return 0 if follow else int(any(feed.failed for feed in feeds))


def choose_ranks(nodes: Sequence[Node], ranks: Sequence[str]) -> dict[int, Node]:
    """Rank → its node; BadParameter for a word that is neither a rank nor a node."""
    serving = dict(enumerate(node for node in nodes if node["rank"]))
    if not ranks:
        return serving
    words = {**{str(n): n for n in serving}, **{node["name"]: n for n, node in serving.items()}}
    if unknown := [word for word in ranks if word not in words]:
        there = ", ".join(f"{n} ({node['name']})" for n, node in serving.items())
        raise click.BadParameter(
            f"{unknown[0]!r} is not a rank; choose from: {there}", param_hint="RANK"
        )
    return {words[word]: serving[words[word]] for word in ranks}


def print_note(text: str) -> None:
    click.echo(f"spark-cluster: {printable(text)}", err=True)


class LinePrinter:
    """Prints lines, each with its rank and, if there is one, its time, in the rank's color."""

    def __init__(self, names: Mapping[int, str], *, timed: bool) -> None:
        self._timed = timed
        width = max((len(name) for name in names.values()), default=0)
        self._heads = {n: f"{n} {printable(name):{width}} " for n, name in names.items()}
        self._color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def __call__(self, line: LogLine) -> None:
        at = datetime.fromtimestamp(line.at // NS).strftime("%H:%M:%S")
        head = self._heads[line.rank].rstrip()
        if self._timed:
            head = f"{self._heads[line.rank]}{at}.{line.at // 10**6 % 1000:03d}"
        if self._color:
            head = click.style(head, fg=COLORS[line.rank % len(COLORS)])
        click.echo(f"{head} {plain(line.text)}", color=self._color)


def plain(text: str) -> str:
    """The line made safe for a terminal; of a progress bar, only its last state."""
    return printable(text.rstrip().rpartition("\r")[2])


def _follow(feeds: Sequence[LogFeed], lines: queue.SimpleQueue[LogLine], show: LinePrinter) -> None:
    """Print what is there and what follows, until Ctrl-C."""
    merge, begun = LogMerge(HOLD_SECONDS), time.monotonic()
    together = False
    while True:
        for line in _waiting(lines, HOLD_SECONDS / 3):
            merge.add(line)
        now = time.monotonic()
        together = (
            together or all(f.spoke.is_set() for f in feeds) or now - begun > TOGETHER_SECONDS
        )
        if together:
            for line in merge.due(now):
                show(line)
            sys.stdout.flush()


def _waiting(lines: queue.SimpleQueue[LogLine], seconds: float) -> Iterator[LogLine]:
    """Every line in the queue; waits up to `seconds` for the first one."""
    try:
        yield lines.get(timeout=seconds) if seconds else lines.get_nowait()
        while True:
            yield lines.get_nowait()
    except queue.Empty:
        return


@contextmanager
def _running(feeds: Sequence[LogFeed]) -> Iterator[None]:
    """Start every connection, and end all of them, whatever happens."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        for feed in feeds:
            feed.start()
        yield
    finally:
        for feed in feeds:
            feed.end()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ctrl-C, and a reader that stops (`| head`), are not failures."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Python flushes stdout again at exit, which would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
