"""The whole of `verify`: every number of streams, then the capacity, then the verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass

from spark_bench import __version__
from spark_bench.client.tally import cpu_seconds, peak_rss
from spark_bench.display.show import Show
from spark_bench.results.machine import machine
from spark_bench.ruler.ruler import Ruler, Stats
from spark_bench.selftest import compare, judge, shape
from spark_bench.selftest.capacity import capacity
from spark_bench.selftest.machine import Usage, cores, pinned, usage
from spark_bench.selftest.measure import bench
from spark_bench.selftest.report import Level, Report, Surroundings

# A first load finds caches cold, and the kernel about to turn receive times on.
WARM_UP_SECONDS = 0.2


@dataclass(frozen=True)
class Asked:
    """What to verify.

    streams: rising; itl_ms: of each; seconds: for each
    scale: of the loads that capacity is found with
    """

    streams: tuple[int, ...]
    itl_ms: float
    seconds: float
    scale: float = 1.0


def verify(asked: Asked, show: Show) -> Report:
    """Measure the client on this machine. BenchError without a C compiler."""
    around = machine()
    chosen = cores()
    with Ruler(core=chosen.ruler if chosen else None, favour=True) as ruler:
        watch = Watch(ruler)
        with pinned(chosen.client if chosen else None), bench(ruler, show) as client:
            client.measure(shape.level(1, asked.itl_ms, WARM_UP_SECONDS), "warming up")
            levels = list[Level]()
            for streams in asked.streams:
                one = shape.level(streams, asked.itl_ms, asked.seconds)
                levels.append(compare.level(one, client.measure(one, shape.named(streams))))
            found = capacity(client, asked.scale)
        others, stolen, throttled = watch.shares()
    surroundings = Surroundings(
        machine=around,
        client_core=chosen.client if chosen else None,
        ruler_core=chosen.ruler if chosen else None,
        others=others,
        stolen=stolen,
        throttled=throttled,
    )
    return Report(
        version=__version__,
        levels=tuple(levels),
        capacity=found,
        peak_rss_bytes=peak_rss(),
        surroundings=surroundings,
        verdict=judge.verdict(levels, found, surroundings),
    )


class Watch:
    """CPU time of everyone else, from its making on."""

    def __init__(self, ruler: Ruler) -> None:
        self._ruler = ruler
        self._began, self._usage, self._ours = time.monotonic(), usage(), self._own()

    def shares(self) -> tuple[float, float, int]:
        """See Surroundings: others, stolen, throttled."""
        seconds, ours = time.monotonic() - self._began, self._own() - self._ours
        return shares(self._usage, usage(), ours, seconds)

    def _own(self) -> float:
        stats: Stats = self._ruler.stats()
        return cpu_seconds() + stats.cpu_user_s + stats.cpu_sys_s


def shares(before: Usage, after: Usage, ours: float, seconds: float) -> tuple[float, float, int]:
    """Cores' worth of others, share stolen, times throttled. ours: CPU seconds."""
    total = after.total - before.total
    others = max(0.0, after.busy - before.busy - ours) / seconds
    stolen = (after.stolen - before.stolen) / total if total else 0.0
    return round(others, 2), round(stolen, 4), after.throttled - before.throttled
