"""The profiles that can be named: ours, and those of the user's files."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.load.profile import Profile, lifted, refused

__all__ = ["Profile", "catalogue", "find", "user_file"]

_OURS = Path(__file__).with_name("profiles.toml")
# A profile's name is the name of its table.
_KEYS = tuple(field for field in Profile.__struct_fields__ if field != "name")
_NEEDED = ("num_prompts", "input_len", "output_len")


def user_file() -> Path:
    """Where a user's own profiles are looked for, there or not.

    The XDG base directory specification: $XDG_CONFIG_HOME if it is an absolute path.
    """
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    home = configured if configured.is_absolute() else Path("~/.config").expanduser()
    return home / "spark-bench" / "profiles.toml"


def catalogue(files: Sequence[Path] = ()) -> dict[str, Profile]:
    """Every profile by its name: ours, those of `user_file()`, then those of `files`.

    Of two with one name the later counts. Raises BadInput for a file that can't be read, and for
    a profile with a wrong, missing or unknown key.
    """
    own = [user_file()] if user_file().is_file() else []
    return {profile.name: profile for file in [_OURS, *own, *files] for profile in _profiles(file)}


def find(name: str, files: Sequence[Path] = ()) -> Profile:
    """The profile of that name. Raises BadInput with the nearest names and the list."""
    known = catalogue(files)
    if name not in known:
        hint, names = did_you_mean(name.lower(), list(known)), ", ".join(known)
        raise BadInput(f"profile {name!r} is not known{hint}; there are: {names}")
    return known[name]


def _profiles(file: Path) -> list[Profile]:
    return [_profile(file, name, table) for name, table in _read(file).items()]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{file}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: is not TOML: {error}") from error
    except RecursionError as error:
        raise BadInput(f"{file}: is nested more deeply than any profile") from error


def _profile(file: Path, name: str, table: object) -> Profile:
    place = f"{file}, profile {name!r}"
    if not isinstance(table, dict):
        raise BadInput(f"{file}, key {name!r}: stands outside of a profile; put it below a [NAME]")
    for key in table:
        if key not in _KEYS:
            keys = ", ".join(_KEYS)
            near = did_you_mean(key.lower(), _KEYS)
            raise BadInput(f"{place}, key {key!r}: is not known{near}; allowed are: {keys}")
    if missing := [key for key in _NEEDED if key not in table]:
        raise BadInput(f"{place}: lacks {', '.join(missing)}; set each to a whole number")
    values = lifted(table)
    if refusal := refused(values):
        key, value, why = refusal
        raise BadInput(f"{place}, key {key!r}: {value!r} is not allowed; it {why}")
    return Profile(name, **values)  # type: ignore[arg-type]
