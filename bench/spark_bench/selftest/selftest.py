"""The whole selftest: choose cores, measure each number of streams, find the capacity, judge."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self, TextIO

from msgspec import Struct

from spark_bench import __version__
from spark_bench.client.tally import Progress, cpu_seconds, peak_rss
from spark_bench.display.progress import ProgressDisplay, choose_display
from spark_bench.reference_server.launcher import ReferenceServer, Stats
from spark_bench.results.provenance import read_machine
from spark_bench.selftest import accuracy, verdict
from spark_bench.selftest.bench import Bench, LoadShape, chunk_rate, connect_bench, count_streams

SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Cores:
    """The cores of the client and the reference server; neither runs anything else of ours."""

    client: int
    reference: int


@dataclass(frozen=True)
class MachineUsage:
    """CPU time of the whole machine since boot, in seconds.

    busy: used by processes. Interrupts don't count, since on loopback they are our own traffic.
    stolen, throttled: see verdict.Surroundings; stolen is in seconds here
    """

    busy: float
    stolen: float
    total: float
    throttled: int = 0


def pick_two(
    allowed: set[int], capacity: Mapping[int, int], sibling: Mapping[int, int]
) -> Cores | None:
    """Choose two of the fastest cores; None if there is only one.

    capacity: relative speed of each core, if they differ
    sibling: first hardware thread of each thread's core: two threads of a core slow each other down

    Among equals, high numbers are preferred: core 0 often serves interrupts.
    """
    best = sorted(allowed, key=lambda cpu: (-capacity.get(cpu, 0), -cpu))
    if len(best) < 2:
        return None
    client, *rest = best
    apart = [cpu for cpu in rest if sibling.get(cpu, cpu) != sibling.get(client, client)]
    return Cores(client, (apart or rest)[0])


def choose_cores() -> Cores | None:
    """Choose two of the cores that this process may use; None if there is only one."""
    allowed = os.sched_getaffinity(0)
    capacity = {cpu: _number(SYSTEM / f"cpu{cpu}/cpu_capacity", 0) for cpu in allowed}
    topology = "topology/thread_siblings_list"
    sibling = {cpu: _number(SYSTEM / f"cpu{cpu}/{topology}", cpu) for cpu in allowed}
    return pick_two(allowed, capacity, sibling)


@contextmanager
def pin_thread(core: int | None) -> Iterator[None]:
    """Pin this thread to a core for the duration of the block; None: don't pin it."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def read_usage() -> MachineUsage:
    """Read the machine's CPU time up to now."""
    now = parse_stat(_text(Path("/proc/stat")), os.sysconf("SC_CLK_TCK"))
    throttled = re.search(r"^nr_throttled (\d+)", _text(Path("/sys/fs/cgroup/cpu.stat")), re.M)
    return MachineUsage(now.busy, now.stolen, now.total, int(throttled[1]) if throttled else 0)


def parse_stat(text: str, ticks: int) -> MachineUsage:
    """Parse the first line of /proc/stat (user nice system idle iowait irq softirq steal ...).

    The order is that of proc(5). ticks: clock ticks per second

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
    """What other processes and the hypervisor took; see verdict.Surroundings."""

    others: float
    stolen: float
    throttled: int


class CpuWatch:
    """Watches the CPU time that others use, from the moment it is created."""

    def __init__(self, reference: ReferenceServer) -> None:
        self._reference = reference
        self._began, self._usage, self._ours = time.monotonic(), read_usage(), self._own()

    def shares(self) -> UsageShares:
        """What others have used since the watch began."""
        seconds, ours = time.monotonic() - self._began, self._own() - self._ours
        return usage_shares(self._usage, read_usage(), ours, seconds)

    def _own(self) -> float:
        stats: Stats = self._reference.stats()
        return cpu_seconds() + stats.cpu_user_s + stats.cpu_sys_s


def usage_shares(
    before: MachineUsage, after: MachineUsage, ours: float, seconds: float
) -> UsageShares:
    """What others used between two readings.

    ours: CPU seconds of this process and the reference server in that time
    seconds: time between the readings
    """
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


# The first load finds caches cold, and the kernel takes a moment to turn on receive time stamps.
WARM_UP_SECONDS = 0.2
# Rates to try, in chunks per second. Two Sparks send a few thousand; the client is designed for
# 40,000.
FIRST, LEAST, MOST = 20_000, 1_250, 160_000
# The search ends when the capacity is known to within this share of it.
CLOSE = 0.25
# A single pause of the machine as long as the gap between two chunks is not the client's limit.
TRIES = 2
UNPACED_STREAMS = 64
REQUEST_SLOTS = 64


@dataclass(frozen=True)
class SelftestOptions:
    """What to verify.

    streams: numbers of simultaneous streams to try, in ascending order
    itl_ms: time between two chunks of a stream
    seconds: duration of the load for each number of streams
    scale: factor on the length of the loads that find the capacity; 1.0 is the usual length
    """

    streams: tuple[int, ...]
    itl_ms: float
    seconds: float
    scale: float = 1.0


class SelftestReport(Struct, frozen=True, kw_only=True):
    """What `spark-bench verify --json` writes.

    peak_rss_bytes: peak memory of this process, including the search for its capacity
    """

    version: str
    levels: tuple[accuracy.StreamLevel, ...]
    capacity: verdict.ClientCapacity
    peak_rss_bytes: int
    surroundings: verdict.Surroundings
    verdict: verdict.SelftestVerdict


def run_selftest(options: SelftestOptions, show: ProgressDisplay) -> SelftestReport:
    """Measure the client's accuracy on this machine. Raises BenchError without a C compiler."""
    around = read_machine()
    cores = choose_cores()
    with ReferenceServer(core=cores.reference if cores else None, favor=True) as reference:
        watch = CpuWatch(reference)
        with pin_thread(cores.client if cores else None), connect_bench(reference, show) as bench:
            bench.observe(LoadShape.lasting(WARM_UP_SECONDS, 1, options.itl_ms), "warming up")
            levels = []
            for streams in options.streams:
                shape = LoadShape.lasting(options.seconds, streams, options.itl_ms)
                observation = bench.observe(shape, count_streams(streams))
                levels.append(accuracy.compare_with_truth(shape, observation))
            capacity = find_capacity(bench, options.scale)
        usage = watch.shares()
    surroundings = verdict.Surroundings(
        machine=around,
        client_core=cores.client if cores else None,
        ruler_core=cores.reference if cores else None,
        others=usage.others,
        stolen=usage.stolen,
        throttled=usage.throttled,
    )
    return SelftestReport(
        version=__version__,
        levels=tuple(levels),
        capacity=capacity,
        peak_rss_bytes=peak_rss(),
        surroundings=surroundings,
        verdict=verdict.judge_levels(levels, capacity, surroundings),
    )


