"""Profiles: how much load, of what shape; which values are allowed; and the profiles by name, our
own and those in the user's files."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean

# How "no limit" is written, since leaving the key out would keep the profile's limit.
NO_LIMIT = {"request_rate": "inf", "concurrency": "none"}
# All of a load's prompts are made before it starts and stay in memory: this many take gigabytes.
MOST = 1_000_000
_MOST = f"must be {MOST} at most; to measure for longer, give --repeat"
_WHOLE = "must be a whole number, 1 or more"
_RATE = 'must be a number of requests per second above 0, or "inf" for as fast as possible'
_SLOTS = 'must be a whole number, 1 or more, or "none" for no limit'


class Refusal(NamedTuple):
    """Why a profile is invalid: the field, its value, and what is allowed, with the cure."""

    field: str
    value: object
    why: str


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much load, of what shape.

    num_prompts: requests in all
    input_len, output_len: tokens of each prompt and of each answer
    request_rate: requests per second, on average; None: as fast as the slots allow
    concurrency: requests in flight at most; None: no limit
    use: what it is good for, a sentence
    long_every: one prompt in this many is long; None: all are alike
    long_input_len, long_output_len: tokens of each long prompt and of its answer

    Raises BadInput for values that no run can have.
    """

    name: str
    num_prompts: int
    input_len: int
    output_len: int
    request_rate: float | None = None
    concurrency: int | None = None
    use: str = ""
    long_every: int | None = None
    long_input_len: int | None = None
    long_output_len: int | None = None

    def __post_init__(self) -> None:
        if refusal := profile_problem(msgspec.structs.asdict(self)):
            raise BadInput(_sentence(f"profile {self.name!r}, {refusal.field}", refusal))

    def with_(
        self,
        *,
        num_prompts: int | None = None,
        input_len: int | None = None,
        output_len: int | None = None,
        request_rate: float | str | None = None,
        concurrency: int | str | None = None,
    ) -> Profile:
        """This profile with the given fields replaced; None keeps a field as it is.

        request_rate "inf" (or infinity) and concurrency "none" lift the limit; other text is read
        as a number. Raises BadInput, naming the option, if the resulting profile is invalid.
        """
        given = {
            "num_prompts": num_prompts,
            "input_len": input_len,
            "output_len": output_len,
            "request_rate": _number(request_rate, float),
            "concurrency": _number(concurrency, int),
        }
        given = {field: value for field, value in given.items() if value is not None}
        values = msgspec.structs.asdict(self) | lifted(given)
        if refusal := profile_problem(values):
            raise BadInput(_sentence(self._place(refusal.field, given), refusal))
        return Profile(**values)

    def _place(self, field: str, given: Mapping[str, object]) -> str:
        return option(field) if field in given else f"profile {self.name!r}, {field}"


def is_long(number: int, every: int | None) -> bool:
    """Whether the prompt of this number, from 0, is a long one. every: see Profile.long_every"""
    return bool(every) and (number + 1) % (every or 1) == 0


def option(field: str) -> str:
    """The option that sets a field.

    >>> option("num_prompts")
    '--num-prompts'
    """
    return "--" + field.replace("_", "-")


def lifted(values: Mapping[str, object]) -> dict[str, object]:
    """The values with "inf" and "none" replaced by None, which means no limit."""
    cleared = dict(values)
    for field, no_limit in NO_LIMIT.items():
        if values.get(field) == no_limit:
            cleared[field] = None
    if values.get("request_rate") == math.inf:
        cleared["request_rate"] = None
    return cleared


def profile_problem(values: Mapping[str, object]) -> Refusal | None:
    """The first thing that is wrong with a profile's values; None if they are valid."""
    for field in ("num_prompts", "input_len", "output_len"):
        if not _is_whole(values[field]):
            return Refusal(field, values[field], _WHOLE)
    if values["num_prompts"] > MOST:  # type: ignore[operator]
        return Refusal("num_prompts", values["num_prompts"], _MOST)
    if not isinstance(values.get("use", ""), str):
        return Refusal("use", values["use"], "must be a sentence")
    rate, slots = values.get("request_rate"), values.get("concurrency")
    is_number = type(rate) in (int, float)
    if rate is not None and not (is_number and 0 < rate < math.inf):  # type: ignore[operator]
        return Refusal("request_rate", rate, _RATE)
    if slots is not None and not _is_whole(slots):
        return Refusal("concurrency", slots, _SLOTS)
    if refusal := _long_problem(values):
        return refusal
    prompts = values["num_prompts"]
    if isinstance(slots, int) and isinstance(prompts, int) and slots > prompts:
        # The run could never reach that concurrency.
        why = (
            f"must be at most the number of prompts ({prompts}): lower it (--concurrency),"
            f" or raise num_prompts (--num-prompts) to {slots}"
        )
        return Refusal("concurrency", slots, why)
    return None


