"""An item: what is sent, how its answer is graded, what is right; the items of a user's file."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from spark_bench.errors import BadInput

Grader = Literal["number", "exact", "contains", "choice", "json", "calls"]


class ItemMessage(Struct, frozen=True):
    """One message of what is sent."""

    role: Literal["system", "user", "assistant"]
    content: str


class ExpectedCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call that is right. A value {"any": […]} stands for each of these."""

    name: str
    arguments: dict[str, Any] = {}


class QualityItem(Struct, frozen=True, kw_only=True):
    """One item of a task.

    id: its name, unique in the task
    group: the part of the task that it belongs to; "": there are none
    messages: what is sent; /v1/completions gets their contents in lines
    grader: how its answer is read and compared; see `grading`
    expected: the right answer, in the form that the grader takes
    fields: more fields of its request, such as tools
    tokens: about how many it has; None: not counted
    """

    id: str
    group: str = ""
    messages: tuple[ItemMessage, ...]
    grader: Grader
    expected: Any
    fields: dict[str, Any] = {}
    tokens: int | None = None

    @property
    def prompt_sha256(self) -> str:
        """SHA-256 of what is sent, in hex."""
        return _digest((self.messages, self.fields))


# Bounds of a file of items: bytes of one line, and lines.
LONGEST_LINE, MOST_ITEMS = 4 * 1024 * 1024, 100_000


class ItemLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a file of items.

    prompt: what is sent, as a text or as messages
    answer: what is right, in the grader's form
    grader: "number", "exact", "contains", "choice", "json" or "calls"
    id: its name; "": its line's number
    group: items with the same are scored together, too
    tools: as in a chat request
    """

    prompt: Annotated[str, Meta(min_length=1)] | Annotated[list[ItemMessage], Meta(min_length=1)]
    answer: Any
    grader: Grader
    id: Annotated[str, Meta(max_length=200)] = ""
    group: Annotated[str, Meta(max_length=200)] = ""
    tools: list[dict[str, Any]] = []


def read_items(path: Path) -> list[QualityItem]:
    """The items of a JSONL file. Raises BadInput that names the line and what is wrong with it."""
    items = list(_lines(path))
    names = [item.id for item in items]
    if not items:
        raise BadInput(f"--items {path}: it has no items: one JSON object per line")
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"--items {path}: the id {twice!r} occurs twice: each item has its own")
    return items


def _lines(path: Path) -> Iterator[QualityItem]:
    decoder = msgspec.json.Decoder(ItemLine)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if len(line) > LONGEST_LINE or number > MOST_ITEMS:
                    raise BadInput(
                        f"--items {path}, line {number}: at most {MOST_ITEMS} lines of "
                        f"{LONGEST_LINE} bytes each: split the file"
                    )
                if line.strip():
                    yield _item_of(decoder.decode(line), number)
    except OSError as error:
        raise BadInput(f"--items {path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"--items {path}, line {number}: {error}: each line is a JSON object with prompt, "
            f"answer and grader ({', '.join(get_args(Grader))})"
        ) from None


def _item_of(line: ItemLine, number: int) -> QualityItem:
    """The item of a line. Raises ValueError for an answer that its grader can't compare."""
    if line.grader == "number":
        Fraction(str(line.answer))
    elif line.grader == "choice" and not re.fullmatch("[A-J]", str(line.answer)):
        raise ValueError(f"answer {line.answer!r} is not a letter from A to J")
    elif line.grader == "calls":
        msgspec.convert(line.answer, list[ExpectedCall])
    elif line.grader in ("exact", "contains") and not str(line.answer).strip():
        raise ValueError("answer is empty")
    prompt = line.prompt
    messages = (ItemMessage("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    return QualityItem(
        id=line.id or f"line-{number}",
        group=line.group,
        messages=messages,
        grader=line.grader,
        expected=line.answer,
        fields={"tools": line.tools} if line.tools else {},
    )


def items_sha256(items: Iterable[QualityItem]) -> str:
    """SHA-256 of items, in hex: of all that is sent, and of what is right."""
    return _digest([(i.id, i.messages, i.fields, i.grader, i.expected) for i in items])


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
