"""Progress without a terminal: a line for each load, and no more."""

from __future__ import annotations

import contextlib
from typing import Self, TextIO

from spark_bench.client.progress import Progress
from spark_bench.display import Show, chosen


def shown(stream: TextIO) -> Show:
    """A bar on a terminal, else these lines."""
    return chosen(stream, quiet=False) if stream.isatty() else Steps(stream)


class Steps:
    """Names each load on `stream` as it begins; a stream that is gone is ignored."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str) -> None:
        self.step(label)

    def update(self, progress: Progress) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
