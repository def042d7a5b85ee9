"""What really happened in a turn, from the reference server's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from spark_bench.reference_server.streams import Stream, ground_truth

from peers.reported import FIGURES


@dataclass(frozen=True)
class Actual:
    """The truth under the names of Reported, in milliseconds.

    tokens: generated for whole answers, hidden ones included
    tpot, tpot_after: time from first to last token, divided by (visible tokens - 1), or by the
        tokens after the first chunk, which differs if chunks have several. Both definitions are in
        use.
    itl: from token to token; icl: from chunk to chunk
    accept: from the client's send to the server's read; empty without the client's times
    began_ns, ended_ns: from the first request read to the last token sent
    sent: chunks with tokens handed to the kernel, those of broken answers included
    """

    completed: int
    tokens: int
    throughput: float
    ttft: dict[str, float]
    itl: dict[str, float]
    icl: dict[str, float]
    tpot: float | None
    tpot_after: float | None
    accept: dict[str, float]
    began_ns: int
    ended_ns: int
    sent: int


def actual(streams: Sequence[Stream], sent_ns: Mapping[int, int] | None = None) -> Actual:
    """The truth about these streams.

    sent_ns: the client's send times by the stream's id, from which latencies then count; None: they
        count from the server's read of the request
    """
    whole = [stream for stream in streams if stream.ok]
    true = ground_truth(whole, sent_ns)
    tokens = sum(stream.tokens for stream in whole)
    ended = max((int(s.sent_ns[-1]) for s in streams if len(s.sent_ns)), default=0)
    return Actual(
        completed=len(whole),
        tokens=tokens,
        throughput=tokens / true.duration if true.duration else 0.0,
        ttft=figures(true.ttft * 1e3),
        itl=figures(_token_gaps(whole)),
        icl=figures(true.itl * 1e3),
        tpot=float(true.tpot.mean() * 1e3) if true.tpot.size else None,
        tpot_after=_after_first_chunk(whole),
        accept=figures(true.accept * 1e3),
        began_ns=min((s.asked_ns for s in streams), default=0),
        ended_ns=ended,
        sent=sum(len(s.sent_ns) for s in streams),
    )


def steady_rate(streams: Sequence[Stream]) -> float:
    """Tokens per second that a client took in, by the server's clock alone.

    Buffers between the two hold whole answers, so what was sent says little about what was read.
    But a slot sends its next request only when it has read the response to the one before. So the
    responses that were done when the last request came count as read.
    """
    began = min(s.asked_ns for s in streams)
    last = max(s.asked_ns for s in streams)
    read = sum(s.tokens for s in streams if s.done_ns and s.done_ns <= last)
    return read / (last - began) * 1e9 if last > began else 0.0


def figures(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, p50 and p99, by FIGURES; none without values."""
    if not values.size:
        return {}
    figures = (values.mean(), *np.percentile(values, (50, 99)))
    return dict(zip(FIGURES, map(float, figures), strict=True))


def _after_first_chunk(streams: Sequence[Stream]) -> float | None:
    means = [
        (s.sent_ns[-1] - s.sent_ns[0]) / s.token_counts[1:].sum() / 1e6
        for s in streams
        if len(s.sent_ns) > 1
    ]
    return float(np.mean(means)) if means else None


def _token_gaps(streams: Sequence[Stream]) -> NDArray[np.float64]:
    """The gaps between tokens, in ms: that before a chunk is divided evenly among its tokens."""
    shares = [
        np.repeat(np.diff(s.sent_ns) / s.token_counts[1:] / 1e6, s.token_counts[1:])
        for s in streams
        if len(s.sent_ns) > 1
    ]
    return np.concatenate(shares) if shares else np.empty(0)
