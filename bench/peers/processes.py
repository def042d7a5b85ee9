"""The processes of a turn: where they run, and what they use, by Linux's /proc."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REFERENCE_CORE, CLIENT_CORE = 0, 1
NICE = -10
NO_PRIORITY = "BENCH_PEERS_NO_PRIORITY"
"""The environment variable that keeps every process among the others; keeper.py reads it, too."""

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
TREE_NS = 50_000_000


def settle(core: int = CLIENT_CORE, *, real_time: bool = True) -> None:
    """Bind this process, and those it starts, to a core; give it priority over others if allowed.

    Clients are compared, not how a busy machine shares its time. With niceness alone they wait for
    up to 10 ms, now and then for 100: longer than the gaps to be measured.

    real_time: False for a client of several processes, which would wait 100 ms for each other
    """
    os.sched_setaffinity(0, {core})
    if NO_PRIORITY in os.environ:
        return
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        # Kernels without scheduling groups have no such file.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))
    if real_time:
        first(0)


def first(pid: int) -> bool:
    """Let a process run whenever it can (SCHED_RR); return whether that was allowed."""
    if NO_PRIORITY in os.environ:
        return False
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def tree(pid: int) -> Iterator[int]:
    """A process and all its descendants, by id."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from tree(int(child))


def process_cpu_seconds(pid: int) -> float:
    """User and kernel time of a process, including threads that have ended; 0 if it is gone.

    From its CPU clock, in nanoseconds; /proc/PID/stat only has units of 10 ms. The clock's number
    is that of clock_getcpuclockid(3).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def waited_seconds() -> float:
    """Seconds for which this thread could have run while another one did."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


@dataclass
class ProcessUsage:
    """CPU and memory of a process tree over time; times are CLOCK_MONOTONIC ns.

    Every look reads the CPU time. The tree's members and its memory are read only every TREE_NS,
    since they take a hundred times as long.
    """

    at_ns: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_rss: int = 0
    each: dict[int, float] = field(default_factory=dict)
    next_tree_ns: int = 0

    def look(self, pid: int) -> None:
        """Take a sample."""
        now = time.monotonic_ns()
        if now >= self.next_tree_ns:
            self.next_tree_ns = now + TREE_NS
            pids = list(tree(pid))
            self.each = dict.fromkeys(pids, 0.0) | self.each
            self.peak_rss = max(self.peak_rss, sum(map(resident, pids)))
        for one, before in self.each.items():
            self.each[one] = max(before, process_cpu_seconds(one))
        self.at_ns.append(time.monotonic_ns())
        self.cpu.append(sum(self.each.values()))

    def between(self, began_ns: int, ended_ns: int) -> float:
        """CPU seconds used from one moment to the other, interpolated between samples."""
        import numpy as np

        before, after = np.interp((began_ns, ended_ns), self.at_ns, self.cpu)
        return float(after - before)


def machine_cpu() -> tuple[float, float]:
    """CPU seconds that all of the machine's processes have used, and those that its host took."""
    with open("/proc/stat") as file:
        fields = [int(number) / TICKS for number in file.readline().split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return user + nice + system + irq + softirq, steal
