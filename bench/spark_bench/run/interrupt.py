"""Ctrl-C ends a run gracefully: what is there is read and written; a second one ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """How often Ctrl-C (or SIGTERM) came."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Interrupts]:
    """The first signal calls `stop` and is noted; a second raises KeyboardInterrupt."""
    seen = Interrupts()

    def handle(number: int, frame: FrameType | None) -> None:
        if seen.came:
            raise KeyboardInterrupt
        seen.came = True
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
