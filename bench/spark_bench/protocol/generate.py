"""The events of SGLang's own /generate."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.protocol.deltas import (
    Deltas,
    PromptDetails,
    Tokens,
    Usage,
    before_done,
    decoded,
    json_of,
    note_error,
    note_odd,
)


class Meta(Struct, gc=False):
    """An event's account of the request so far."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    finish_reason: Any = None

    def usage(self) -> Usage:
        """The same counts under OpenAI's names."""
        return Usage(
            completion_tokens=self.completion_tokens,
            prompt_tokens=self.prompt_tokens,
            reasoning_tokens=self.reasoning_tokens,
            prompt_tokens_details=PromptDetails(self.cached_tokens),
        )


class Chunk(Struct, gc=False):
    """One event: the whole text so far, or with --incremental-streaming-output what is new."""

    text: str | None = None
    meta_info: Meta | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def deltas(data: list[bytes]) -> Deltas:
    """What the events of a stream say; an answer in one piece is one event."""
    found = Deltas()
    data = before_done(data, found)
    chunks = decoded(data, _decode, found, _as_best_one_can)
    added = _added([chunk.text or "" for chunk in chunks])
    for i, chunk in enumerate(chunks):
        if added[i]:
            found.tokens.append(i)
        if chunk.meta_info is not None:
            found.usages.append((i, chunk.meta_info.usage()))
            if chunk.meta_info.finish_reason is not None:
                _note_finish(i, chunk.meta_info.finish_reason, found)
        elif chunk.error:
            note_error(chunk.error, found)
        elif chunk.text is None:
            note_odd(data[i], found)
    found.first_text = found.tokens[0] if found.tokens else -1
    # Not through `found`: that would be a cycle, which only garbage collection could free.
    tokens = found.tokens
    found.texts = lambda: [added[i] for i in tokens]
    return found


def _as_best_one_can(data: bytes) -> Chunk:
    """An event with counts of another kind, or text that is not quite JSON."""
    return msgspec.convert(json_of(data), Chunk, strict=False)


def _added(texts: list[str]) -> list[str]:
    """What each event adds. Cumulative texts begin with the one before, but for a half character
    at its end (U+FFFD), which the next event completes."""
    added, seen = [], ""
    for text in texts:
        settled = seen.rstrip("\ufffd")
        if not text:
            added.append("")
            continue
        if not text.startswith(settled):
            return texts
        added.append(text[len(seen) :] if text.startswith(seen) else text[len(settled) :])
        seen = text
    return added


def _note_finish(i: int, reason: Any, found: Deltas) -> None:
    """SGLang tells {"type": "length", ...}; an abort has a message."""
    told = reason if isinstance(reason, dict) else {"type": reason}
    if found.finish < 0:
        found.finish, found.finish_reason = i, str(told.get("type"))
    if told.get("type") == "abort":
        note_error(told.get("message") or "the engine aborted the request", found)
