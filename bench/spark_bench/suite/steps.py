"""Progress: a line a step with the time since the start, and what is under way below it."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TextIO

from spark_bench.display.figures import duration
from spark_bench.printable import printable

# Seconds of silence, where no terminal shows what is under way, until a line of it is kept.
EVERY = 15.0


class Steps:
    """Writes to `stream`; a stream that is gone is ignored."""

    def __init__(self, stream: TextIO, began: float | None = None) -> None:
        self.stream = stream
        self.began = time.monotonic() if began is None else began
        self._terminal = stream.isatty()
        self._below, self._said = False, self.began

    def step(self, text: str) -> None:
        """A line that stays."""
        self._said = time.monotonic()
        since = duration(self._said - self.began)
        self._write(f"{self._clear()}[{since:>11}] {printable(text, lines=True)}\n")

    def below(self, text: str) -> None:
        """A line that the next one takes the place of; without a terminal one now and then."""
        if not (text := printable(text).strip()):
            return
        if not self._terminal and time.monotonic() - self._said >= EVERY:
            self.step(f"  {text}")
        elif self._terminal:
            width = shutil.get_terminal_size().columns - 16
            self._write(f"{self._clear()}              {text[:width]}")
            self._below = True

    def _clear(self) -> str:
        below, self._below = self._below, False
        return "\r\x1b[K" if below else ""

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()
