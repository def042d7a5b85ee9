"""Where progress goes (a bar, plain lines, or nowhere), and the figures of a run in progress,
updated from one progress report after another."""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from spark_bench.client.tally import Progress
from spark_bench.formats import digits, duration, plural
from spark_bench.printable import printable


class ProgressDisplay(Protocol):
    """Shows a run in progress. No call blocks or fails, whatever happens to the terminal."""

    def step(self, text: str) -> None:
        """Show what is happening until the next step or load starts; it may take a while."""

    def start(self, total: int, label: str, thing: str = "request") -> None:
        """A load of `total` requests starts; label: its name ("quick", "repeat 2 of 3").

        thing: what they are called; of anything but requests, remarks are shown, not latencies
        """

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
    """Shows nothing (`--quiet`)."""

    def step(self, text: str) -> None:
        pass

    def start(self, total: int, label: str, thing: str = "request") -> None:
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
        self._under_way, self._remark = False, ""

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str, thing: str = "request") -> None:
        self._live, self._label, self._next = Live(), label, EVERY
        self._under_way, self._remark = True, ""
        approximate = "; p50/p99 below are approximate (from reads)" if thing == "request" else ""
        self.say(f"{label}: {plural(total, thing)}{approximate}")

    def update(self, progress: Progress) -> None:
        # A remark that says nothing new is left out: answers may take minutes.
        if not self._under_way or (progress.remark and progress.remark == self._remark):
            return
        view = self._live.view(progress)
        if progress.seconds >= self._next:
            self._remark = progress.remark
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
    if now.remark:
        return (
            f"{duration(now.seconds)} {now.done}/{now.total} done{failed}, {now.remark}, "
            f"{duration(view.left)} left"
        )
    return (
        f"{duration(now.seconds)} {now.done}/{now.total} done{failed}, {now.in_flight} in flight, "
        f"{digits(view.requests_per_second)} req/s, ~{digits(view.tokens_per_second)} tok/s, "
        f"first event {pair_text(view.ttft)} ms, ITL {pair_text(view.itl)} ms, "
        f"{duration(view.left)} left"
    )


def pair_text(figures: Pair) -> str:
    """A pair of figures as "p50/p99"."""
    return "/".join(digits(figure) for figure in figures)


# Seconds that rates are averaged over: long enough to read, short enough to follow.
WINDOW = 5.0

Pair = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class View:
    """What is shown.

    ttft, itl: (p50, p99) in ms so far, from socket reads
    left: seconds, at the pace so far; None before the first request has finished
    """

    progress: Progress
    requests_per_second: float
    tokens_per_second: float
    ttft: Pair
    itl: Pair
    left: float | None


class Live:
    """Turns progress reports into views."""

    def __init__(self) -> None:
        self._ttft, self._itl = Sketch(), Sketch()
        self._looks: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])

    def view(self, progress: Progress) -> View:
        """The view after this report."""
        self._ttft.add(progress.first_ms)
        self._itl.add(progress.gap_ms)
        self._looks.append((progress.seconds, progress.done, progress.reads))
        while len(self._looks) > 2 and self._looks[1][0] <= progress.seconds - WINDOW:
            self._looks.popleft()
        seconds, done, reads = self._looks[0]
        span = max(progress.seconds - seconds, 1e-9)
        left = None
        if progress.done:
            left = progress.seconds / progress.done * (progress.total - progress.done)
        return View(
            progress,
            (progress.done - done) / span,
            (progress.reads - reads) / span,
            (self._ttft.quantile(0.5), self._ttft.quantile(0.99)),
            (self._itl.quantile(0.5), self._itl.quantile(0.99)),
            left,
        )


# Buckets grow by 2 %: a quantile is at most 1 % off, and 1 µs to 1 h fit into 1100 buckets.
_GROWTH = math.log(1.02)


class Sketch:
    """Approximate quantiles in little memory: counts positive figures in buckets of equal ratio."""

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, figures: Iterable[float]) -> None:
        """Count these figures; 0 and less count as 1e-6."""
        for figure in figures:
            self.buckets[math.floor(math.log(max(figure, 1e-6)) / _GROWTH)] += 1
            self.count += 1

    def quantile(self, share: float) -> float | None:
        """The quantile at `share` (0 to 1), at most 1 % off; None before the first figure."""
        rank = math.ceil(share * self.count)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return math.exp((bucket + 0.5) * _GROWTH)
        return None
