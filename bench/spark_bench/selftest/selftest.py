"""The whole selftest: each number of streams, then the capacity, then the verdict."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self, TextIO

from msgspec import Struct

from spark_bench import __version__
from spark_bench.client.tally import Progress, peak_rss
from spark_bench.display.progress import ProgressDisplay, choose_display
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.provenance import read_machine
from spark_bench.selftest import accuracy, verdict
from spark_bench.selftest.bench import Bench, LoadShape, chunk_rate, connect_bench, count_streams
from spark_bench.selftest.cores import CpuWatch, choose_cores, pin_thread

# A first load finds caches cold, and the kernel about to turn receive times on.
WARM_UP_SECONDS = 0.2
# Chunks a second. Two Sparks emit a few thousand; the client is designed for 40,000.
FIRST, LEAST, MOST = 20_000, 1_250, 160_000
# The search for the capacity ends when it is bounded to within this share.
CLOSE = 0.25
# One pause of the machine, as long as two chunks are apart, is not the client's limit.
TRIES = 2
UNPACED_STREAMS = 64
REQUEST_SLOTS = 64


@dataclass(frozen=True)
class SelftestOptions:
    """What to verify.

    streams: rising; itl_ms: of each stream; seconds: for each number of streams
    scale: of the length of the loads that the capacity is found with (1.0: the usual)
    """

    streams: tuple[int, ...]
    itl_ms: float
    seconds: float
    scale: float = 1.0


class SelftestReport(Struct, frozen=True, kw_only=True):
    """What `spark-bench verify --json` writes.

    peak_rss_bytes: of this process, the search for its capacity included
    """

    version: str
    levels: tuple[accuracy.StreamLevel, ...]
    capacity: verdict.ClientCapacity
    peak_rss_bytes: int
    surroundings: verdict.Surroundings
    verdict: verdict.SelftestVerdict


def run_selftest(options: SelftestOptions, show: ProgressDisplay) -> SelftestReport:
    """Measure the client on this machine. BenchError without a C compiler."""
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
    """How many chunks a second, paced and unpaced, and how many requests the client takes.

    scale: of the loads' usual length (1.0)
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
    """Try rates until the highest that the client follows is bounded."""

    def try_rate(rate: int) -> accuracy.StreamLevel:
        shape = LoadShape.at_rate(rate, scale)
        return accuracy.compare_with_truth(shape, bench.observe(shape, f"{rate:,} chunks/s"))

    levels = dict[int, accuracy.StreamLevel]()
    most = min(MOST, chunk_rate(bench.most_streams))
    while rate := next_rate({r: level.followed for r, level in levels.items()}, most):
        levels[rate] = best_of(TRIES, partial(try_rate, rate))
    return levels


def next_rate(tried: Mapping[int, bool], most: int = MOST) -> int | None:
    """Where to try next: doubling, halving, then between what is followed and what isn't.

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
    """The first level that was followed, else the last."""
    for _ in range(tries - 1):
        if (level := measure_level()).followed:
            return level
    return measure_level()


def search_limit(levels: Mapping[int, accuracy.StreamLevel], followed: Mapping[int, bool]) -> str:
    """What ended the search, by the lowest rate that was not followed."""
    bad = [rate for rate, ok in followed.items() if not ok]
    if not bad:
        return "search"
    return "client" if levels[min(bad)].kept_pace else "ruler"


def choose_progress(stream: TextIO) -> ProgressDisplay:
    """A bar on a terminal, else a line a load."""
    return choose_display(stream, quiet=False) if stream.isatty() else LineProgress(stream)


class LineProgress:
    """Names each load on `stream` as it begins; a stream that is gone is ignored."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, text: str) -> None:
        self.say(f"{text} ...")

    def start(self, total: int, label: str) -> None:
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
