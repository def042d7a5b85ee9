"""True TTFT, ITL, TPOT and E2E from the reference server's log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_bench.reference_server.streams import Stream


@dataclass(frozen=True)
class GroundTruth:
    """What really happened, in seconds, over the streams that were answered whole.

    ttft: to the first visible token; one per stream
    itl: gaps between chunks with tokens, of all streams
    tpot: per stream (last token - first) / (tokens - 1); streams of one token have none
    e2e: to the last token; e2e_done: to [DONE]
    accept: from the client's send to the reference server's read (the kernel's and the reference
        server's queue); empty without the client's times
    tokens: visible ones
    duration: from the first send to the last token
    peak: most requests under way at once
    """

    requests: int
    tokens: int
    ttft: NDArray[np.float64]
    itl: NDArray[np.float64]
    tpot: NDArray[np.float64]
    e2e: NDArray[np.float64]
    e2e_done: NDArray[np.float64]
    accept: NDArray[np.float64]
    duration: float
    peak: int

    @property
    def output_throughput(self) -> float:
        """Visible tokens per second."""
        return self.tokens / self.duration if self.duration else 0.0


def ground_truth(
    streams: Iterable[Stream], sent_ns: Mapping[int, int] | None = None
) -> GroundTruth:
    """The true metrics of these streams.

    sent_ns: when the client sent each request, by the stream's id; latencies then run from there
    to the reference server's stamps. Without it they start where the reference server has read the
    request. Streams that the client has no time for are left out.
    """
    chosen = [s for s in streams if s.ok and len(s.sent_ns) and (not sent_ns or s.id in sent_ns)]
    starts = [sent_ns[s.id] if sent_ns else s.asked_ns for s in chosen]
    firsts = [int(s.sent_ns[0]) for s in chosen]
    lasts = [int(s.sent_ns[-1]) for s in chosen]
    dones = [s.done_ns for s in chosen]
    visible = [s.tokens - s.hidden for s in chosen]
    tpot = [
        (last - first) / (tokens - 1)
        for first, last, tokens in zip(firsts, lasts, visible, strict=True)
        if tokens > 1
    ]
    gaps = [np.diff(s.sent_ns) for s in chosen]
    return GroundTruth(
        requests=len(chosen),
        tokens=sum(visible),
        ttft=_seconds(firsts, starts),
        itl=np.concatenate(gaps) / 1e9 if gaps else np.empty(0),
        tpot=np.array(tpot) / 1e9,
        e2e=_seconds(lasts, starts),
        e2e_done=_seconds(dones, starts),
        accept=_seconds([s.asked_ns for s in chosen], starts) if sent_ns else np.empty(0),
        duration=(max(lasts) - min(starts)) / 1e9 if chosen else 0.0,
        peak=peak(starts, dones),
    )


def _seconds(ends: list[int], starts: list[int]) -> NDArray[np.float64]:
    return (np.array(ends, np.int64) - np.array(starts, np.int64)) / 1e9


def peak(starts: Iterable[int], ends: Iterable[int]) -> int:
    """Most intervals open at once; one that ends when another starts is over."""
    changes = sorted([(end, -1) for end in ends] + [(start, 1) for start in starts])
    steps = np.array([change for _, change in changes], np.int64)
    return int(np.cumsum(steps).max(initial=0))
