"""SGLang's options as recorded from its releases, and what its argument parser would refuse."""

import json
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from re import fullmatch
from typing import Any, NoReturn

from cluster.engine.foreign import counterpart
from cluster.engine.versions import names_release, parse_version
from cluster.findings import Finding, did_you_mean, error, warning

HERE = Path(__file__).parent
# One file each, options-VERSION.json, written by tests/sglang/check_parser.py --record. Those of
# the newest are whole; every other file says what is different there.
RECORDED = ("0.5.3.post3", "0.5.11", "0.5.17", "0.5.19", "0.5.21", "0.5.23")
NEWEST = RECORDED[-1]
# Options of server_args.py that take a number, though their default is None.
NUMBERS = frozenset(
    (
        *("--context-length", "--mem-fraction-static", "--max-running-requests"),
        *("--max-queued-requests", "--max-total-tokens", "--chunked-prefill-size"),
        *("--page-size", "--random-seed", "--dist-timeout"),
        *("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode", "--cuda-graph-max-bs-prefill"),
        *("--speculative-num-steps", "--speculative-eagle-topk", "--speculative-num-draft-tokens"),
    )
)
# A number, or server_args.py's human_readable_int ("16k", "1Mi").
NUMBER = r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|\d+(\.\d+)?([KMGT]i|[kMGT])"
ALGORITHM = "--speculative-algorithm"
# Its values, which the parser takes any of from 0.5.17 on; in any case. SpeculativeAlgorithm in
# speculative/spec_info.py, and NEXTN in spec_registry.py, of the recorded releases. A plugin's own
# are not among them.
ALGORITHMS = (
    "DFLASH",
    "DSPARK",
    "EAGLE",
    "EAGLE3",
    "FROZEN_KV_MTP",
    "NEXTN",
    "NGRAM",
    "STANDALONE",
)
# First release that is known to have it.
LATER_ALGORITHMS = {"UNO": "0.5.21"}
SETTINGS = {"--reasoning-parser": "reasoning_parser", "--tool-call-parser": "tool_call_parser"}
HELP = ("-h", "--help")
CURE = "correct extra_args in the inventory"


@dataclass(frozen=True)
class Option:
    """One option of the parser.

    + names: every spelling ("--model-path", "--model")
    + number: its value is a number, by its default or by NUMBERS
    + default: as Python prints it ("None", "1", "'auto'")
    + choices: what its value may be; empty where anything goes
    + nargs: how many values, as argparse has it: None one, 0 a flag, "?" "*" "+"
    + any_case: the choices may be in small letters too
    """

    names: tuple[str, ...]
    number: bool
    choices: tuple[str, ...]
    nargs: int | str | None
    default: str = "None"
    any_case: bool = False

    @property
    def name(self) -> str:
        return self.names[0]


Options = Mapping[str, Option]
# First option string → [option strings, repr(default), choices or None, nargs].
Table = dict[str, list[Any]]


def nearest_recorded(version: str) -> str:
    """The recorded release whose options are most likely those of this version; the newest where
    it names no release: the images that don't are newer than most."""

    def position(version: str) -> int:
        """A release on a line, to measure distances: 0.5.23 is 5023."""
        major, minor, patch, *_ = *parse_version(version).release, 0, 0
        return (major * 1000 + minor) * 1000 + patch

    if not names_release(version):
        return NEWEST
    return min(RECORDED, key=lambda recorded: abs(position(recorded) - position(version)))


def options_of(version: str) -> Options:
    """Every spelling of every option of a version, or of the release recorded nearest to it."""
    return _recorded_options(nearest_recorded(version))


def recorded_table(release: str) -> Table:
    """A recorded release's options, as argparse has them."""
    table: Table = {}
    for version in dict.fromkeys((NEWEST, release)):
        table |= json.loads((HERE / f"options-{version}.json").read_text())
    return {name: row for name, row in table.items() if row is not None}


@cache
def _recorded_options(release: str) -> Options:
    options: dict[str, Option] = {}
    for names, default, choices, nargs in recorded_table(release).values():
        plain = default.replace(".", "", 1).lstrip("-").isdigit() or names[0] in NUMBERS
        number = nargs is None and plain
        ours = names[0] == ALGORITHM and not choices
        if ours:
            choices = algorithms(release)
        option = Option(tuple(names), number, tuple(choices or ()), nargs, default, ours)
        options |= dict.fromkeys(names, option)
    return options


def algorithms(release: str) -> list[str]:
    """The names of speculative decoding that a release from 0.5.17 on knows."""
    own = parse_version(release)
    later = [name for name, since in LATER_ALGORITHMS.items() if parse_version(since) <= own]
    return sorted((*ALGORITHMS, *later))


def matching_names(argument: str, options: Options) -> list[str]:
    """The spellings that argparse takes an argument for: itself, or all that it abbreviates."""
    name = argument.partition("=")[0]
    if name in options:
        return [name]
    return [o for o in options if o.startswith(name)] if name.startswith("--") else []


def canonical_name(argument: str, options: Options) -> str:
    """The first spelling of the option that an argument names or abbreviates; itself if none."""
    names = {options[name].name for name in matching_names(argument, options)}
    return names.pop() if len(names) == 1 else argument.partition("=")[0]


class _Rejected(Exception):
    """What the parser refuses, and the cure."""


