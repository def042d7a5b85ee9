"""What SGLang's argument parser would refuse, known before a container is started."""

from __future__ import annotations

from collections.abc import Sequence
from re import fullmatch

from cluster.engine.foreign import counterpart
from cluster.engine.options import RECORDED, Option, matches, near, nearest_recorded, options
from cluster.findings import Finding, error, warning

# A number, or server_args.py's human_readable_int ("16k", "1Mi").
NUMBER = r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|\d+(\.\d+)?([KMGT]i|[kMGT])"
SETTINGS = {"--reasoning-parser": "reasoning_parser", "--tool-call-parser": "tool_call_parser"}

HELP = ("-h", "--help")

Known = dict[str, Option]


def problems(argv: Sequence[str], version: str) -> list[Finding]:
    """What that version's parser would refuse in `argv()`'s words; [] where it accepts them.

    Errors for a recorded version. Any other is held against the nearest recorded one, and what
    that refuses is only a warning. Types are not recorded: of a value only choices, and whether
    it is a number where the default is one or NUMBERS names the option, are checked.
    """
    recorded = nearest_recorded(version)
    sure = version in RECORDED
    title = f"SGLang {version}" if sure else f"SGLang {version}, held against {recorded},"
    words = [w for i, w in enumerate(argv) if i > 0 or w.startswith("-")]
    return [
        (error if sure else warning)(f"{title} {what}", cure=cure)
        for what, cure in _refused(words, options(recorded))
    ]


def _refused(words: list[str], known: Known) -> list[tuple[str, str]]:
    """(what, cure) for every word that argparse would stop at, in their order."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if not _is_option(word, known):
            found.append((f"takes no {word!r} that follows no option", _CURE))
            continue
        names = matches(word, known)
        if len(names) != 1:
            values = words[at : at + _values(words[at:], known, None)]
            found.append(_unclear(word, names, values, known))
            at += len(values)
            continue
        option = known[names[0]]
        given, at = _take(word, words, at, option, known)
        if option.name in HELP:
            found.append(
                (f"prints its options after {word}, and ends", "take it out of extra_args")
            )
        found += _wrong_values(names[0], option, given)
    return found


def arguments(words: Sequence[str], known: Known) -> dict[str, str]:
    """The options that argparse finds in `words`: first spelling → value.

    "" for a flag; several values are joined by spaces; the last of one option counts.
    """
    given: dict[str, str] = {}
    rest, at = list(words), 0
    while at < len(rest):
        word, at = rest[at], at + 1
        names = {known[name].name for name in matches(word, known)} if word[:1] == "-" else set()
        if len(names) == 1:
            option = known[names.pop()]
            values, at = _take(word, rest, at, option, known)
            given[option.name] = " ".join(values)
    return given


_CURE = "correct extra_args in the inventory"


def _take(
    word: str, words: list[str], at: int, option: Option, known: Known
) -> tuple[list[str], int]:
    """The values that an option is given, and where the next word stands."""
    _, equals, value = word.partition("=")
    if equals:
        return [value], at
    end = at + _values(words[at:], known, option.most)
    return words[at:end], end


def _values(words: list[str], known: Known, most: int | None) -> int:
    """How many of the next words are values: up to the next option, at most `most`."""
    count = next((i for i, w in enumerate(words) if _is_option(w, known)), len(words))
    return count if most is None else min(count, most)


def _is_option(word: str, known: Known) -> bool:
    """As argparse tells it: a negative number, or a word with a space in it, is a value."""
    if not word.startswith("-") or word == "-":
        return False
    if matches(word, known):
        return True
    return not fullmatch(r"-\d+|-\d*\.\d+", word) and " " not in word


def _unclear(word: str, names: list[str], values: list[str], known: Known) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if foreign := counterpart(name, value if equals else " ".join(values)):
        engine, advice = foreign
        return f"does not know {name}, an option of {engine}", advice
    if names:
        what = f"can't tell what {name} abbreviates: {' or '.join(sorted(names)[:6])}"
    else:
        what = f"does not know {name}{near(name, known)}"
    return what, _CURE


def _wrong_values(name: str, option: Option, given: list[str]) -> list[tuple[str, str]]:
    if option.most == 0 and given:
        return [(f"takes no value for {name}, {given[0]!r} was given", _CURE)]
    if len(given) < option.least:
        return [(f"wants a value after {name}", _CURE)]
    return [
        wrong for check in (_choice, _number) for v in given if (wrong := check(name, option, v))
    ]


def _choice(name: str, option: Option, value: str) -> tuple[str, str] | None:
    if not option.choices or value in option.choices:
        return None
    allowed = ", ".join(sorted(option.choices))
    return f"has no {name} {value!r}{near(value, option.choices)} (it has {allowed})", _cure(option)


def _number(name: str, option: Option, value: str) -> tuple[str, str] | None:
    if not option.number or option.choices or fullmatch(NUMBER, value):
        return None
    return f"wants a number after {name}, {value!r} was given", _CURE


def _cure(option: Option) -> str:
    setting = next((SETTINGS[n] for n in option.names if n in SETTINGS), "")
    return f"--data {setting}=auto, or one of these names" if setting else _CURE
