"""What all loads of a run share, and Ctrl-C.

The first Ctrl-C ends a run gracefully: what was received so far is read and written. A second one
ends it at once.
"""

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
    """Whether the user pressed Ctrl-C, or SIGTERM came.

    worth: there is something to save, or soon will be; until then, the first signal ends the run at
        once
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.came = self.worth = False
        self._stop = stop

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises KeyboardInterrupt at the second one, or if there is nothing worth saving.
        """
        if self.came or not self.worth:
            raise KeyboardInterrupt
        self.came = True
        self._stop()

    def watch(self, _: object = None) -> None:
        """Stop the load even if the signal came before it; call this regularly while sending."""
        if self.came:
            self._stop()


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Interrupts]:
    """Handle SIGINT and SIGTERM: the first is noted and calls `stop`; see `Interrupts`."""
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
