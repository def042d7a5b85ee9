"""The symptoms that symptoms.toml lists: how a log line shows them, what they mean, the cure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

SYMPTOMS = Path(__file__).with_name("symptoms.toml")

Kind = Literal["engine", "docker"]


class Weight(IntEnum):
    """How significant a symptom is, the most first; symptoms.toml explains each."""

    CAUSE = 0
    FAILED = 1
    PEER = 2
    CONSEQUENCE = 3
    NOTE = 4


# The parts of a regular expression: an escaped sign, a class (\d), a set, a count, anything else.
PARTS = re.compile(
    r"\\(?P<sign>[^a-zA-Z0-9])|\\\w|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<count>\{[\d,]+\})|(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Expression:
    """A regular expression, and a text that every match of it contains ("" if there is none).

    A line without that text is not searched: `in` is a hundred times faster.
    """

    pattern: re.Pattern[str]
    text: str

    def search(self, line: str) -> re.Match[str] | None:
        return self.pattern.search(line) if self.text in line else None


@dataclass(frozen=True)
class Symptom:
    """An entry of symptoms.toml, which explains the fields."""

    key: str
    lines: tuple[Expression, ...]
    cause: str
    cure: str
    weight: Weight = Weight.CAUSE
    covers: tuple[str, ...] = ()
    healed_by: Expression | None = None
    shown_by: Expression | None = None
    needs: str = ""
    examples: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()

    def within(self, text: str) -> Symptom | None:
        """The symptom with only those of its lines that can match in a text; None if none can."""
        lines = tuple(e for e in self.lines if e.text in text)
        return replace(self, lines=lines) if lines else None

    def match(self, line: str) -> re.Match[str] | None:
        return next((match for e in self.lines if (match := e.search(line))), None)


def expression(text: str) -> Expression:
    """The regular expression, with the longest text that every match must contain; "" if none is
    certain."""
    depth, texts = 0, [""]
    for part in PARTS.finditer(text):
        sign, other = part["sign"], part["other"]
        if depth == 0 and other == "|":
            texts = [""]
            break
        depth += {"(": 1, ")": -1}.get(other, 0)
        if part["count"] or other in ("?", "*"):
            texts[-1] = texts[-1][:-1]
        literal = sign or (other if other and other not in "()|?*+.^$" else "")
        if depth == 0 and literal:
            texts[-1] += literal
        elif texts[-1]:
            texts.append("")
    return Expression(re.compile(text), max(texts, key=len))


@cache
def symptoms(kind: Kind) -> tuple[Symptom, ...]:
    """The symptoms of an engine's log, or of Docker's output, in the order of the file."""
    return tuple(
        Symptom(
            key=entry["key"],
            lines=tuple(map(expression, entry["lines"])),
            cause=entry["cause"],
            cure=entry["cure"],
            weight=Weight[entry.get("weight", "cause").upper()],
            covers=tuple(entry.get("covers", ())),
            healed_by=expression(entry["healed_by"]) if "healed_by" in entry else None,
            shown_by=expression(entry["shown_by"]) if "shown_by" in entry else None,
            needs=entry.get("needs", ""),
            examples=tuple(entry.get("examples", ())),
            quoted=tuple(entry.get("quoted", ())),
        )
        for entry in _table()[kind]
    )


def explanation(key: str) -> tuple[str, str]:
    """Cause and cure of a symptom of an engine's log that names nothing from its line."""
    entry = next(entry for entry in _table()["engine"] if entry["key"] == key)
    return entry["cause"].format(), entry["cure"].format()


@cache
def noise() -> tuple[Expression, ...]:
    """Match lines that look like trouble and are harmless."""
    return tuple(map(expression, _table()["noise"]))


def harmless() -> tuple[str, ...]:
    """Lines that look like trouble and show no symptom."""
    return tuple(_table()["harmless"])


@cache
def mentions() -> tuple[Expression, ...]:
    """Match lines that show nothing wrong; their named groups are words for a cause or a cure."""
    return tuple(map(expression, _table()["mentions"]))


@cache
def position(key: str) -> int:
    """A symptom's position among its kind: lower is more significant."""
    return min(
        i
        for kind in ("engine", "docker")
        for i, entry in enumerate(_table()[kind])
        if entry["key"] == key
    )


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(SYMPTOMS.read_text())
