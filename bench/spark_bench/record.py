"""A request at each stage: what to ask (Prompt), when (Timing), as bytes (Job), what came back
(Exchange), and what it means (Request).

Every `_ns` is CLOCK_MONOTONIC in nanoseconds (`time.perf_counter_ns()` on Linux), 0 where it never
happened.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from spark_bench.arrays import Counts, Ints


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request asks for.

    messages: the conversation so far, the question last
    input_tokens: what the server should count for it, its chat template included; None: unknown
    output_tokens: how many tokens to generate
    conversation, turn: which conversation it belongs to, and its position in it, from 0
    """

    messages: tuple[Message, ...]
    input_tokens: int | None
    output_tokens: int
    conversation: int = 0
    turn: int = 0

    def sha256(self) -> str:
        """The hash of its messages, in hex: two prompts with the same one send the same text."""
        messages = [(message.role, message.content) for message in self.messages]
        return hashlib.sha256(json.dumps(messages).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Timing:
    """When one request is meant to be sent.

    at: seconds after the start of the run (0.0 in a closed loop: as soon as a slot is free)
    after: index of the request that must have ended first (the turn before), or None
    pause: seconds between that end and this request
    """

    at: float = 0.0
    after: int | None = None
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One request, ready to send: its position in the run, and its bytes (HTTP head and body)."""

    index: int
    wire: bytes
    timing: Timing
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class SlotStep:
    """From `at` seconds after the start on, at most `slots` requests may be in flight."""

    at: float
    slots: int


@dataclass(frozen=True)
class Load:
    """Everything that one run sends.

    jobs: by index; `jobs[i].index == i`
    steps: the limits on requests in flight, by time; empty: no limit
    timeout: seconds that one request may take, from its send to the end of its body
    most_bytes: size limit of one response, head and framing included; a larger one fails
    contexts: jobs whose prompts a prefix cache must hold before the run; not part of it
    duration: seconds after which nothing more is sent; None: until every job is sent
    """

    jobs: Sequence[Job]
    steps: tuple[SlotStep, ...] = ()
    timeout: float = 600.0
    duration: float | None = None
    most_bytes: int = 64 * 1024 * 1024
    contexts: Sequence[Job] = ()


class Ended(StrEnum):
    """How an exchange ended, seen from the socket alone."""

    COMPLETE = "complete"  # the body's end came, by length, chunk or close
    REFUSED = "refused"  # nothing listens there
    UNREACHABLE = "unreachable"  # no route, no such host, connecting timed out
    RESET = "reset"  # the peer reset the connection
    CUT = "cut"  # the peer closed before the body's end
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"  # more bytes than any such response may have
    INTERRUPTED = "interrupted"  # we stopped the run while it was in flight
    UNSENT = "unsent"  # we stopped the run before its turn


class Bytes(Protocol):
    """The bytes of a response, in memory (`bytes`) or in a file; `bytes(…)` gives all of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def __bytes__(self) -> bytes: ...


# From a segment's time stamp until epoll reports it, at most, in ns: while the kernel takes it to
# the socket, a look does not show it.
QUEUED_NS = 20_000


@dataclass(slots=True)
class Exchange:
    """The bytes of one response as they came, not yet interpreted.

    scheduled_ns: when it was meant to be sent; in a closed loop, when a slot became free for it
    sent_ns: just before its first byte went to the kernel
    ended_ns: when its last byte came (COMPLETE), else when it was given up
    stamps: for each read, when the kernel received it (the last segment, if it held several)
    ends: for each read, how many bytes had come by its end
    data: everything received, HTTP head included
    reused: whether its connection had carried another request before
    sent_by_ns: just after its last byte went to the kernel; 0: unknown
    unstamped: some reads have the client's own time, since the kernel gave none
    segments: pairs: a number of reads, and how many TCP segments with data they had together
    looked: pairs: a number of reads, and a moment before a look at all sockets that did not report
        the last of them yet
    looks: moments before looks at all sockets, in order: what a look did not report came later, or
        up to QUEUED_NS before
    clock_error_ns: how far the stamps may be off, since the wall clock was set
    """

    index: int
    scheduled_ns: int = 0
    sent_ns: int = 0
    ended_ns: int = 0
    ended: Ended = Ended.UNSENT
    detail: str = ""
    reused: bool = False
    stamps: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    data: Bytes = b""
    sent_by_ns: int = 0
    unstamped: bool = False
    segments: array[int] = field(default_factory=lambda: array("q"))
    looked: array[int] = field(default_factory=lambda: array("q"))
    looks: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    clock_error_ns: int = 0


@dataclass(slots=True)
class Request:
    """One request, and what its response means.

    A time is the latest at which something can have come. Where it may have come earlier, the field
    of the same name with `since` is the earliest; 0 or empty: it came at that time.

    sent_ns, sent_by_ns: it was sent after the first and before the second (0: unknown)
    first_event_ns: the first stream event, even one with a role alone (ttfc)
    text_ns: the first delta that is not reasoning (ttfo)
    token_ns: when each delta with tokens came
    token_counts: how many tokens each of them carried; sums to the visible output tokens
    counted_by: where token_counts come from: "chunk" (one each, and the usage agrees), "usage"
        (the server returned them with each chunk), "tokenizer", "even" (the total spread evenly),
        "none"
    done_ns: the end of the stream ([DONE]) or body
    output_tokens: as the server counted them (see `usage`), hidden ones included
    hidden_tokens: generated before the first visible one (harmony's channel markers)
    usage: whether the server returned token counts; if not, they are the tokenizer's, or the
        number of chunks
    model: the name in the response
    prompt_sha256: of the prompt's messages, in hex; "": unknown
    blank_events: events whose text is empty although nothing began or ended with them
    failure: the kind (see protocol.failures), or "" for a request that counts
    detail: of the failure, for people: the status, the server's message
    """

    index: int
    scheduled_ns: int = 0
    sent_ns: int = 0
    first_event_ns: int = 0
    text_ns: int = 0
    done_ns: int = 0
    token_ns: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    sent_by_ns: int = 0
    first_event_since_ns: int = 0
    text_since_ns: int = 0
    done_since_ns: int = 0
    token_since_ns: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    token_counts: Counts = field(default_factory=lambda: np.empty(0, np.int32))
    counted_by: str = "none"
    asked_input: int | None = None
    asked_output: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    output_tokens: int = 0
    reasoning_tokens: int = 0
    hidden_tokens: int = 0
    usage: bool = False
    finish_reason: str = ""
    model: str = ""
    blank_events: int = 0
    status: int = 0
    failure: str = ""
    detail: str = ""
    reused: bool = False
    merged_reads: int = 0
    conversation: int = 0
    turn: int = 0
    prompt_sha256: str = ""
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether it counts: it got a whole answer with at least one token."""
        return not self.failure

    @property
    def stopped_early(self) -> bool:
        """Whether the model ended its answer before the requested length."""
        return self.ok and self.output_tokens < self.asked_output
