"""Where progress goes: a bar, plain lines, or nowhere."""

import contextlib
from types import TracebackType
from typing import Protocol, Self, TextIO

from spark_bench.client.tally import Progress
from spark_bench.display.live import Live, Pair, View
from spark_bench.formats import digits, duration, plural
from spark_bench.printable import printable


class ProgressDisplay(Protocol):
    """Shows a run in progress. No call blocks or fails, whatever happens to the terminal."""

    def step(self, text: str) -> None:
        """Show what is happening until the next step or load starts; it may take a while."""

    def start(self, total: int, label: str) -> None:
        """A load of `total` requests starts; label: its name ("quick", "repeat 2 of 3")."""

    def update(self, progress: Progress) -> None:
        """Show its progress; ignored outside a load, such as while it is prepared."""

    def end(self) -> None:
        """The load is done."""

    def say(self, text: str) -> None:
        """Print a line next to the progress."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Silent:
    """`--quiet`."""

    def step(self, text: str) -> None:
        pass

    def start(self, total: int, label: str) -> None:
        pass

    def update(self, progress: Progress) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def choose_display(stream: TextIO, *, quiet: bool) -> ProgressDisplay:
    """A bar if `stream` is a terminal, else a line per second; nothing if `quiet`."""
    if quiet:
        return Silent()
    if stream.isatty():
        from spark_bench.display.bar import Bar

        return Bar(stream)
    return Plain(stream)


EVERY = 1.0  # seconds


class Plain:
    """A line per second, for logs. A closed `stream` is ignored."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._live, self._label, self._next = Live(), "", 0.0
        self._under_way = False

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str) -> None:
        self._live, self._label, self._next = Live(), label, EVERY
        self._under_way = True
        self.say(f"{label}: {plural(total, 'request')}; p50/p99 below are approximate (from reads)")

    def update(self, progress: Progress) -> None:
        if not self._under_way:
            return
        view = self._live.view(progress)
        if progress.seconds >= self._next:
            # Updates come a little late; a schedule that drifted with them would skip seconds.
            self._next = max(self._next + EVERY, progress.seconds + EVERY / 2)
            self.say(f"{self._label}: {progress_line(view)}")

    def end(self) -> None:
        self._under_way = False

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(f"{printable(text, lines=True)}\n")
            self.stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def progress_line(view: View) -> str:
    """A view as one line."""
    now = view.progress
    failed = f" ({now.failed} failed)" if now.failed else ""
    return (
        f"{duration(now.seconds)} {now.done}/{now.total} done{failed}, {now.in_flight} in flight, "
        f"{digits(view.requests_per_second)} req/s, ~{digits(view.tokens_per_second)} tok/s, "
        f"first event {pair_text(view.ttft)} ms, ITL {pair_text(view.itl)} ms, "
        f"{duration(view.left)} left"
    )


def pair_text(figures: Pair) -> str:
    """p50/p99."""
    return "/".join(digits(figure) for figure in figures)
