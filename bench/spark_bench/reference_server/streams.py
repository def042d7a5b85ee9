"""The reference server's log, typed."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

# `Record` in source/stream.c; followed by `sent` times of 8 bytes.
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
            for name in ("accepted_ns", "asked_ns", "started_ns", "role_ns", "done_ns")
        ),
    ]
)


class ReferenceApi(IntEnum):
    """Which of the streaming APIs was asked."""

    CHAT = 0
    COMPLETION = 1
    GENERATE = 2


class Flags(IntFlag):
    """What was asked for, and what became of it (source/reference_server.h)."""

    WITH_USAGE = 1
    CONTINUOUS_USAGE = 2
    NOT_STREAMED = 4
    FINISHED = 8
    CUT = 32
    ERROR_EVENT = 64
    CLIENT_GONE = 128
    STOPPED_EARLY = 256
    SLOW = 512


@dataclass(frozen=True)
class Stream:
    """One answer as it was really given; times are CLOCK_MONOTONIC ns, 0: never.

    id: the answer's x-reference-id header, and, in hex, the id of its events
    chunks: with visible tokens, as planned; sent_ns has those that were sent
    per_chunk: tokens in each chunk but perhaps the last
    tokens: of the whole answer; `hidden` of them, at its start, invisible
    reasoning: chunks of reasoning_content, at the start
    earlier: requests that its connection had carried before
    blocked: how often the client's socket took no more
    accepted_ns: its connection; asked_ns: the request was read; started_ns: left the queue
    role_ns: the role chunk, or where the API has none the first step
    done_ns: the last bytes, [DONE] among them
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
    asked_ns: int
    started_ns: int
    role_ns: int
    done_ns: int
    sent_ns: NDArray[np.int64]

    @property
    def ok(self) -> bool:
        """A whole answer, without an injected fault."""
        return self.done_ns > 0 and not self.flags & (Flags.CUT | Flags.ERROR_EVENT)

    @property
    def token_counts(self) -> NDArray[np.int64]:
        """Tokens in each chunk sent."""
        visible = self.tokens - self.hidden
        edges = np.minimum(np.arange(len(self.sent_ns) + 1) * self.per_chunk, visible)
        return np.diff(edges)


def read_dump(dump: bytes) -> list[Stream]:
    """Every stream of the reference server's /_reference/dump."""
    streams = []
    at = 0
    while at < len(dump):
        record = np.frombuffer(dump, RECORD, 1, at)[0]
        values = {name: int(record[name]) for name in RECORD.names or ()}
        at += RECORD.itemsize
        sent = values.pop("sent")
        stamps = np.frombuffer(dump, np.int64, sent, at)
        at += stamps.nbytes
        api = ReferenceApi(values.pop("api"))
        flags = Flags(values.pop("flags"))
        streams.append(Stream(api=api, flags=flags, sent_ns=stamps, **values))
    return streams
