"""An item: what is asked, how its answer is graded, and what is right."""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

Grader = Literal["number", "exact", "contains", "choice", "json", "calls"]


class ItemMessage(Struct, frozen=True):
    """One message of what is asked."""

    role: Literal["system", "user", "assistant"]
    content: str


class Item(Struct, frozen=True, kw_only=True):
    """One item of a task.

    id: its name, unique in the task
    group: the part of the task that it belongs to; "": there are none
    messages: what is asked; /v1/completions gets their contents in lines
    grader: how its answer is read and compared; see `grading`
    expected: the right answer, in the form that the grader takes
    fields: more fields of its request, such as tools
    """

    id: str
    group: str = ""
    messages: tuple[ItemMessage, ...]
    grader: Grader
    expected: Any
    fields: dict[str, Any] = {}

    @property
    def prompt_sha256(self) -> str:
        """SHA-256 of what is asked, in hex."""
        return _digest((self.messages, self.fields))


def items_sha256(items: Iterable[Item]) -> str:
    """SHA-256 of items, in hex: of all that is asked, and of what is right."""
    return _digest(tuple(items))


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
