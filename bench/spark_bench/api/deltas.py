"""What the events of an answer say: which of them bear tokens, and what else they tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from spark_bench.api import words

_DONE = b"[DONE]"
Event = TypeVar("Event")
# More than any server can mean; and it fits the arrays that the counts go into.
Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class PromptDetails(Struct, gc=False):
    """Of the prompt's tokens."""

    cached_tokens: Tokens | None = None


class OutputDetails(Struct, gc=False):
    """Of the output's tokens."""

    reasoning_tokens: Tokens | None = None


class Usage(Struct, gc=False):
    """Token counts, as the server tells them."""

    completion_tokens: Tokens | None = None
    prompt_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    @property
    def cached(self) -> int | None:
        """Prompt tokens that came from the server's cache; None: it doesn't tell."""
        details = self.prompt_tokens_details
        return details.cached_tokens if details else None

    @property
    def reasoning(self) -> int:
        """Output tokens that were reasoning, 0 where untold."""
        details = self.completion_tokens_details
        return self.reasoning_tokens or (details and details.reasoning_tokens) or 0


@dataclass(slots=True)
class Deltas:
    """An answer's events, understood. Events are named by their index; -1: there is none.

    tokens: the events that bear tokens
    texts: gives what each of those adds to the answer
    first_text: the first token bearing event that is not reasoning alone
    usages: who tells token counts, and which
    finish: the event with the finish_reason
    done: the index of [DONE]
    model: whom the first event names
    error: the server's words in the first error event; None: there is none
    malformed: why the first unreadable event is that, "" if there is none; the events before it
        are understood all the same
    """

    tokens: list[int] = field(default_factory=list)
    texts: Callable[[], list[str]] = list
    first_text: int = -1
    usages: list[tuple[int, Usage]] = field(default_factory=list)
    finish: int = -1
    finish_reason: str = ""
    done: int = -1
    model: str = ""
    error: str | None = None
    malformed: str = ""

    @property
    def usage(self) -> Usage | None:
        """The last told token counts."""
        return self.usages[-1][1] if self.usages else None


def before_done(data: list[bytes], found: Deltas) -> list[bytes]:
    """The events before [DONE], which is noted."""
    if data and data[-1] == _DONE:
        found.done = len(data) - 1
    else:
        found.done = next((i for i, each in enumerate(data) if each.strip() == _DONE), -1)
    return data if found.done < 0 else data[: found.done]


def decoded(
    data: Sequence[bytes], decode: Callable[[bytes], Event], found: Deltas
) -> Sequence[Event]:
    """The events, up to the first unreadable one, which is noted."""
    try:
        return list(map(decode, data))
    except (ValueError, RecursionError):
        return _until_unreadable(data, decode, found)


def _until_unreadable(
    data: Sequence[bytes], decode: Callable[[bytes], Event], found: Deltas
) -> list[Event]:
    events: list[Event] = []
    for each in data:
        try:
            events.append(decode(each))
        except (ValueError, RecursionError) as error:
            found.malformed = words.one_line(
                f"event {len(events)}: {error}: {each[:80].decode('utf-8', 'replace')}"
            )
            break
    return events


def note_error(told: Any, found: Deltas) -> None:
    """Keep the first error's words."""
    if found.error is None:
        found.error = words.from_json(told)


def note_odd(data: bytes, found: Deltas) -> None:
    """An event that looks like none of its endpoint's: an error in another shape, or nothing."""
    for told in decoded([data], msgspec.json.decode, found):
        if words.is_error(told):
            note_error(told, found)
