"""Cores to run on, and what else the machine is doing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Cores:
    """Where the client and the ruler run, each alone as far as we are concerned."""

    client: int
    ruler: int


@dataclass(frozen=True)
class Usage:
    """CPU time of the whole machine so far, in seconds; throttled: see Surroundings.

    busy: by processes. Interrupts are left out, as those of loopback are our own traffic.
    """

    busy: float
    stolen: float
    total: float
    throttled: int = 0


def choose(
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


def cores() -> Cores | None:
    """Two of those that this process may use."""
    allowed = os.sched_getaffinity(0)
    capacity = {cpu: _number(SYSTEM / f"cpu{cpu}/cpu_capacity", 0) for cpu in allowed}
    topology = "topology/thread_siblings_list"
    sibling = {cpu: _number(SYSTEM / f"cpu{cpu}/{topology}", cpu) for cpu in allowed}
    return choose(allowed, capacity, sibling)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This thread on that core meanwhile."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def usage() -> Usage:
    """Now."""
    found = parse_stat(_text(Path("/proc/stat")), os.sysconf("SC_CLK_TCK"))
    throttled = re.search(r"^nr_throttled (\d+)", _text(Path("/sys/fs/cgroup/cpu.stat")), re.M)
    return Usage(found.busy, found.stolen, found.total, int(throttled[1]) if throttled else 0)


def parse_stat(text: str, ticks: int) -> Usage:
    """/proc/stat's first line (proc(5): user nice system idle iowait irq softirq steal ...).

    >>> parse_stat("cpu  10 0 5 80 5 1 1 8 0 0", 100)
    Usage(busy=0.15, stolen=0.08, total=1.1, throttled=0)
    """
    found = re.match(r"cpu +([\d ]+)", text)
    fields = [int(word) / ticks for word in found[1].split()] if found else []
    user, nice, system, idle, iowait, irq, softirq, steal = [*fields[:8], *[0.0] * 8][:8]
    busy = user + nice + system
    total = busy + idle + iowait + irq + softirq + steal
    return Usage(round(busy, 6), steal, round(total, 6))


def _number(path: Path, default: int) -> int:
    found = re.match(r"\d+", _text(path))
    return int(found[0]) if found else default


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
