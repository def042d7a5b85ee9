"""What the recorder tells while it records."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Progress(Struct, frozen=True):
    """A look at a running load, about twice a second. Figures are from reads, not from parsed
    events: approximate, and good for watching alone.

    seconds: since the start
    total, sent, done, failed, in_flight: requests. Failed are those whose exchange broke; what an
        answer says is known after the run.
    reads: reads so far (about one a stream event)
    first_ms: since the last look, for requests sent then, milliseconds from send to first read
    gap_ms: since the last look, sampled milliseconds between two reads of one stream
    """

    seconds: float
    total: int
    sent: int
    done: int
    failed: int
    in_flight: int
    reads: int
    first_ms: tuple[float, ...] = ()
    gap_ms: tuple[float, ...] = ()


Tell = Callable[[Progress], None]
