"""What is sent, and how the ruler answers it."""

from __future__ import annotations

from dataclasses import dataclass

# Answers that each stream has one after the other, so that there are several TTFTs even of one.
ROUNDS = 4
# Of an answer's time, up to the first token.
TTFT_SHARE = 0.2
# Between chunks where capacity is searched for: an engine's step on a good day.
PACE_MS = 10.0
# The client sends all requests of a step of that search at once; none is answered before the last
# is sent, at 0.1 ms each and up to 1,600 of them.
PACED_TTFT_MS = 300.0


@dataclass(frozen=True)
class Shape:
    """A load, and its answers: all alike.

    slots: requests in flight; rounds: how many each slot has
    itl_ms, ttft_ms: both 0: the ruler never waits
    """

    slots: int
    rounds: int
    tokens: int
    ttft_ms: float = 0.0
    itl_ms: float = 0.0

    @property
    def requests(self) -> int:
        return self.slots * self.rounds

    @property
    def chunks_per_s(self) -> float:
        """While all streams run."""
        return self.slots * 1e3 / self.itl_ms if self.itl_ms else 0.0

    @property
    def ruler(self) -> dict[str, int]:
        """The ruler's settings."""
        return {"ttft_us": round(self.ttft_ms * 1e3), "itl_us": round(self.itl_ms * 1e3)}


def named(streams: int) -> str:
    """
    >>> named(1), named(1024)
    ('1 stream', '1,024 streams')
    """
    return f"{streams:,} stream{'s' * (streams != 1)}"


def level(streams: int, itl_ms: float, seconds: float) -> Shape:
    """Streams for about so long; each answer has two gaps at least."""
    answer_ms = seconds * 1e3 / ROUNDS
    ttft_ms = answer_ms * TTFT_SHARE
    gaps = max(2, round((answer_ms - ttft_ms) / itl_ms))
    return Shape(streams, ROUNDS, gaps + 1, ttft_ms, itl_ms)


def rate(streams: int) -> int:
    """Chunks a second of so many paced streams."""
    return int(streams * 1e3 / PACE_MS)


def paced(rate: int, seconds: float) -> Shape:
    """So many chunks a second, by as many streams as that takes."""
    streams = max(1, round(rate * PACE_MS / 1e3))
    return Shape(streams, 1, round(seconds * 1e3 / PACE_MS) + 1, PACED_TTFT_MS, PACE_MS)
