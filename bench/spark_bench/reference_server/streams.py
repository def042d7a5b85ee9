"""The reference server's log, typed; and true TTFT, ITL, TPOT and E2E from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from spark_bench.arrays import Floats, Ints

# `Record` in source/log.c; followed by twice `sent` times of 8 bytes.
RECORD = np.dtype(
    [
        *(
            (name, "=u4")
            for name in (
                *("id", "flags", "chunks", "sent", "per_chunk", "tokens", "hidden", "reasoning"),
                *("prompt_tokens", "earlier", "blocked", "api"),
            )
        ),
        *(
            (name, "=u8")
            for name in (
                *("accepted_ns", "received_ns", "asked_ns", "started_ns", "role_ns", "done_ns"),
            )
        ),
    ]
)


class ReferenceApi(IntEnum):
    """Which of the streaming APIs was called."""

    CHAT = 0
    COMPLETION = 1
    GENERATE = 2


class Flags(IntFlag):
    """What was requested, and what happened (source/reference_server.h)."""

    WITH_USAGE = 1
    CONTINUOUS_USAGE = 2
    NOT_STREAMED = 4
    FINISHED = 8
    CUT = 32
    ERROR_EVENT = 64
    CLIENT_GONE = 128
    STOPPED_EARLY = 256
    SLOW = 512
    DRAFTS = 1024


@dataclass(frozen=True)
class Stream:
    """One answer as it was really given; times are CLOCK_MONOTONIC ns, 0: never.

    id: the answer's x-reference-id header, and, in hex, the id of its events
    chunks: with visible tokens, as planned; sent_ns has those that were sent
    per_chunk: tokens in each chunk, with DRAFTS the most: they have 1, 2, ... in turn; the last
        may have fewer
    tokens: of the whole answer; `hidden` of them, at its start, are invisible
    reasoning: chunks of reasoning_content, at the start
    earlier: requests that its connection had carried before
    blocked: how often the client's socket accepted no more data
    accepted_ns: when its connection was accepted
    received_ns: when the server's kernel had received the request's first segment
    asked_ns, started_ns: when the request had been read, and when it left the queue
    role_ns: when the role chunk was sent; the first step's time if the API has none
    done_ns: when the last bytes were sent, which include [DONE]
    sent_ns, left_ns: of each chunk, just before it was handed to the kernel and just after it had
        left; the second is 0 where TCP kept some of it back until others are acknowledged
    """

    id: int
    api: ReferenceApi
    flags: Flags
    chunks: int
    per_chunk: int
    tokens: int
    hidden: int
    reasoning: int
    prompt_tokens: int
    earlier: int
    blocked: int
    accepted_ns: int
    received_ns: int
    asked_ns: int
    started_ns: int
    role_ns: int
    done_ns: int
    sent_ns: Ints
    left_ns: Ints

    @property
    def ok(self) -> bool:
        """Whether it is a whole answer, without an injected fault."""
        return self.done_ns > 0 and not self.flags & (Flags.CUT | Flags.ERROR_EVENT)

    @property
    def token_counts(self) -> Ints:
        """Tokens in each chunk sent."""
        visible = self.tokens - self.hidden
        counts = np.full(len(self.sent_ns), self.per_chunk, np.int64)
        if self.flags & Flags.DRAFTS:
            counts = 1 + np.arange(len(self.sent_ns)) % self.per_chunk
        return np.diff(np.append(0, np.minimum(np.cumsum(counts), visible)))


def read_dump(dump: bytes) -> list[Stream]:
    """Every stream of the reference server's /_reference/dump."""
    streams = []
    at = 0
    while at < len(dump):
        record = np.frombuffer(dump, RECORD, 1, at)[0]
        values = {name: int(record[name]) for name in RECORD.names or ()}
        at += RECORD.itemsize
        sent = values.pop("sent")
        sent_ns, left_ns = np.frombuffer(dump, np.int64, 2 * sent, at).reshape(2, sent)
        at += sent_ns.nbytes + left_ns.nbytes
        api = ReferenceApi(values.pop("api"))
        flags = Flags(values.pop("flags"))
        streams.append(Stream(api=api, flags=flags, sent_ns=sent_ns, left_ns=left_ns, **values))
    return streams


@dataclass(frozen=True)
class GroundTruth:
    """What really happened, in seconds, over the streams that were answered completely.

    ttft: to the first visible token; one per stream
    itl: gaps between chunks with tokens, of all streams
    tpot: per stream (last token - first) / (tokens - 1); streams of one token have none
    e2e: to the last token; e2e_done: to [DONE]
    accept: from the client's send to the reference server's read (the kernel's and the reference
        server's queue); empty without the client's times
    tokens: visible ones
    duration: from the first send to the last token
    peak: most requests in flight at once
    """

    requests: int
    tokens: int
    ttft: Floats
    itl: Floats
    tpot: Floats
    e2e: Floats
    e2e_done: Floats
    accept: Floats
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

    sent_ns: when the client sent each request, by the stream's id. Latencies then start there, and
        streams without such a time are left out. None: latencies start when the reference server
        has read the request
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


def _seconds(ends: list[int], starts: list[int]) -> Floats:
    return (np.array(ends, np.int64) - np.array(starts, np.int64)) / 1e9


def peak(starts: Iterable[int], ends: Iterable[int]) -> int:
    """The most intervals open at once; one that ends just as another starts doesn't overlap it."""
    changes = sorted([(end, -1) for end in ends] + [(start, 1) for start in starts])
    steps = np.array([change for _, change in changes], np.int64)
    return int(np.cumsum(steps).max(initial=0))
