"""Options that SGLang requires together: what a launch line needs besides what is declared."""

from __future__ import annotations

import re
import tomllib
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster import command, findings
from cluster.engine.options import Options, options_of, parse_options
from cluster.engine.versions import names_release, parse_version

PAIRS = Path(__file__).with_name("pairs.toml")
READ = ("0.5.3.post3", "0.5.11", "0.5.17", "0.5.19", "0.5.20", "0.5.21", "0.5.22", "0.5.23")
"""The versions whose argument handling pairs.toml was read in."""
CONDITION = re.compile(
    r"(?P<contrary>not )?(?P<option>--[\w-]+)(?: (?P<sign>>|<|==|!=|in|%) (?P<other>\S+))?"
)


@dataclass(frozen=True)
class Condition:
    """One condition of pairs.toml, which explains the signs."""

    contrary: bool
    option: str
    sign: str
    other: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        parsed = CONDITION.fullmatch(text)
        if not parsed:
            raise ValueError(f"pairs.toml: {text!r} is not a condition")
        contrary, option, sign, other = parsed.groups()
        return cls(bool(contrary), option, sign or "", other or "")

    def holds(self, given: Mapping[str, str], options: Options) -> bool:
        """Whether the condition is met.

        + given: first spelling of each given option → its value, "" for a flag
        """
        return self._plain(given, options) is not self.contrary

    def _plain(self, given: Mapping[str, str], options: Options) -> bool:
        if not self.sign:
            return self.option in options and options[self.option].name in given
        own = _value(self.option, given, options)
        other = _value(self.other, given, options) if self.other.startswith("--") else self.other
        if self.sign in ("==", "!="):
            return (own == other) is (self.sign == "==")
        if self.sign == "in":
            return own in other.split(",")
        left, right = _number(own), _number(other)
        if left is None or right is None:
            return False
        if self.sign == "%":
            return right != 0 and left % right != 0
        return left > right if self.sign == ">" else left < right


@dataclass(frozen=True)
class Pair:
    """An entry of pairs.toml, which explains the fields; in each group of `when`, one must hold."""

    when: tuple[tuple[Condition, ...], ...]
    add: command.Argv
    says: str
    cure: str
    since: str = ""
    before: str = ""

    def applies(self, version: str) -> bool:
        """Whether this version asserts it; where it names no release, the newest that was read."""
        version = version if names_release(version) else READ[-1]
        late = not self.since or parse_version(version) >= parse_version(self.since)
        return late and (not self.before or parse_version(version) < parse_version(self.before))

    def holds(self, given: Mapping[str, str], options: Options) -> bool:
        return all(any(c.holds(given, options) for c in either) for either in self.when)


def required_arguments(words: Sequence[str], version: str) -> command.Argv:
    """The arguments that this version requires with those of a launch line, except for options it
    already has."""
    options, given = options_of(version), parse_options(words, version)
    added: list[str] = []
    for pair in _pairs():
        new = pair.add and pair.add[0] in options and options[pair.add[0]].name not in given
        if new and pair.applies(version) and pair.holds(given, options):
            added += pair.add
            given |= parse_options(pair.add, version)
    return tuple(added)


def check_pairs(words: Sequence[str], version: str) -> list[findings.Finding]:
    """What this version's argument handling would refuse in a launch line that its parser takes.

    Errors for the versions that were read; for any other, what the nearest of them would do is a
    warning.
    """
    options = options_of(version)
    given = parse_options(words, version)
    level = findings.error if version in READ else findings.warning
    return [
        level(
            f"SGLang {version} would not start: {pair.says}",
            cure=pair.cure,
            key="arguments-at-odds",
        )
        for pair in _pairs()
        if pair.applies(version) and pair.holds(given, options)
    ]


def _value(option: str, given: Mapping[str, str], options: Options) -> str:
    """Its value as a word: the given one, else the parser's default; "" for none."""
    if option not in options:
        return ""
    if (name := options[option].name) in given:
        return given[name]
    try:
        default = literal_eval(options[option].default)
    except (SyntaxError, ValueError):
        return ""
    return "" if default is None else str(default)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


@cache
def _pairs() -> tuple[Pair, ...]:
    table = tomllib.loads(PAIRS.read_text())["pairs"]
    return tuple(
        Pair(
            when=tuple(
                tuple(map(Condition.parse, either.split(" | "))) for either in entry["when"]
            ),
            add=tuple(entry.get("add", ())),
            says=entry["says"],
            cure=entry["cure"],
            since=entry.get("since", ""),
            before=entry.get("before", ""),
        )
        for entry in table
    )