def find_capacity(bench: Bench, scale: float) -> verdict.ClientCapacity:
    """Find how many chunks per second (paced and unpaced) and requests the client can take.

    scale: factor on the usual length of the loads
    """
    levels = search_rates(bench, scale)
    followed = {rate: level.followed for rate, level in levels.items()}
    good = [rate for rate, ok in followed.items() if ok]
    unpaced = bench.observe(LoadShape(UNPACED_STREAMS, 1, round(2000 * scale)), "without pauses")
    short = bench.observe(LoadShape(REQUEST_SLOTS, round(80 * scale), 1), "one-token answers")
    tokens = sum(request.token_ns.size for request in unpaced.requests)
    completed = short.summary.completed
    return verdict.ClientCapacity(
        paced=levels[max(good)].chunks_per_s if good else 0.0,
        limit=search_limit(levels, followed),
        tried=followed,
        unpaced=round(tokens / unpaced.audit.wall_seconds),
        requests=round(completed / short.audit.wall_seconds),
        slots=REQUEST_SLOTS,
        request_us=round(short.audit.cpu_seconds * 1e6 / max(completed, 1), 1),
    )


def search_rates(bench: Bench, scale: float) -> dict[int, accuracy.StreamLevel]:
    """Try rates until the highest that the client can follow is known to within CLOSE."""

    def try_rate(rate: int) -> accuracy.StreamLevel:
        shape = LoadShape.at_rate(rate, scale)
        return accuracy.compare_with_truth(shape, bench.observe(shape, f"{rate:,} chunks/s"))

    levels = dict[int, accuracy.StreamLevel]()
    most = min(MOST, chunk_rate(bench.most_streams))
    while rate := next_rate({r: level.followed for r, level in levels.items()}, most):
        levels[rate] = best_of(TRIES, partial(try_rate, rate))
    return levels


def next_rate(tried: Mapping[int, bool], most: int = MOST) -> int | None:
    """The next rate to try, None at the end of the search: double or halve, then bisect.

    tried: by rate, whether the client followed; most: highest rate to try

    >>> next_rate({}), next_rate({20_000: True}), next_rate({20_000: True, 40_000: False})
    (20000, 40000, 30000)
    """
    good = max((rate for rate, ok in tried.items() if ok), default=0)
    bad = min((rate for rate, ok in tried.items() if not ok and rate > good), default=0)
    if not tried:
        return FIRST
    if not bad:
        return good * 2 if good * 2 <= most else None
    if not good:
        return bad // 2 if bad // 2 >= LEAST else None
    return (good + bad) // 2 if bad - good > CLOSE * good else None


def best_of(tries: int, measure_level: Callable[[], accuracy.StreamLevel]) -> accuracy.StreamLevel:
    """Measure up to `tries` times: the first level that the client followed, else the last."""
    for _ in range(tries - 1):
        if (level := measure_level()).followed:
            return level
    return measure_level()


def search_limit(levels: Mapping[int, accuracy.StreamLevel], followed: Mapping[int, bool]) -> str:
    """What ended the search; see ClientCapacity.limit."""
    bad = [rate for rate, ok in followed.items() if not ok]
    if not bad:
        return "search"
    return "client" if levels[min(bad)].kept_pace else "ruler"


def choose_progress(stream: TextIO) -> ProgressDisplay:
    """A progress bar on a terminal, else one line per load."""
    return choose_display(stream, quiet=False) if stream.isatty() else LineProgress(stream)


class LineProgress:
    """Prints a line to `stream` as each load begins; ignores a stream that was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str, thing: str = "request") -> None:
        self.step(label)

    def update(self, progress: Progress) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
