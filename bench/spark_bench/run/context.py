"""What all loads of a run have in common; and Ctrl-C, which ends a run gracefully: what was
received is read and written. A second one ends it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from spark_bench.display.progress import ProgressDisplay
from spark_bench.prompts.tokens import Tokens
from spark_bench.run import negotiate, reach


class Interrupts:
    """Whether Ctrl-C (or SIGTERM) came.

    worth: there is something to save, or soon will be; before that, the first signal ends the run
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.came = self.worth = False
        self._stop = stop

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.came or not self.worth:
            raise KeyboardInterrupt
        self.came = True
        self._stop()

    def watch(self, _: object = None) -> None:
        """Call it regularly while requests are sent: a signal between two loads counts, too."""
        if self.came:
            self._stop()


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Interrupts]:
    """The first signal calls `stop` and is noted; a second raises KeyboardInterrupt."""
    interrupts = Interrupts(stop)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class RunContext:
    """The server, what was negotiated with it, and the progress display."""

    server: reach.ReachedServer
    agreement: negotiate.Agreement
    tokens: Tokens
    show: ProgressDisplay
    interrupts: Interrupts
