"""Variants: sets of the project's settings that are tried one after the other.

One of the settings is `variant`, the project's own word for a way to serve a model."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from spark_bench.errors import BadInput

Settings = dict[str, Any]

# The short names that SGLang's users know.
SHORT = {"tp": "tensor_parallel", "pp": "pipeline_parallel"}
# Settings that `all` decides itself, so they can't be varied.
RESERVED = {
    "model": "--models chooses the models",
    "state": "it must be running to be measured",
}
# More variants are a mistake, or would take days.
MOST = 1000


def parse_variants(vary: Sequence[str], matrix: Path | None) -> tuple[Settings, ...]:
    """Every combination of the --vary options, or the variants of a file; ({},) if there are none.

    Raises BadInput for an option or a file that can't be used.
    """
    if vary and matrix:
        raise BadInput("--vary doesn't go with --matrix: put it into the file's [vary]")
    if matrix:
        return _from_file(matrix)
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, equals, words = text.partition("=")
        values = [_parse_value(word.strip()) for word in words.split(",") if word.strip()]
        if not equals or not name.strip() or not values:
            raise BadInput(
                f"--vary {text}: is not NAME=VALUE,VALUE …, such as tp=1,2 or "
                "mem_fraction=0.80,0.85"
            )
        name = _setting_name(name.strip(), f"--vary {text}")
        if name in axes:
            raise BadInput(f"--vary {text}: {name} is varied already; list all its values in one")
        axes[name] = values
    return _combine(axes, "--vary")


def variant_label(settings: Mapping[str, Any]) -> str:
    """A variant as text, with short names; the model's variant is its name alone.

    >>> variant_label({"tensor_parallel": 2, "mem_fraction": 0.8, "disable_cuda_graph": True})
    'tp=2 mem_fraction=0.8 disable_cuda_graph=true'
    >>> variant_label({"variant": "low-latency", "tensor_parallel": 2})
    'low-latency tp=2'
    """
    names = {long: short for short, long in SHORT.items()}
    return " ".join(
        str(value) if name == "variant" else f"{names.get(name, name)}={format_setting(value)}"
        for name, value in settings.items()
    )


def format_setting(value: Any) -> str:
    """A value as --data takes it. Text is quoted only if it would be read as another type.

    >>> format_setting(True), format_setting(0.8), format_setting("auto"), format_setting("1.10")
    ('true', '0.8', 'auto', '"1.10"')
    """
    if not isinstance(value, str):
        return json.dumps(value)
    # pyinfra also reads True and None as Python's values.
    if value.lower() in ("true", "false", "none", "null", ""):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value) if value.startswith(("{", "[", '"')) else value
    return json.dumps(value)


def _setting_name(name: str, source: str) -> str:
    if name in RESERVED:
        raise BadInput(f"{source}: {name} can't vary: {RESERVED[name]}")
    return SHORT.get(name, name)


def _parse_value(text: str) -> Any:
    """The text as JSON (a number, true, false) if it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _combine(axes: Mapping[str, Sequence[Any]], source: str) -> tuple[Settings, ...]:
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST:
        raise BadInput(f"{source}: {count} combinations are more than {MOST}: vary less at once")
    return _unique(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def _unique(settings: Iterable[Settings]) -> tuple[Settings, ...]:
    """Without duplicates; 0.8 and 0.80 are the same."""
    return tuple({json.dumps(each, sort_keys=True): each for each in settings}.values())


def _from_file(file: Path) -> tuple[Settings, ...]:
    """Variants of a TOML file: [vary] with NAME = [VALUES], and a [[variant]] table for each."""
    source = f"--matrix {file}"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{source}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{source}: is not TOML: {error}") from None
    if unknown := table.keys() - {"vary", "variant"}:
        raise BadInput(
            f"{source}: unknown table {', '.join(sorted(unknown))}: a matrix has [vary] with lists "
            "of values, and [[variant]] with settings"
        )
    single = table.get("variant", [])
    if not isinstance(single, list) or not all(isinstance(one, dict) for one in single):
        raise BadInput(f"{source}: a variant is a table: [[variant]], then NAME = VALUE lines")
    combined: tuple[Settings, ...] = ()
    if "vary" in table:
        axes = {}
        for name, values in table["vary"].items() if isinstance(table["vary"], dict) else ():
            if not isinstance(values, list) or not values:
                raise BadInput(f"{source}: vary.{name} must be a list of values, such as [1, 2]")
            axes[_setting_name(name, source)] = values
        if not axes:
            raise BadInput(f"{source}: [vary] must hold NAME = [VALUES], such as tp = [1, 2]")
        combined = _combine(axes, source)
    listed = [{_setting_name(name, source): v for name, v in one.items()} for one in single]
    if not (variants := _unique([*combined, *listed])):
        raise BadInput(f"{source}: holds no variant: [vary] with lists of values is missing")
    return variants
