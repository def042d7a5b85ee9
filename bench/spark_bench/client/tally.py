"""What the recorder counts about itself while it is recording."""

from __future__ import annotations

import gc
import resource
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from msgspec import Struct

# Most samples in one progress report; more from a busy half second are left out.
SAMPLES = 256

# Most stored durations of each kind: half a megabyte, and enough for a p99.9.
MOST_DURATIONS = 65536

# The loop has paused if two looks are farther apart than intended by more than this, in ns.
PAUSE_NS = 5_000_000
# It was late if they are by more than this, in ns: with a crowd of streams it naps as long.
LATE_NS = 1_000_000
# Most moments and spans that are kept: 8 MB of moments are 4 minutes of looks at their closest.
MOST_LOOKS, MOST_SPANS = 1 << 20, 1 << 14


class Durations:
    """A bounded sample of any number of durations, in ns.

    most: the longest of all
    values: all of them, or every 2nd, 4th, 8th … once there are too many
    """

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

    def extend(self, values: Iterable[int]) -> None:
        """Add several durations."""
        for ns in values:
            self.add(ns)


class Looks:
    """Moments before looks at the sockets, in ns, in order; see Exchange.

    moments: of all looks, or of some of them, at least `spacing_ns` apart
    """

    __slots__ = ("moments", "spacing_ns")

    def __init__(self) -> None:
        self.moments: array[int] = array("q")
        self.spacing_ns = 250_000

    def thin(self) -> None:
        """Leave out every second moment if there are too many."""
        if len(self.moments) >= MOST_LOOKS:
            del self.moments[1::2]
            self.spacing_ns *= 2


@dataclass
class Tally:
    """Counters of one recording.

    reads: number of socket events, about one per read; the store has the exact number of reads
    unstamped: number of reads without a time from the kernel
    lags: time from the kernel's stamp to the read, for the first read of each look at the sockets
        and the last read of each response
    lates: for each request, time from when it could be sent to when it was
    firsts: since the last progress report, time from send to first read, sampled
    step_ns: the furthest that the wall clock moved against the monotonic one
    pauses: pauses of the loop itself. Lags don't show them, since a read has the time of the last
        segment in it
    paused_ns: sum of the pauses
    late_spans: from when to when the loop came round late, in ns, one pair after the other
    looks: when the sockets were looked at
    idle_ns: for how long slots stood idle: sum of `lates`, a retried request counted once
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
    late_spans: array[int] = field(default_factory=lambda: array("q"))
    looks: Looks = field(default_factory=Looks)
    idle_ns: int = 0

    def record_pause(self, ns: int, until: int) -> None:
        """Record that the loop came round later than intended by more than LATE_NS.

        until: when it did come round
        """
        if len(self.late_spans) < 2 * MOST_SPANS:
            self.late_spans.extend((until - ns, until))
        if ns > PAUSE_NS:
            self.pauses.add(ns)
            self.paused_ns += ns

    def first(self, ns: int) -> None:
        """Record the time from a request's send to its first read; only a sample is kept."""
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
    """CPU time that this process has used so far, in user and kernel mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss() -> int:
    """The largest resident size of this process so far, in bytes."""
    # On Linux, ru_maxrss starts with the size of the process that started this one.
    with suppress(OSError, StopIteration), open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def undisturbed() -> Iterator[None]:
    """Turn off garbage collection, which pauses, and switch threads quickly during the block."""
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.disable()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()


def files_allowed(wanted: int) -> int:
    """Raise this process's limit on open files towards `wanted`, as far as it may.

    Returns how many files it may then have open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else soft


class Progress(Struct, frozen=True):
    """A snapshot of a running load, taken about twice a second.

    Its figures come from reads, not from parsed events, so they are approximate and only for
    watching.

    seconds: time since the start
    total, sent, done, failed, in_flight: numbers of requests. `failed` counts broken exchanges;
        what an answer says is known only after the run.
    reads: number of reads so far (about one per stream event)
    first_ms: sampled milliseconds from send to first read, since the last snapshot
    gap_ms: sampled milliseconds between the last two reads of a stream
    remark: what to show instead of rates and latencies; "": nothing
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
    remark: str = ""


ReportProgress = Callable[[Progress], None]
