"""What the recorder counts about itself while it records."""

from __future__ import annotations

import gc
import resource
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .progress import Progress

# Most figures that one look carries; the rest of a busy half second is left out.
SAMPLES = 256


@dataclass
class Tally:
    """Counters of one recording.

    lags: for the first read of each look, ns from the kernel's stamp to the read
    lates: for each request, ns from when it could be sent to when it was
    unstamped: reads that the kernel gave no time for
    step_ns: the furthest that the wall clock moved against the monotonic one
    """

    total: int
    sent: int = 0
    done: int = 0
    failed: int = 0
    reads: int = 0
    unstamped: int = 0
    lags: array[int] = field(default_factory=lambda: array("q"))
    lates: array[int] = field(default_factory=lambda: array("q"))
    firsts: list[int] = field(default_factory=list)
    step_ns: int = 0

    def progress(self, seconds: float, in_flight: int, gaps: Iterable[int]) -> Progress:
        """A look; what was sampled since the last one goes with it."""
        firsts, self.firsts = self.firsts, []
        return Progress(
            seconds,
            self.total,
            self.sent,
            self.done,
            self.failed,
            in_flight,
            self.reads,
            tuple(ns / 1e6 for ns in firsts[:SAMPLES]),
            tuple(ns / 1e6 for ns in gaps),
        )


def cpu_seconds() -> float:
    """CPU that this process has used, in user and kernel mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection (a pause of its own length) and quick thread switches meanwhile."""
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.enable()
        gc.unfreeze()


def files_allowed(wanted: int) -> int:
    """Raise this process' limit of open files as far as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted and soft != hard:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return soft
