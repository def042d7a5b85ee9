"""Decides which request may be sent next, and when it was due; has no sockets and no clock."""

import heapq
from collections import defaultdict, deque

from msgspec import Struct

from spark_bench.record import Load

SECOND = 1_000_000_000


class Turn(Struct, frozen=True):
    """A request whose turn it is.

    scheduled_ns: when it was due; latencies free of coordinated omission count from here
    possible_ns: when it was due and had a slot; any delay after that is our own
    """

    index: int
    scheduled_ns: int
    possible_ns: int


class Schedule:
    """Hands out a load's requests as their times come and slots become free.

    A request without a time of its own, in a closed loop with limited slots, is due when its slot
    becomes free. A request with its own time stays due at that time, however long it waits for a
    slot: coordinated omission would hide that wait.

    Requests with a time never wait behind those without one. So in a closed loop a conversation
    continues before another one begins, as with people.
    """

    def __init__(self, load: Load, start_ns: int) -> None:
        self.start_ns = start_ns
        self.in_flight = 0
        self._jobs = load.jobs
        seconds = load.duration
        self._last_ns = None if seconds is None else start_ns + round(seconds * SECOND)
        self._followers: defaultdict[int, list[int]] = defaultdict(list)
        self._timed: list[tuple[int, int]] = []
        # Requests whose time has come, with that time; and requests without a time.
        self._waiting: deque[tuple[int, int]] = deque()
        self._anytime: deque[int] = deque()
        # When each free slot became free; None: no limit.
        self._slots: deque[int] | None = deque() if load.steps else None
        self._steps = deque((start_ns + round(s.at * SECOND), s.slots) for s in load.steps)
        self._limit = 0
        for job in load.jobs:
            timing = job.timing
            if timing.after is not None:
                self._followers[timing.after].append(job.index)
            elif timing.at:
                self._timed.append((start_ns + round(timing.at * SECOND), job.index))
            else:
                self._anytime.append(job.index)
        heapq.heapify(self._timed)
        self._left = len(load.jobs)

    def take(self, now_ns: int) -> Turn | None:
        """The next request that may be sent now, from now on in flight; None if there is none."""
        if self._last_ns is not None and now_ns >= self._last_ns:
            return None
        while self._timed and self._timed[0][0] <= now_ns:
            self._waiting.append(heapq.heappop(self._timed))
        self._open_slots(now_ns)
        if not self._sendable():
            return None
        slot = self.start_ns if self._slots is None else self._slots.popleft()
        self.in_flight += 1
        self._left -= 1
        if self._waiting:
            ready, index = self._waiting.popleft()
            return Turn(index, ready, max(ready, slot))
        return Turn(self._anytime.popleft(), slot, slot)

    def ended(self, index: int, at_ns: int) -> None:
        """End a request: free its slot, and start the pauses of the requests that follow it."""
        self.in_flight -= 1
        if self._slots is not None:
            self._slots.append(at_ns)
        for follower in self._followers.pop(index, ()):
            pause = round(self._jobs[follower].timing.pause * SECOND)
            heapq.heappush(self._timed, (at_ns + pause, follower))

    def next_ns(self, now_ns: int) -> int | None:
        """When `take` may next return a request; None: not before one in flight ends."""
        if self._last_ns is not None and now_ns >= self._last_ns:
            return None
        if self._sendable():
            return now_ns
        times = [self._timed[0][0]] if self._timed and (self._slots is None or self._slots) else []
        times += [self._steps[0][0]] if self._steps else []
        return min(times, default=None)

    def finished(self, now_ns: int) -> bool:
        """Whether nothing is in flight and nothing more will be sent."""
        if self.in_flight:
            return False
        return not self._left or (self._last_ns is not None and now_ns >= self._last_ns)

    def _open_slots(self, now_ns: int) -> None:
        while self._slots is not None and self._steps and self._steps[0][0] <= now_ns:
            at, slots = self._steps.popleft()
            self._slots.extend([at] * (slots - self._limit))
            self._limit = slots

    def _sendable(self) -> bool:
        return bool(self._waiting or self._anytime) and (self._slots is None or bool(self._slots))
