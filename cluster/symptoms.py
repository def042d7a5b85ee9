"""The symptoms that symptoms.toml knows: how a log line shows them, what they mean, the cure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

SYMPTOMS = Path(__file__).with_name("symptoms.toml")

Kind = Literal["engine", "docker"]


class Weight(IntEnum):
    """How much a symptom tells, the most first; symptoms.toml says what each means."""

    CAUSE = 0
    FAILED = 1
    PEER = 2
    CONSEQUENCE = 3
    NOTE = 4


@dataclass(frozen=True)
class Symptom:
    """An entry of symptoms.toml, which explains the fields."""

    key: str
    lines: tuple[re.Pattern[str], ...]
    cause: str
    cure: str
    weight: Weight = Weight.CAUSE
    covers: tuple[str, ...] = ()
    healed_by: re.Pattern[str] | None = None
    examples: tuple[str, ...] = ()

    def match(self, line: str) -> re.Match[str] | None:
        return next((found for p in self.lines if (found := p.search(line))), None)


@cache
def symptoms(kind: Kind) -> tuple[Symptom, ...]:
    """What an engine says, or Docker, in the order of the file."""
    return tuple(_symptom(**entry) for entry in _table()[kind])


@cache
def noise() -> re.Pattern[str]:
    """Matches the lines that look like trouble and are none."""
    return re.compile("|".join(_table()["noise"]))


@cache
def place(key: str) -> int:
    """Where a symptom stands among its kind: the lower, the more telling."""
    return min(
        i
        for kind in ("engine", "docker")
        for i, entry in enumerate(_table()[kind])
        if entry["key"] == key
    )


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(SYMPTOMS.read_text())


def _symptom(
    key: str,
    lines: list[str],
    cause: str,
    cure: str,
    weight: str = "cause",
    covers: Sequence[str] = (),
    healed_by: str | None = None,
    examples: Sequence[str] = (),
) -> Symptom:
    return Symptom(
        key,
        tuple(re.compile(line) for line in lines),
        cause,
        cure,
        Weight[weight.upper()],
        tuple(covers),
        re.compile(healed_by) if healed_by else None,
        tuple(examples),
    )
