"""Figures of a run in progress, updated from one progress report after another."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from spark_bench.client.tally import Progress

# Seconds that rates are averaged over: long enough to read, short enough to follow.
WINDOW = 5.0

Pair = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. ttft, itl: (p50, p99) in ms so far, from socket reads; left: seconds."""

    progress: Progress
    requests_per_second: float
    tokens_per_second: float
    ttft: Pair
    itl: Pair
    left: float | None


class Live:
    """Turns progress reports into views."""

    def __init__(self) -> None:
        self._ttft, self._itl = Sketch(), Sketch()
        self._looks: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])

    def view(self, progress: Progress) -> View:
        """The view after this report."""
        self._ttft.add(progress.first_ms)
        self._itl.add(progress.gap_ms)
        requests, tokens = self._rates(progress)
        return View(
            progress, requests, tokens, _pair(self._ttft), _pair(self._itl), _left(progress)
        )

    def _rates(self, now: Progress) -> tuple[float, float]:
        self._looks.append((now.seconds, now.done, now.reads))
        while len(self._looks) > 2 and self._looks[1][0] <= now.seconds - WINDOW:
            self._looks.popleft()
        seconds, done, reads = self._looks[0]
        span = max(now.seconds - seconds, 1e-9)
        return (now.done - done) / span, (now.reads - reads) / span


def _pair(sketch: Sketch) -> Pair:
    return sketch.quantile(0.5), sketch.quantile(0.99)


def _left(progress: Progress) -> float | None:
    """Seconds left at the pace so far; None before the first request has finished."""
    if not progress.done:
        return None
    return progress.seconds / progress.done * (progress.total - progress.done)


# Buckets grow by 2 %: a quantile is at most 1 % off, and 1 µs to 1 h fit into 1100 buckets.
_GROWTH = math.log(1.02)


class Sketch:
    """Approximate quantiles in little memory: counts positive figures in buckets of equal ratio."""

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, figures: Iterable[float]) -> None:
        """Count these figures; 0 and less count as 1e-6."""
        for figure in figures:
            self.buckets[math.floor(math.log(max(figure, 1e-6)) / _GROWTH)] += 1
            self.count += 1

    def quantile(self, share: float) -> float | None:
        """The quantile at `share` (0 to 1), at most 1 % off; None before the first figure."""
        rank = math.ceil(share * self.count)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return math.exp((bucket + 0.5) * _GROWTH)
        return None
