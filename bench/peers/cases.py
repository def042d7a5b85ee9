"""The loads that the clients send, and how the server behaves meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

INPUT = 128
"""Tokens of every prompt."""


@dataclass(frozen=True)
class PeerLoad:
    """One load, the same for every client.

    streams: requests in flight
    requests: in all, sent as slots become free
    output: tokens requested of each answer
    settings: the reference server's settings, by the keys of its Config
    """

    name: str
    streams: int
    requests: int
    output: int = 128
    settings: dict[str, int] = field(default_factory=dict)


def paced(streams: int, rounds: int) -> PeerLoad:
    """A load with a TTFT of 200 ms and an ITL of 10 ms; from 1024 streams up of 40 ms, so that 1024
    have the rate of 256."""
    itl = 40_000 if streams >= 1024 else 10_000
    pace = {"ttft_us": 200_000, "itl_us": itl}
    return PeerLoad(f"{streams} streams", streams, streams * rounds, settings=pace)


def accuracy_loads(quick: bool) -> list[PeerLoad]:
    """Loads at which reported latencies are compared with the truth."""
    if quick:
        return [paced(16, 2), paced(256, 2)]
    return [paced(1, 3), paced(16, 3), paced(64, 2), paced(256, 3), paced(1024, 2)]


def cpu_loads() -> list[PeerLoad]:
    """Loads at which CPU time is compared."""
    return [paced(1, 2), paced(16, 3), paced(64, 3), paced(256, 3)]


# The load of `accuracy_loads` whose turns also give the clients' CPU use and time stamps.
COST = "256 streams"

ONE_TOKEN = PeerLoad("one-token answers", 64, 4096, output=1, settings={"ttft_us": 0, "itl_us": 0})
FIREHOSE = PeerLoad("zero delay", 64, 512, output=500, settings={"ttft_us": 0, "itl_us": 0})


def ladder_loads(quick: bool) -> list[PeerLoad]:
    """One-token chunks at rising rates: more streams, each at 10 ms ITL."""
    rates = (40_000,) if quick else (30_000, 40_000, 50_000, 60_000, 70_000)
    pace = {"ttft_us": 200_000, "itl_us": 10_000}
    return [PeerLoad(f"{r} chunks/s", r // 100, r // 50, output=200, settings=pace) for r in rates]


def _fault(name: str, **keys: int) -> PeerLoad:
    return PeerLoad(name, 4, 8, settings={"ttft_us": 200_000, "itl_us": 10_000} | keys)


FAULTS = [
    _fault("no fault"),
    _fault("early stop at 64", stop_at=64),
    _fault("64 reasoning chunks", reasoning=64),
    _fault("in-stream error, 2 of 8", err_every=4),
    _fault("cut, 2 of 8", cut_every=4),
    _fault("HTTP 500, 2 of 8", fail_every=4),
    _fault("4 tokens a chunk", k=4, itl_us=40_000),
    _fault("3 hidden tokens", hidden=3),
    _fault("split packets", split=1),
    _fault("queueing, 2 running", max_running=2),
]
