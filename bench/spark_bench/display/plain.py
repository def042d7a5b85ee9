"""Progress without a terminal: a line a second, for logs."""

from __future__ import annotations

import contextlib
from typing import Self, TextIO

from spark_bench.client.progress import Progress
from spark_bench.display.figures import counted, digits, duration
from spark_bench.display.live import Live, Pair, View
from spark_bench.printable import printable

EVERY = 1.0  # seconds


class Plain:
    """Writes to `stream`; a stream that is gone is ignored."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._live, self._label, self._next = Live(), "", 0.0
        self._under_way = False

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str) -> None:
        self._live, self._label, self._next = Live(), label, EVERY
        self._under_way = True
        self.say(
            f"{label}: {counted(total, 'request')}; p50/p99 below are approximate (from reads)"
        )

    def update(self, progress: Progress) -> None:
        if not self._under_way:
            return
        view = self._live.view(progress)
        if progress.seconds >= self._next:
            # Looks come a little late; a schedule that drifted with them would skip seconds.
            self._next = max(self._next + EVERY, progress.seconds + EVERY / 2)
            self.say(f"{self._label}: {line(view)}")

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


def line(view: View) -> str:
    """Everything in one line."""
    now = view.progress
    failed = f" ({now.failed} failed)" if now.failed else ""
    return (
        f"{duration(now.seconds)} {now.done}/{now.total} done{failed}, {now.in_flight} in flight, "
        f"{digits(view.requests_per_second)} req/s, ~{digits(view.tokens_per_second)} tok/s, "
        f"first event {pair(view.ttft)} ms, ITL {pair(view.itl)} ms, {duration(view.left)} left"
    )


def pair(figures: Pair) -> str:
    """p50/p99."""
    return "/".join(digits(figure) for figure in figures)
