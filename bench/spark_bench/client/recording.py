"""What one load left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spark_bench.client.response_store import ResponseStore
from spark_bench.client.tally import Tally
from spark_bench.record import Exchange


@dataclass
class Recording:
    """What one load left.

    started_ns: when the load began; every Timing counts from here
    ended_ns: when the last request was over
    cpu_seconds: that the client used meanwhile
    interrupted: stopped before it was done
    """

    store: ResponseStore
    tally: Tally
    started_ns: int
    ended_ns: int
    cpu_seconds: float
    interrupted: bool

    def exchanges(self) -> Iterator[Exchange]:
        """Every request that was taken up, by index."""
        return self.store.exchanges()
