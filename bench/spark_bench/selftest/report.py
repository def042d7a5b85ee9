"""What `verify` found, as `--json` writes it."""

from __future__ import annotations

from msgspec import Struct

from spark_bench.client.audit import Audit, Spread
from spark_bench.results.facts import Machine


class Deviation(Struct, frozen=True):
    """One figure as the client reports it, and as it was."""

    reported_ms: float
    true_ms: float
    error_us: float
    error_percent: float


Deviations = dict[str, Deviation]
"""By figure: "mean", "p50", "p99"."""


class Level(Struct, frozen=True, kw_only=True):
    """So many streams at once.

    itl_ms: as the ruler was asked to pace them
    chunks_per_s: as it really did; paced: as a share of what was asked
    tokens: as the client counted them
    miscounted: answers of whose chunks the client saw more or fewer than were sent, or that the
        ruler does not know
    failures: by kind
    stamp_us: the client's time of a chunk minus the true one; stamp_min_us: the least of them
    ttft, itl: as reported, beside the truth (TTFT: from the client's send to the ruler's stamp)
    accept_us: from the client's send until the ruler had read the request: in no error above
    cpu_us: CPU of the client for each chunk while the load ran; read_us: for reading it afterwards
    core: share of a core that the client used while the load ran
    """

    streams: int
    itl_ms: float
    requests: int
    tokens: int
    chunks_per_s: float
    paced: float
    miscounted: int
    failures: dict[str, int]
    stamp_us: Spread
    stamp_min_us: float
    ttft: Deviations
    itl: Deviations
    accept_us: Spread
    cpu_us: float
    read_us: float
    core: float
    audit: Audit


class Capacity(Struct, frozen=True, kw_only=True):
    """How much the client can take.

    paced: one-token chunks a second, of streams with 10 ms between two, that it followed
    limit: what ended the search: "client", "ruler" (which could not send more), or "search"
    tried: by rate, whether it followed
    unpaced: chunks a second from a server that never waits
    requests: answers of one token a second, over `slots` connections; request_us: CPU for each
    """

    paced: float
    limit: str
    tried: dict[int, bool]
    unpaced: float
    requests: float
    slots: int
    request_us: float


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the machine was doing meanwhile.

    client_core, ruler_core: where each was pinned; None: there was one core for both
    others: cores' worth of CPU that other processes used
    stolen: share of CPU time that the hypervisor gave to others
    throttled: times that a CPU quota (cgroup) stopped us
    """

    machine: Machine
    client_core: int | None
    ruler_core: int | None
    others: float
    stolen: float
    throttled: int


class Aspect(Struct, frozen=True):
    """One thing that matters, in a sentence."""

    name: str
    good: bool
    sentence: str


class Cause(Struct, frozen=True):
    """What probably made it bad, and what helps."""

    reason: str
    cure: str


class Verdict(Struct, frozen=True):
    """streams, chunks_per_s: what was asked for and proven; 0 if nothing was."""

    good: bool
    sentence: str
    streams: int
    chunks_per_s: float
    aspects: tuple[Aspect, ...]
    causes: tuple[Cause, ...] = ()


class Report(Struct, frozen=True, kw_only=True):
    """Everything. peak_rss_bytes: of this process, the search for its capacity included."""

    version: str
    levels: tuple[Level, ...]
    capacity: Capacity
    peak_rss_bytes: int
    surroundings: Surroundings
    verdict: Verdict
