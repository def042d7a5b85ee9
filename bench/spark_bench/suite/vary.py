"""Variants: settings of the project that are tried one after the other."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from spark_bench.errors import BadInput
from spark_bench.suite.asked import Settings

# What people who know SGLang call them.
SHORT = {"tp": "tensor_parallel", "pp": "pipeline_parallel"}
# What `all` decides itself.
OWN = {
    "model": "--models chooses the models",
    "state": "it must be running to be measured",
}
# More is a mistake, or a matter of days.
MOST = 1000


def variants(vary: Sequence[str], matrix: Path | None) -> tuple[Settings, ...]:
    """Every combination of the --vary options, or those of a file; ({},) where nothing varies.

    BadInput for what is no such option or file.
    """
    if vary and matrix:
        raise BadInput("--vary doesn't go with --matrix: put it into the file's [vary]")
    if matrix:
        return _of_file(matrix)
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, values = _axis(text)
        if name in axes:
            raise BadInput(f"--vary {text}: {name} is varied already; list all its values in one")
        axes[name] = values
    return _combined(axes, "--vary")


def label(settings: Mapping[str, Any]) -> str:
    """A variant in words, with short names.

    >>> label({"tensor_parallel": 2, "mem_fraction": 0.8, "disable_cuda_graph": True})
    'tp=2 mem_fraction=0.8 disable_cuda_graph=true'
    """
    back = {long: short for short, long in SHORT.items()}
    return " ".join(f"{back.get(name, name)}={said(value)}" for name, value in settings.items())


def said(value: Any) -> str:
    """A value as --data takes it: words as they are, unless they would be read as something else.

    >>> said(True), said(0.8), said("auto"), said("1.10"), said({"A": "b"})
    ('true', '0.8', 'auto', '"1.10"', '{"A": "b"}')
    """
    if isinstance(value, str) and not _is_json(value):
        return value
    return json.dumps(value)


def _is_json(text: str) -> bool:
    # pyinfra reads True and None as Python's as well.
    if text.lower() in ("true", "false", "none", "null", ""):
        return True
    try:
        json.loads(text)
    except ValueError:
        return text.startswith(("{", "[", '"'))
    return True


def _axis(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    found = [_value(word.strip()) for word in values.split(",") if word.strip()]
    if not equals or not name.strip() or not found:
        raise BadInput(
            f"--vary {text}: is not NAME=VALUE,VALUE …, such as tp=1,2 or mem_fraction=0.80,0.85"
        )
    return _name(name.strip(), f"--vary {text}"), found


def _name(name: str, place: str) -> str:
    if name in OWN:
        raise BadInput(f"{place}: {name} can't vary: {OWN[name]}")
    return SHORT.get(name, name)


def _value(text: str) -> Any:
    """A number, true or false, else the words themselves."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _combined(axes: Mapping[str, Sequence[Any]], place: str) -> tuple[Settings, ...]:
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST:
        raise BadInput(f"{place}: {count} combinations are more than {MOST}: vary less at once")
    return _once(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def _once(settings: Iterable[Settings]) -> tuple[Settings, ...]:
    """Each once: 0.8 and 0.80 are the same."""
    return tuple({json.dumps(each, sort_keys=True): each for each in settings}.values())


def _of_file(file: Path) -> tuple[Settings, ...]:
    """[vary] NAME = [VALUES], and [[variant]] tables of settings, one a variant."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"--matrix {file}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"--matrix {file}: is not TOML: {error}") from None
    place = f"--matrix {file}"
    if strange := table.keys() - {"vary", "variant"}:
        raise BadInput(
            f"{place}: {', '.join(sorted(strange))} is not known there: [vary] with lists of "
            "values, and [[variant]] with settings, are"
        )
    single = [
        {_name(name, place): value for name, value in one.items()}
        for one in _tables(table.get("variant", []), place)
    ]
    found = _once([*(_combined(_axes(table["vary"], place), place) if "vary" in table else ()),
                   *single])  # fmt: skip
    if not found:
        raise BadInput(f"{place}: holds no variant: [vary] with lists of values is missing")
    return found


def _axes(table: Any, place: str) -> dict[str, list[Any]]:
    axes = {}
    for name, values in table.items() if isinstance(table, dict) else ():
        if not isinstance(values, list) or not values:
            raise BadInput(f"{place}: vary.{name} must be a list of values, such as [1, 2]")
        axes[_name(name, place)] = values
    if not axes:
        raise BadInput(f"{place}: [vary] must hold NAME = [VALUES], such as tp = [1, 2]")
    return axes


def _tables(found: Any, place: str) -> list[dict[str, Any]]:
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    raise BadInput(f"{place}: a variant is a table: [[variant]], then NAME = VALUE lines")
