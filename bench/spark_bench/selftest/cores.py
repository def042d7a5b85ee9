"""Cores to run on, and what else the machine is doing."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spark_bench.client.tally import cpu_seconds
from spark_bench.reference_server.launcher import ReferenceServer, Stats

SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Cores:
    """Where the client and the reference server run, each alone as far as we are concerned."""

    client: int
    reference: int


@dataclass(frozen=True)
class MachineUsage:
    """CPU time of the whole machine so far, in seconds; throttled: see Surroundings.

    busy: by processes. Interrupts are left out, as those of loopback are our own traffic.
    """

    busy: float
    stolen: float
    total: float
    throttled: int = 0


def pick_two(
    allowed: set[int], capacity: Mapping[int, int], sibling: Mapping[int, int]
) -> Cores | None:
    """Two of the fastest cores; None where there is only one.

    capacity: relative speed, where cores differ; sibling: the first hardware thread of each core,
    as two threads of one core slow each other down. High numbers go first: interrupts are often
    served by core 0.
    """
    best = sorted(allowed, key=lambda cpu: (-capacity.get(cpu, 0), -cpu))
    if len(best) < 2:
        return None
    client, *rest = best
    apart = [cpu for cpu in rest if sibling.get(cpu, cpu) != sibling.get(client, client)]
    return Cores(client, (apart or rest)[0])


def choose_cores() -> Cores | None:
    """Two cores that this process may use; None where there is only one."""
    allowed = os.sched_getaffinity(0)
    capacity = {cpu: _number(SYSTEM / f"cpu{cpu}/cpu_capacity", 0) for cpu in allowed}
    topology = "topology/thread_siblings_list"
    sibling = {cpu: _number(SYSTEM / f"cpu{cpu}/{topology}", cpu) for cpu in allowed}
    return pick_two(allowed, capacity, sibling)


@contextmanager
def pin_thread(core: int | None) -> Iterator[None]:
    """Keep this thread on that core; None: on any."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def read_usage() -> MachineUsage:
    """The machine's CPU time up to now."""
    now = parse_stat(_text(Path("/proc/stat")), os.sysconf("SC_CLK_TCK"))
    throttled = re.search(r"^nr_throttled (\d+)", _text(Path("/sys/fs/cgroup/cpu.stat")), re.M)
    return MachineUsage(now.busy, now.stolen, now.total, int(throttled[1]) if throttled else 0)


def parse_stat(text: str, ticks: int) -> MachineUsage:
    """/proc/stat's first line (proc(5): user nice system idle iowait irq softirq steal ...).

    >>> parse_stat("cpu  10 0 5 80 5 1 1 8 0 0", 100)
    MachineUsage(busy=0.15, stolen=0.08, total=1.1, throttled=0)
    """
    match = re.match(r"cpu +([\d ]+)", text)
    fields = [int(word) / ticks for word in match[1].split()] if match else []
    user, nice, system, idle, iowait, irq, softirq, steal = [*fields[:8], *[0.0] * 8][:8]
    busy = user + nice + system
    total = busy + idle + iowait + irq + softirq + steal
    return MachineUsage(round(busy, 6), steal, round(total, 6))


class UsageShares(NamedTuple):
    """See Surroundings."""

    others: float
    stolen: float
    throttled: int


class CpuWatch:
    """Watches the CPU time of everyone else, from its creation on."""

    def __init__(self, reference: ReferenceServer) -> None:
        self._reference = reference
        self._began, self._usage, self._ours = time.monotonic(), read_usage(), self._own()

    def shares(self) -> UsageShares:
        """Since the watch began."""
        seconds, ours = time.monotonic() - self._began, self._own() - self._ours
        return usage_shares(self._usage, read_usage(), ours, seconds)

    def _own(self) -> float:
        stats: Stats = self._reference.stats()
        return cpu_seconds() + stats.cpu_user_s + stats.cpu_sys_s


def usage_shares(
    before: MachineUsage, after: MachineUsage, ours: float, seconds: float
) -> UsageShares:
    """What others used between two readings. ours: CPU seconds of this process and the server."""
    total = after.total - before.total
    others = max(0.0, after.busy - before.busy - ours) / seconds
    stolen = (after.stolen - before.stolen) / total if total else 0.0
    return UsageShares(round(others, 2), round(stolen, 4), after.throttled - before.throttled)


def _number(path: Path, default: int) -> int:
    match = re.match(r"\d+", _text(path))
    return int(match[0]) if match else default


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
