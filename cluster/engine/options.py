"""Which options SGLang's argument parser has, as recorded from its releases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from cluster.engine.versions import version_key

HERE = Path(__file__).parent
# One file each: first option string -> [option strings, repr(default), choices or null, nargs],
# written by tests/sglang/check_parser.py --record.
RECORDED = ("0.5.3.post3", "0.5.23")
# Numbers of server_args.py whose default, None, does not tell.
NUMBERS = frozenset(
    (
        *("--context-length", "--mem-fraction-static", "--max-running-requests"),
        *("--max-queued-requests", "--max-total-tokens", "--chunked-prefill-size"),
        *("--page-size", "--random-seed", "--dist-timeout"),
        *("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode", "--cuda-graph-max-bs-prefill"),
        *("--speculative-num-steps", "--speculative-eagle-topk", "--speculative-num-draft-tokens"),
    )
)


@dataclass(frozen=True)
class Option:
    """One option of the parser.

    + names: every spelling ("--model-path", "--model")
    + number: its value is a number, as far as its default or NUMBERS tells
    + default: as Python prints it ("None", "1", "'auto'")
    + choices: what its value may be; empty where anything goes
    + nargs: how many values: None one, 0 a flag, "?" "*" "+" as argparse has them
    """

    names: tuple[str, ...]
    number: bool
    choices: tuple[str, ...]
    nargs: int | str | None
    default: str = "None"

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def least(self) -> int:
        return 1 if self.nargs in (None, "+") else 0

    @property
    def most(self) -> int | None:
        """Values it takes at most; None: all that follow."""
        return {None: 1, "?": 1, 0: 0}.get(self.nargs)


@cache
def options(version: str) -> dict[str, Option]:
    """Every option string of a recorded version, with its option."""
    table = json.loads((HERE / f"options-{version}.json").read_text())
    known: dict[str, Option] = {}
    for names, default, choices, nargs in table.values():
        plain = default.replace(".", "", 1).lstrip("-").isdigit() or names[0] in NUMBERS
        number = nargs is None and plain
        known |= dict.fromkeys(
            names, Option(tuple(names), number, tuple(choices or ()), nargs, default)
        )
    return known


def nearest_recorded(version: str) -> str:
    """The recorded version whose options another version's most likely are: the closest release."""
    return min(RECORDED, key=lambda recorded: abs(_place(recorded) - _place(version)))


def _place(version: str) -> int:
    """A release on a line, to measure distances: 0.5.23 is 5023."""
    major, minor, patch, *_ = *version_key(version)[0], 0, 0
    return (major * 1000 + minor) * 1000 + patch


def matches(word: str, known: dict[str, Option]) -> list[str]:
    """The option strings that argparse takes `word` for: itself, or all that it abbreviates."""
    name = word.partition("=")[0]
    if name in known:
        return [name]
    return [o for o in known if o.startswith(name)] if name.startswith("--") else []


def same(word: str, known: dict[str, Option]) -> str:
    """The first spelling of the option that `word` names or abbreviates; `word` if it is none."""
    found = {known[o].name for o in matches(word, known)}
    return found.pop() if len(found) == 1 else word.partition("=")[0]


def near(word: str, known: dict[str, Option] | tuple[str, ...]) -> str:
    """ "; did you mean a or b?", or "" where nothing is near."""
    found = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""
