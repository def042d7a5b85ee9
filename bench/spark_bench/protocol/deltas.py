"""The contents of a response's events: which of them bear tokens, and what else they have."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from spark_bench.protocol import error_text

_DONE = b"[DONE]"
Event = TypeVar("Event")
# Number of events that are decoded at once: few enough to stay in the CPU's cache.
_BLOCK = 256
# Names of gateways that report counts as OpenAI's Responses API and Anthropic do.
_OTHER_NAMES = {"completion_tokens": "output_tokens", "prompt_tokens": "input_tokens"}
# The limit is more than any real count, and fits the arrays of counts.
Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class PromptDetails(Struct, gc=False):
    """Details of the prompt's tokens."""

    cached_tokens: Tokens | None = None


class OutputDetails(Struct, gc=False):
    """Details of the output's tokens."""

    reasoning_tokens: Tokens | None = None


class Usage(Struct, gc=False):
    """Token counts, as the server reports them."""

    completion_tokens: Tokens | None = None
    prompt_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    @property
    def cached(self) -> int | None:
        """Prompt tokens found in the server's prefix cache; None if not reported."""
        details = self.prompt_tokens_details
        return details.cached_tokens if details else None

    @property
    def reasoning(self) -> int:
        """Output tokens that were reasoning; 0 if not reported."""
        details = self.completion_tokens_details
        return self.reasoning_tokens or (details and details.reasoning_tokens) or 0


@dataclass(slots=True)
class Deltas:
    """A response's parsed events. Events are given by index; -1: there is no such event.

    tokens: the events that bear tokens
    texts: returns the text that each of these adds to the answer
    first_text: the first token-bearing event that is not only reasoning
    usage: the last token counts; None if there are none
    counted, so_far: the events with token counts, and the output tokens that each of them states;
        -1: it states none
    finish: the event with the finish_reason
    finish_reason: why generation ended, as the server says
    blank: number of events with a place for text but none in it, except for those with a role,
        counts or the end
    done: the event [DONE]
    model: the model that the first event names
    error: the server's message in the first error event; None if there is none
    malformed: why the first unreadable event can't be read, "" if there is none; the events
        before it still count
    """

    tokens: list[int] = field(default_factory=list)
    texts: Callable[[], list[str]] = list
    first_text: int = -1
    usage: Usage | None = None
    counted: array[int] = field(default_factory=lambda: array("q"))
    so_far: array[int] = field(default_factory=lambda: array("q"))
    finish: int = -1
    finish_reason: str = ""
    blank: int = 0
    done: int = -1
    model: str = ""
    error: str | None = None
    malformed: str = ""

    def count(self, event: int, usage: Usage) -> None:
        """Note the token counts of an event."""
        tokens = usage.completion_tokens
        self.usage = usage
        self.counted.append(event)
        self.so_far.append(-1 if tokens is None else tokens)


def events_before_done(data: Sequence[bytes], deltas: Deltas) -> Sequence[bytes]:
    """The events before [DONE], whose index is noted in `deltas`."""
    if data and data[-1] == _DONE:
        deltas.done = len(data) - 1
    else:
        deltas.done = next((i for i, each in enumerate(data) if each.strip() == _DONE), -1)
    return data if deltas.done < 0 else data[: deltas.done]


def decode_events(
    data: Sequence[bytes],
    decode: Callable[[bytes], Event],
    deltas: Deltas,
    otherwise: Callable[[bytes], Event] | None = None,
) -> Iterator[Event]:
    """Decode events up to the first unreadable one, which is noted in `deltas`.

    otherwise: decodes the events that `decode` can't
    """
    for begin in range(0, len(data), _BLOCK):
        block = data[begin : begin + _BLOCK]
        try:
            yield from list(map(decode, block))
        except (ValueError, RecursionError):
            yield from _decode_each(block, begin, decode, deltas, otherwise or decode)
            if deltas.malformed:
                return


def _decode_each(
    block: Sequence[bytes],
    begin: int,
    decode: Callable[[bytes], Event],
    deltas: Deltas,
    otherwise: Callable[[bytes], Event],
) -> Iterator[Event]:
    for i, each in enumerate(block, begin):
        try:
            try:
                event = decode(each)
            except ValueError:
                event = otherwise(each)
        except (ValueError, RecursionError) as error:
            deltas.malformed = error_text.one_line(
                f"event {i}: {error}: {each[:80].decode('utf-8', 'replace')}"
            )
            return
        yield event


def lenient_json(data: bytes) -> Any:
    """Decode JSON as Python does, which accepts more than typed decoding does.

    That is NaN, infinities, and half a surrogate or invalid UTF-8, which come from servers that
    split text by tokens. Raises ValueError.
    """
    return json.loads(data.decode("utf-8", "replace"))


def usage_of(value: Any) -> Usage | None:
    """Token counts from numbers of any kind: 8.0 and "8" are 8, "" means none.

    Raises ValueError for anything else.
    """
    if isinstance(value, list):
        value = value[-1] if value else None
    if not isinstance(value, dict):
        return None
    counts = _without_blanks(value)
    for name, other in _OTHER_NAMES.items():
        if other in counts:
            counts.setdefault(name, counts[other])
    return msgspec.convert(counts, Usage, strict=False)


def _without_blanks(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_blanks(item) if isinstance(item, dict) else item
        for name, item in item.items()
        if item not in ("", None)
    }


def note_error(value: Any, deltas: Deltas) -> None:
    """Store the first error's message."""
    if deltas.error is None:
        deltas.error = error_text.from_json(value)


def note_odd(data: bytes, deltas: Deltas) -> None:
    """Note an event unlike those of its endpoint, which may be an error in another shape."""
    for value in decode_events([data], msgspec.json.decode, deltas):
        if error_text.is_error(value):
            note_error(value, deltas)
