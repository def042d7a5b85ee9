"""What is good enough: the limits, and what misses them."""

from __future__ import annotations

from collections.abc import Iterator

from spark_bench.display.figures import digits
from spark_bench.selftest.report import Deviation, Level

# A time stamp may be off by this at p99: a tenth of the shortest step of an engine (10 ms).
STAMP_US = 1000.0
# No chunk is seen before it was sent; the two clocks are compared to within this.
EARLY_US = -5.0
# A figure may be off by the larger of these: differences that people act on are of several per
# cent, and 0.1 ms is what a switch and a network card add by themselves.
PERCENT, ABSOLUTE_US = 1.0, 100.0
# Chunks that share a read share a stamp; up to this share of them is the kernel's doing.
MERGED = 0.01
# The ruler held the pace, so that the client was tried at what was asked.
PACED = 0.95


def kept_pace(level: Level) -> bool:
    """The ruler sent as fast as it was asked to."""
    return level.paced >= PACED


def followed(level: Level) -> bool:
    """All of a pace was sent, and seen chunk by chunk."""
    return (
        kept_pace(level)
        and not level.failures
        and not level.miscounted
        and level.audit.merged_reads <= MERGED
        and level.stamp_us.p99 <= STAMP_US
    )


def close(found: Deviation) -> bool:
    """A reported figure is as good as the true one."""
    return abs(found.error_us) <= max(ABSOLUTE_US, found.true_ms * 10 * PERCENT)


def problems(level: Level) -> Iterator[str]:
    """What is not good enough with so many streams."""
    if level.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in level.failures.items())
        yield f"{kinds} of {level.requests} requests failed"
    if level.miscounted:
        yield f"{level.miscounted} of {level.requests} answers were miscounted"
    if not kept_pace(level):
        yield f"the ruler held {level.paced:.0%} of the pace"
    if level.stamp_us.p99 > STAMP_US:
        yield f"time stamps are off by {span(level.stamp_us.p99)} at p99"
    if level.stamp_min_us < EARLY_US:
        yield f"chunks are seen {digits(-level.stamp_min_us, 'µs')} before they were sent"
    if level.audit.merged_reads > MERGED:
        yield f"{level.audit.merged_reads:.1%} of chunks shared a read"
    for name, found in (("TTFT", level.ttft), ("ITL", level.itl)):
        yield from (f"{name} {figure} {off(d)}" for figure, d in found.items() if not close(d))


def span(us: float) -> str:
    """
    >>> span(43.21), span(9999.0)
    ('43.2 µs', '10.0 ms')
    """
    return digits(us, "µs") if us < 999.5 else digits(us / 1e3, "ms")


def share(found: Deviation) -> str:
    """Of the truth.

    >>> share(Deviation(100.0123, 100.0, 12.3, 0.0123)), share(Deviation(30.0, 10.0, 2e4, 200.0))
    ('0.01%', '200%')
    """
    percent = abs(found.error_percent)
    return f"{percent:.2f}%" if percent < 9.995 else f"{percent:.0f}%"


def off(found: Deviation) -> str:
    """How far."""
    return f"is {span(abs(found.error_us))} ({share(found)}) off"
