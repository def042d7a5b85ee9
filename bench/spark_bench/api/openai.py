"""The events of /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.api.deltas import Deltas, Usage, before_done, decoded, note_error, note_odd

# How an engine ends an answer that it gave up.
_BROKEN_OFF = {"abort", "error"}


class Function(Struct, gc=False):
    """A call's name, or the next piece of its arguments."""

    name: str | None = None
    arguments: Any = None


class ToolCall(Struct, gc=False):
    """A call, or a piece of one."""

    function: Function | None = None


class Delta(Struct, gc=False):
    """What an event adds to the message. Reasoning is `reasoning_content` with SGLang and
    llama.cpp, `reasoning` with vLLM."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None

    def calls(self) -> str:
        """The text of its tool calls."""
        functions = [call.function for call in self.tool_calls or () if call.function]
        return "".join([f"{each.name or ''}{each.arguments or ''}" for each in functions])

    def text(self) -> str:
        """All that it adds, reasoning first."""
        thought = self.reasoning_content or self.reasoning or ""
        return f"{thought}{self.content or ''}{self.calls()}"


class Choice(Struct, gc=False):
    """One answer: `delta` in a chat's stream, `message` in a whole chat, `text` in a completion."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    def added(self) -> str:
        """All the text that it adds."""
        delta = self.delta or self.message
        return self.text or "" if delta is None else delta.text()


class Chunk(Struct, gc=False):
    """One event."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


class _Named(Struct, gc=False):
    model: Any = None


_decode = msgspec.json.Decoder(Chunk).decode
_decode_name = msgspec.json.Decoder(_Named).decode


def deltas(data: list[bytes]) -> Deltas:
    """What the events of a stream say; an answer in one piece is one event."""
    found = Deltas()
    data = before_done(data, found)
    chunks = decoded(data, _decode, found)
    for first in decoded(data[:1], _decode_name, found):
        found.model = first.model if isinstance(first.model, str) else ""
    for i, chunk in enumerate(chunks):
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            if delta is None:
                _note_undelta(i, choice, found)
            elif delta.content:
                found.tokens.append(i)
                if found.first_text < 0:
                    found.first_text = i
            elif delta.reasoning_content or delta.reasoning:
                found.tokens.append(i)
            if delta is not None and delta.tool_calls:
                _note_calls(i, delta, found)
            if choice.finish_reason is not None:
                _note_finish(i, choice.finish_reason, found)
        if chunk.usage is not None:
            found.usages.append((i, chunk.usage))
        elif chunk.choices is None and not chunk.error:
            note_odd(data[i], found)
        if chunk.error:
            note_error(chunk.error, found)
    # Not through `found`: that would be a cycle, which only garbage collection could free.
    tokens = found.tokens
    found.texts = lambda: [_added(chunks[i]) for i in tokens]
    return found


def _added(chunk: Chunk) -> str:
    return chunk.choices[0].added() if chunk.choices else ""


def _note_undelta(i: int, choice: Choice, found: Deltas) -> None:
    """A piece of a completion, or a message in one piece."""
    if choice.added():
        found.tokens.append(i)
        if found.first_text < 0:
            found.first_text = i


def _note_calls(i: int, delta: Delta, found: Deltas) -> None:
    if not delta.calls():
        return
    if not found.tokens or found.tokens[-1] != i:
        found.tokens.append(i)
    if found.first_text < 0:
        found.first_text = i


def _note_finish(i: int, reason: str, found: Deltas) -> None:
    if reason:
        found.finish, found.finish_reason = i, reason
        if reason in _BROKEN_OFF:
            note_error(f"the engine broke off the answer (finish_reason {reason})", found)
