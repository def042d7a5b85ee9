"""The events of SGLang's own endpoint /generate."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.protocol.deltas import (
    Deltas,
    PromptDetails,
    Tokens,
    Usage,
    decode_events,
    events_before_done,
    lenient_json,
    note_error,
    note_odd,
)


class Meta(Struct, gc=False):
    """What an event says about the request so far."""

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


class GenerateChunk(Struct, gc=False):
    """One event: all the text so far; with --incremental-streaming-output, only the new text."""

    text: str | None = None
    meta_info: Meta | None = None
    error: Any = None


_decode = msgspec.json.Decoder(GenerateChunk).decode


def parse_generate_events(data: Sequence[bytes]) -> Deltas:
    """Parse the events of a stream; an answer in one piece counts as one event."""
    deltas = Deltas()
    data = events_before_done(data, deltas)

    def decode_leniently(data: bytes) -> GenerateChunk:
        # Counts of another type, or not quite valid JSON.
        return msgspec.convert(lenient_json(data), GenerateChunk, strict=False)

    chunks = list(decode_events(data, _decode, deltas, decode_leniently))
    added = _added([chunk.text or "" for chunk in chunks])
    for i, chunk in enumerate(chunks):
        if added[i]:
            deltas.tokens.append(i)
        if chunk.meta_info is not None:
            deltas.count(i, chunk.meta_info.usage())
            if chunk.meta_info.finish_reason is not None:
                # SGLang sends {"type": "length", ...}; an abort has a message.
                reason = chunk.meta_info.finish_reason
                details = reason if isinstance(reason, dict) else {"type": reason}
                if deltas.finish < 0:
                    deltas.finish, deltas.finish_reason = i, str(details.get("type"))
                if details.get("type") == "abort":
                    aborted = "the engine aborted the request"
                    note_error(details.get("message") or aborted, deltas)
        elif chunk.error:
            note_error(chunk.error, deltas)
        elif chunk.text is None:
            note_odd(data[i], deltas)
    deltas.first_text = deltas.tokens[0] if deltas.tokens else -1
    # Don't refer to `deltas` here: only garbage collection could free that cycle.
    tokens = deltas.tokens
    deltas.texts = lambda: [added[i] for i in tokens]
    return deltas


def _added(texts: list[str]) -> list[str]:
    """The text that each event adds.

    A cumulative text begins with the one before it, except for half a character (U+FFFD) at the
    end, which the next event completes.
    """
    added, so_far = [], ""
    for text in texts:
        settled = so_far.rstrip("\ufffd")
        if not text:
            added.append("")
            continue
        if not text.startswith(settled):
            return texts
        added.append(text[len(so_far) :] if text.startswith(so_far) else text[len(settled) :])
        so_far = text
    return added
