"""How long this thread waited for a CPU after something had come for it.

A thread that sleeps in `epoll_wait` is woken by the first event. Then it may wait for a CPU, which
the kernel counts (`run_delay` in /proc/thread-self/schedstat, in ns since the thread began). So
what woke it came no earlier than its return minus what was counted meanwhile. A process that was
stopped waits without being counted: it gets SIGCONT when it goes on.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

SCHEDSTAT = "/proc/thread-self/schedstat"
# What the kernel and Python take from the event to the next line of ours, in ns: some 20 us on an
# idle machine; interrupts come on top.
RETURN_NS = 200_000


# Before and after waiting for events, in ns.
Wait = tuple[int, int]


class Wakeups:
    """The time that this thread has waited for a CPU, read when it is asked for.

    `with` it belongs to the thread that entered it. Knows nothing outside, in other threads than
    the main one (which alone gets signals), and where the kernel does not count.
    """

    def __init__(self) -> None:
        self._file = -1
        self._delay_ns = self._woke_ns = self._first_ns = self._came_ns = 0
        self._continued_ns = 0
        self._usual: Any = None

    def __enter__(self) -> Wakeups:
        if threading.current_thread() is threading.main_thread():
            with suppress(OSError):
                self._file = os.open(SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
            if self._file >= 0 and os.pread(self._file, 80, 0).startswith(b"0 "):
                os.close(self._file)  # a kernel that does not count says zero
                self._file = -1
            if self._file >= 0:
                self._delay_ns = self._read()
                self._usual = signal.signal(signal.SIGCONT, self._continue)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            signal.signal(signal.SIGCONT, self._usual or signal.SIG_DFL)
            os.close(self._file)
            self._file = -1

    def came_after(self, last: Wait, before: Wait) -> int:
        """After which time everything that the last look reported came; 0 if that is unknown.

        If the last look had to wait, that is when its first event came. If the one before it had
        to, it is when that one's first event came, since it did not report what came later.
        """
        if self._file < 0:
            return 0
        if last[1] != self._woke_ns:
            since, self._delay_ns = self._delay_ns, self._read()
            delay_ns = self._delay_ns - since
            again = self._woke_ns == before[1]
            earlier = self._first_ns if again else self._first_event(before, delay_ns)
            self._woke_ns, self._first_ns = last[1], self._first_event(last, delay_ns)
            self._came_ns = max(earlier, self._first_ns)
        return self._came_ns

    def _first_event(self, wait: Wait, delay_ns: int) -> int:
        """When the event came that ended a wait, at the earliest; 0: there may have been no wait.

        delay_ns: how long the thread waited for a CPU, at most
        """
        entered_ns, woke_ns = wait
        came_ns = woke_ns - delay_ns - RETURN_NS
        return came_ns if came_ns > entered_ns > self._continued_ns else 0

    def _read(self) -> int:
        return int(os.pread(self._file, 80, 0).split()[1])

    def _continue(self, number: int, frame: FrameType | None) -> None:
        self._continued_ns = time.perf_counter_ns()
        if callable(self._usual):
            self._usual(number, frame)
