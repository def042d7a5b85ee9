"""How a transfer fares, and when it stands still. No clock: `now` is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.transfer.weights.held import GB


@dataclass
class Progress:
    """Bytes of a transfer over time, from `begun` (seconds of any clock) on.

    + total: bytes in all
    + first: bytes that were there at the first look: they say nothing of the rate
    """

    total: int
    begun: float
    bytes: int = 0
    first: int | None = None
    grown: float = field(init=False)

    def __post_init__(self) -> None:
        self.grown = self.begun

    def note(self, count: int, now: float) -> None:
        """Bytes that are there now."""
        if self.first is None:
            self.first = self.bytes = count
        if count > self.bytes:
            self.bytes, self.grown = count, now

    def silent(self, now: float) -> float:
        """Seconds without a byte."""
        return now - self.grown

    def line(self, now: float) -> str:
        """ "12.3 of 65.2 GB, 0.45 GB/s, 2 min left"."""
        told = f"{self.bytes / GB:.1f} of {self.total / GB:.1f} GB"
        moved, seconds = self.bytes - (self.first or 0), now - self.begun
        if moved <= 0 or seconds <= 0:
            return told
        rate = moved / seconds
        left = max(0, self.total - self.bytes) / rate
        return f"{told}, {rate / GB:.2f} GB/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
