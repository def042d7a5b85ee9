"""How exact the client was: its own measure of itself, part of every result."""

from msgspec import UNSET, Struct, UnsetType


class Spread(Struct, frozen=True):
    """Median, 99th percentile and maximum of something, in microseconds."""

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class Audit(Struct, frozen=True):
    """The client's account of itself.

    clock: where receive times come from: "kernel" (SO_TIMESTAMPING), else "process" (read time)
    transport: "plain", "tls" (decrypted as it comes), or "mixed"
    reads: how many reads there were
    lag_us: from the kernel's receive time to our read; its maximum is the longest pause of the
        client's own where that is longer
    late_us: from when a request could be sent (its time, its slot) to when it was
    merged_reads: share of token bearing deltas that came in the same read as the one before, and
        so have its time
    idle_slots: share of its time that a closed loop's slots had no request: from when an answer
        ended to when the next request was sent; left out: no closed loop, or unknown
    clock_step_us: how far the wall clock was set during the run (kernel stamps are corrected by
        what was measured at the start)
    cpu_seconds, wall_seconds: of the client while the run lasted
    parse_seconds: CPU for reading the responses afterwards
    peak_rss_bytes: the client process' largest resident size
    spilled_bytes: of responses written to a temporary file while the run lasted
    verdict: "exact", or "approximate" with the reasons
    bounded: the figures' bounds show all that is uncertain; false: the load or the counts of tokens
        are not as they should be, too; left out: unknown
    """

    clock: str
    transport: str = "plain"
    reads: int = 0
    lag_us: Spread = Spread()
    late_us: Spread = Spread()
    merged_reads: float = 0.0
    idle_slots: float | UnsetType = UNSET
    clock_step_us: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    parse_seconds: float = 0.0
    peak_rss_bytes: int = 0
    spilled_bytes: int = 0
    verdict: str = "exact"
    reasons: tuple[str, ...] = ()
    bounded: bool | UnsetType = UNSET