class _Parser(ArgumentParser):
    """SGLang's parser, as far as its options are recorded; raises _Rejected where it would exit."""

    def error(self, message: str) -> NoReturn:
        message, _, names = message.partition(" could match ")
        if names:
            message += f" could match {', '.join(names.split(', ')[:6])}"
        raise _Rejected(f"would stop: {message}", CURE)


@cache
def _parser(release: str, *, checks_values: bool) -> _Parser:
    """SGLang's parser in this release.

    + checks_values: refuse what is not a choice or not a number; other types are not recorded
    """
    parser = _Parser(add_help=False, argument_default=SUPPRESS)
    for option in dict.fromkeys(_recorded_options(release).values()):
        how: dict[str, Any] = {"nargs": option.nargs}
        if option.nargs == 0:
            how = {"action": "store_true", "default": SUPPRESS}
        elif checks_values:
            how["type"] = partial(_checked, option)
        parser.add_argument(*option.names, dest=option.name, **how)
    return parser


@lru_cache(4096)  # ranks have most of their arguments in common, and a parser has 600 options
def _parsed(
    part: tuple[str, ...], release: str, *, checks_values: bool
) -> tuple[Namespace, list[str]]:
    """What the parser takes from a part of a command line, and what is left; _Rejected."""
    return _parser(release, checks_values=checks_values).parse_known_args(part)


def _checked(option: Option, value: str) -> str:
    name = next((name for name in option.names if name in SETTINGS), option.name)
    spelled = value.upper() if option.any_case else value
    if option.choices and spelled not in option.choices:
        hint, choices = did_you_mean(value, option.choices), ", ".join(sorted(option.choices))
        setting = SETTINGS.get(name)
        cure = f"--data {setting}=auto, or one of these names" if setting else CURE
        raise _Rejected(f"has no {name} {value!r}{hint} (it has {choices})", cure)
    if option.number and not option.choices and not fullmatch(NUMBER, value):
        raise _Rejected(f"needs a number after {name}, not {value!r}", CURE)
    return value


def parse_options(arguments: Sequence[str], version: str) -> dict[str, str]:
    """The options in a command line: first spelling → value, whether it is allowed or not.

    "" for a flag; several values are joined by spaces; the last of one option counts.
    """
    release, options = nearest_recorded(version), options_of(version)
    given: dict[str, str] = {}
    for part in _parts(arguments, options):
        try:
            namespace, _ = _parsed(tuple(part), release, checks_values=False)
        except _Rejected:
            _, equals, value = part[0].partition("=")
            name, rest = canonical_name(part[0], options), part[1:]
            given |= {name: " ".join([value] * bool(equals) + rest)} if name in options else {}
            continue
        for name, value in vars(namespace).items():
            given[name] = " ".join(value) if isinstance(value, list) else ""
            if isinstance(value, str):
                given[name] = value
    return given


def check_arguments(argv: Sequence[str], version: str, named: Sequence[str] = ()) -> list[Finding]:
    """Everything that this version's parser would refuse in `argv()`'s arguments; [] if nothing.

    Errors for a recorded version. Any other is compared with the nearest recorded one, and what
    that would refuse is only a warning.

    + named: options, each with its values, that the image is known to take all the same
    """
    release = nearest_recorded(version)
    certain = version in RECORDED
    title = f"SGLang {version}" if certain else f"SGLang {version}, compared with {release},"
    if not names_release(version):
        title = f"SGLang of an unknown release, compared with {release},"
    arguments = [a for i, a in enumerate(argv) if i > 0 or a.startswith("-")]
    options = options_of(version)
    refusals: list[tuple[str, str]] = []
    taken = _parts(named, options)
    for part in (part for part in _parts(arguments, options) if part not in taken):
        try:
            namespace, extras = _parsed(tuple(part), release, checks_values=True)
        except _Rejected as rejected:
            refusals.append(_foreign(part, options) or rejected.args)
            continue
        if any(name in vars(namespace) for name in HELP):
            what = f"prints its options after {part[0]}, and exits"
            refusals.append((what, "take it out of extra_args"))
        if extras and extras[0] == part[0] and part[0].startswith("-"):
            name = part[0].partition("=")[0]
            unknown = f"does not know {name}{did_you_mean(name, options)}", CURE
            refusals.append(_foreign(part, options) or unknown)
        else:
            refusals += [(f"takes no {extra!r} that follows no option", CURE) for extra in extras]
    level = error if certain else warning
    return [level(f"{title} {what}", cure=cure, key="arguments") for what, cure in refusals]


def _parts(arguments: Sequence[str], options: Options) -> list[list[str]]:
    """A command line cut before each option: each part is parsed alone, so that one error does not
    hide the next."""
    parts: list[list[str]] = []
    for argument in arguments:
        # As argparse decides: a negative number, or a text with a space in it, is a value.
        number = fullmatch(r"-|-\d+|-\d*\.\d+", argument)
        value = not argument.startswith("-") or number or " " in argument
        if not parts or not value or matching_names(argument, options):
            parts.append([])
        parts[-1].append(argument)
    return parts


def _foreign(part: Sequence[str], options: Options) -> tuple[str, str] | None:
    """The refusal of another engine's option, with what means the same here."""
    name, equals, value = part[0].partition("=")
    foreign = counterpart(name, value if equals else " ".join(part[1:]))
    if name in options or not foreign:
        return None
    return f"does not know {name}, an option of {foreign[0]}", foreign[1]
