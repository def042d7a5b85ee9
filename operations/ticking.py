"""A word now and then, while something takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent

from cluster.engine.readiness import REPORT_SECONDS


@contextmanager
def ticking(tell: Callable[[float], object]) -> Iterator[None]:
    """Have `tell` called every REPORT_SECONDS, with the seconds that have passed, until the end."""
    begun = time.monotonic()

    def tick() -> None:
        while True:
            gevent.sleep(REPORT_SECONDS)
            tell(time.monotonic() - begun)

    ticker = gevent.spawn(tick)
    try:
        yield
    finally:
        ticker.kill()
