"""A recorded load to replay: JSONL, one request a line, in Mooncake's format or in our own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from spark_bench.errors import BadInput
from spark_bench.record import Message, Timing

_Tokens = Annotated[int, Meta(ge=1)]
_Time = Annotated[float, Meta(ge=0)]
_MOONCAKE = '{"timestamp": MILLISECONDS, "input_length": N, "output_length": N, "hash_ids": [N]}'
_PLAIN = '{"at": SECONDS, "input_len": N, "output_len": N, "prompt": TEXT or "messages": [...]}'
# Characters of an invalid line that the message shows.
_SHOWN = 60
# A Timing at 0.0 is due whenever a slot is free; a trace's first requests are due at its start.
_AT_ONCE = 1e-9


class TraceEntry(msgspec.Struct, frozen=True):
    """One request of a trace.

    at: seconds after the trace's first request
    input_len: tokens of the prompt; None: as many as the messages have
    output_len: tokens of the answer
    hash_ids: one per block of the prompt (512 tokens in Mooncake's traces, the last may be
        shorter): requests that begin with the same ids begin with the same tokens
    messages: the prompt's text, where the trace has it
    """

    at: float
    input_len: int | None
    output_len: int
    hash_ids: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Mooncake(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the traces that kvcache-ai/Mooncake publishes; timestamp is in milliseconds."""

    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: tuple[int, ...] = ()

    def entry(self) -> TraceEntry:
        return TraceEntry(
            self.timestamp / 1000, self.input_length, self.output_length, self.hash_ids
        )


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A line in our own format; at is in seconds."""

    at: _Time
    output_len: _Tokens
    input_len: _Tokens | None = None
    prompt: str | None = None
    messages: tuple[_Message, ...] = ()

    def __post_init__(self) -> None:
        if self.prompt is not None and self.messages:
            raise ValueError("has both a prompt and messages; keep one")
        if self.prompt is None and not self.messages and self.input_len is None:
            raise ValueError("has no prompt; give input_len, prompt or messages")

    def entry(self) -> TraceEntry:
        messages = tuple(Message(message.role, message.content) for message in self.messages)
        if self.prompt is not None:
            messages = (Message("user", self.prompt),)
        return TraceEntry(self.at, self.input_len, self.output_len, messages=messages)


def read_trace(path: Path, *, speed: float = 1.0, limit: int | None = None) -> list[TraceEntry]:
    """The requests of a trace in order of time, the first at 0.

    speed: 2.0 replays it in half the time
    limit: at most this many, the earliest; None: all

    Raises BadInput, with file and line, for anything that isn't an entry. An unknown key is
    refused, not ignored: it might mean sessions, delays, or times in another unit.
    """
    if not 0 < speed < math.inf:
        raise BadInput(f"--trace-speed: {speed} is not allowed; it must be a number above 0")
    if limit is not None and limit < 1:
        raise BadInput(f"trace limit {limit} is not allowed; it must be 1 or more")
    try:
        with path.open("rb") as lines:
            entries = [
                _entry(line, f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except OSError as error:
        raise BadInput(f"{path}: can't be read: {error.strerror}") from error
    if not entries:
        raise BadInput(f"{path}: has no requests; a trace has one JSON object a line")
    entries = sorted(entries, key=lambda entry: entry.at)[:limit]
    start = entries[0].at
    return [msgspec.structs.replace(entry, at=(entry.at - start) / speed) for entry in entries]


def trace_timings(entries: Sequence[TraceEntry]) -> list[Timing]:
    """When each entry is due, by index: never at exactly 0.0, so that every request's wait for a
    slot counts."""
    return [Timing(at=max(entry.at, _AT_ONCE)) for entry in entries]


def _entry(line: bytes, place: str) -> TraceEntry:
    form = f"{_MOONCAKE} or {_PLAIN}"
    try:
        fields = msgspec.json.decode(line)
        # The name of its time tells which format the line is in.
        if isinstance(fields, dict) and "timestamp" in fields:
            form = _MOONCAKE
            return msgspec.convert(fields, _Mooncake).entry()
        if isinstance(fields, dict) and "at" in fields:
            form = _PLAIN
            return msgspec.convert(fields, _Plain).entry()
        raise ValueError("not a request with a time")
    except (msgspec.MsgspecError, ValueError) as error:
        shown = line.decode(errors="replace").strip()
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        raise BadInput(f"{place}: {error}; write {form}, not {shown}") from error