_LONG = ("long_every", "long_input_len", "long_output_len")


def _long_problem(values: Mapping[str, Any]) -> Refusal | None:
    """The first thing that is wrong with long prompts; None if they are valid, or none are sent."""
    given = [field for field in _LONG if values.get(field) is not None]
    for field in given:
        if not _is_whole(values[field]):
            return Refusal(field, values[field], _WHOLE)
    if given and len(given) < len(_LONG):
        lacking = ", ".join(field for field in _LONG if field not in given)
        return Refusal(given[0], values[given[0]], f"needs {lacking} beside it")
    if not given:
        return None
    every, length = values["long_every"], values["long_input_len"]
    if length <= values["input_len"]:
        why = f"must be more than input_len, which is {values['input_len']}"
        return Refusal("long_input_len", length, why)
    if not 1 < every <= values["num_prompts"]:
        prompts = values["num_prompts"]
        why = f"must be from 2 to the number of prompts ({prompts}): lower it, or raise num_prompts"
        return Refusal("long_every", every, why)
    return None


def _sentence(place: str, refusal: Refusal) -> str:
    return f"{place}: {refusal.value!r} is not allowed; it {refusal.why}"


def _number(value: object, kind: Callable[[str], object]) -> object:
    """Text as a number if it is one; anything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return kind(value)
    except ValueError:
        return value


def _is_whole(value: object) -> bool:
    return type(value) is int and value >= 1


_OURS = Path(__file__).with_name("profiles.toml")
# A profile's name is the name of its table.
_KEYS = tuple(field for field in Profile.__struct_fields__ if field != "name")
_NEEDED = ("num_prompts", "input_len", "output_len")


def user_file() -> Path:
    """The path of the user's own profiles, whether the file exists or not.

    By the XDG base directory specification: in $XDG_CONFIG_HOME if that is an absolute path, else
    in ~/.config.
    """
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    home = configured if configured.is_absolute() else Path("~/.config").expanduser()
    return home / "spark-bench" / "profiles.toml"


def profile_catalog(files: Sequence[Path] = ()) -> dict[str, Profile]:
    """Every profile by its name: ours, those of `user_file()`, then those of `files`.

    If several have the same name, the last one counts. Raises BadInput for a file that can't be
    read, and for a profile with a wrong, missing or unknown key.
    """
    profiles: dict[str, Profile] = {}
    own = [user_file()] if user_file().is_file() else []
    for file in [_OURS, *own, *files]:
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{file}: can't be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{file}: is not TOML: {error}") from error
        except RecursionError as error:
            raise BadInput(f"{file}: is nested more deeply than any profile") from error
        profiles |= {name: _profile(file, name, table) for name, table in tables.items()}
    return profiles


def find_profile(name: str, files: Sequence[Path] = ()) -> Profile:
    """The profile of that name. Raises BadInput, with similar names and the list, if there is none,
    and where `profile_catalog` does."""
    profiles = profile_catalog(files)
    if name not in profiles:
        hint, names = did_you_mean(name.lower(), list(profiles)), ", ".join(profiles)
        raise BadInput(f"profile {name!r} is not known{hint}; there are: {names}")
    return profiles[name]


def _profile(file: Path, name: str, table: object) -> Profile:
    place = f"{file}, profile {name!r}"
    if not isinstance(table, dict):
        raise BadInput(f"{file}, key {name!r}: is outside of a profile; put it below a [NAME]")
    for key in table:
        if key not in _KEYS:
            keys = ", ".join(_KEYS)
            near = did_you_mean(key.lower(), _KEYS)
            raise BadInput(f"{place}, key {key!r}: is not known{near}; allowed are: {keys}")
    if missing := [key for key in _NEEDED if key not in table]:
        raise BadInput(f"{place}: lacks {', '.join(missing)}; set each to a whole number")
    values = lifted(table)
    if refusal := profile_problem(values):
        key, value, why = refusal
        raise BadInput(f"{place}, key {key!r}: {value!r} is not allowed; it {why}")
    return Profile(name, **values)  # type: ignore[arg-type]
