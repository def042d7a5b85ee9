"""What the recorder counts about itself while it records."""

from __future__ import annotations

import gc
import resource
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from msgspec import Struct

# Most figures that one look carries; the rest of a busy half second is left out.
SAMPLES = 256

# Most durations stored of a kind: enough for a p99.9, and half a megabyte.
MOST_DURATIONS = 65536

# Longer than this between two looks, beyond what the loop meant to wait, it stood still.
PAUSE_NS = 5_000_000


class Durations:
    """Nanoseconds of something that happens without end: every one counts for `most`; `values`
    are all of them, or every 2nd, 4th, 8th … once there are too many."""

    __slots__ = ("_skipped", "_stride", "most", "values")

    def __init__(self) -> None:
        self.values: array[int] = array("q")
        self.most = 0
        self._stride = self._skipped = 1

    def add(self, ns: int) -> None:
        if ns > self.most:
            self.most = ns
        if self._skipped < self._stride:
            self._skipped += 1
            return
        self._skipped = 1
        self.values.append(ns)
        if len(self.values) >= MOST_DURATIONS:
            self.values = self.values[::2]
            self._stride *= 2


@dataclass
class Tally:
    """Counters of one recording.

    reads: events that brought something; the exact number of reads is the store's
    unstamped: reads that the kernel gave no time for
    lags: from the kernel's stamp to the read: of the first read of each look at the sockets, and
        of the last read of each response
    lates: for each request, from when it could be sent to when it was
    step_ns: the furthest that the wall clock moved against the monotonic one
    pauses: of the loop itself. No lag shows them: what came meanwhile has the time of its last
        segment
    paused_ns: their sum
    """

    total: int
    sent: int = 0
    done: int = 0
    failed: int = 0
    reads: int = 0
    unstamped: int = 0
    lags: Durations = field(default_factory=Durations)
    lates: Durations = field(default_factory=Durations)
    firsts: list[int] = field(default_factory=list)
    step_ns: int = 0
    pauses: Durations = field(default_factory=Durations)
    paused_ns: int = 0

    def record_pause(self, ns: int) -> None:
        """The loop came round so much later than it meant to."""
        if ns > PAUSE_NS:
            self.pauses.add(ns)
            self.paused_ns += ns

    def first(self, ns: int) -> None:
        """From a request's send to its first read; a sample is enough."""
        if len(self.firsts) < SAMPLES:
            self.firsts.append(ns)

    def progress(self, seconds: float, in_flight: int, gaps: Iterable[int]) -> Progress:
        """A snapshot, with what was sampled since the last one."""
        firsts, self.firsts = self.firsts, []
        return Progress(
            seconds,
            self.total,
            self.sent,
            self.done,
            self.failed,
            in_flight,
            self.reads,
            tuple(ns / 1e6 for ns in firsts),
            tuple(ns / 1e6 for ns in gaps),
        )


def cpu_seconds() -> float:
    """CPU that this process has used, in user and kernel mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss() -> int:
    """The largest resident size of this process so far, in bytes."""
    # Linux's ru_maxrss begins with the size of the process that started this one.
    with suppress(OSError, StopIteration), open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection (a pause of its own length) and quick thread switches meanwhile."""
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if collecting:
            gc.enable()


def files_allowed(wanted: int) -> int:
    """Raise this process' limit of open files as far as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else soft


class Progress(Struct, frozen=True):
    """A snapshot of a running load, about twice a second. Figures are from reads, not from parsed
    events: approximate, and good for watching alone.

    seconds: since the start
    total, sent, done, failed, in_flight: requests. Failed are those whose exchange broke; what an
        answer says is known after the run.
    reads: reads so far (about one a stream event)
    first_ms: since the last look, for requests sent then, milliseconds from send to first read
    gap_ms: since the last look, sampled milliseconds between two reads of one stream
    """

    seconds: float
    total: int
    sent: int
    done: int
    failed: int
    in_flight: int
    reads: int
    first_ms: tuple[float, ...] = ()
    gap_ms: tuple[float, ...] = ()


ReportProgress = Callable[[Progress], None]
