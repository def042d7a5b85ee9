"""How long it will take, about: from earlier runs, else by rule of thumb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spark_bench.suite.asked import Asked
from spark_bench.suite.plan import Cell

# Rules of thumb, not measured: an engine's own start, and weights from an NVMe disk.
START_SECONDS = 90.0
LOAD_BYTES_PER_SECOND = 1e9
# All streams together; what users of two Sparks report for gpt-oss-120b at 50 requests at once.
TOKENS_PER_SECOND = 75.0


class Estimate(NamedTuple):
    """Seconds; measured: an earlier run's."""

    startup: float
    bench: float
    measured: bool = False

    @property
    def seconds(self) -> float:
        return self.startup + self.bench


def estimate(cell: Cell, asked: Asked, earlier: Mapping[str, Estimate]) -> Estimate:
    """Of one cell. earlier: of runs with the same load, by cell name."""
    if cell.name in earlier:
        return earlier[cell.name]
    share = (cell.weight_bytes or 0) / max(cell.nodes, 1)
    startup = START_SECONDS + share / LOAD_BYTES_PER_SECOND
    return Estimate(
        min(startup, asked.startup_timeout), min(_bench(asked) * asked.repeat, asked.bench_timeout)
    )


def _bench(asked: Asked) -> float:
    profile = asked.profile
    tokens = profile.num_prompts * profile.output_len
    arrivals = profile.num_prompts / profile.request_rate if profile.request_rate else 0.0
    return max(tokens / TOKENS_PER_SECOND, arrivals)
