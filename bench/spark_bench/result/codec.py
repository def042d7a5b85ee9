"""A result as JSON, and back: decoded strictly into its types, so that what is read is valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spark_bench.errors import BadInput
from spark_bench.result.types import KIND, SCHEMA_VERSION, Result

# These come first in the file, for people who look at its head.
_HEAD = ("schema_version", "kind", "id", "created", "status", "reason")


class InvalidResult(ValueError):
    """What doesn't hold the schema; the message has the place and what was expected."""


class _Version(msgspec.Struct, frozen=True):
    schema_version: int
    kind: str


def encode(result: Result) -> bytes:
    """The file's bytes: JSON, indented, with a line's end."""
    names = dict.fromkeys((*_HEAD, *result.__struct_fields__))
    fields = {name: getattr(result, name) for name in names}
    return msgspec.json.format(msgspec.json.encode(fields)) + b"\n"


def check(data: bytes) -> Result:
    """The result in these bytes; InvalidResult if there is none."""
    try:
        result = msgspec.json.decode(data, type=Result)
        written = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidResult(str(error)) from error
    for difference in _differences(written, msgspec.to_builtins(result), "$"):
        raise InvalidResult(difference)
    return result


def _differences(written: Any, known: Any, place: str) -> Iterator[str]:
    """Keys that the types don't have, and keys that they have and nobody wrote.

    Neither is for defaults to hide: a figure that is missing is not a figure that is null.
    """
    if isinstance(written, dict) and isinstance(known, dict):
        yield from (f"unknown key `{key}` - at `{place}`" for key in written.keys() - known.keys())
        yield from (
            f"key `{key}` is missing - at `{place}`" for key in known.keys() - written.keys()
        )
        for key in written.keys() & known.keys():
            yield from _differences(written[key], known[key], f"{place}.{key}")
    elif isinstance(written, list):
        for index, (one, other) in enumerate(zip(written, known, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")


def read(path: Path) -> Result:
    """The result in a file. BadInput names the file, the place in it, and what was expected."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from error
    if result := _as_written(data):
        return result
    try:
        _check_version(data)
        return check(data)
    except InvalidResult as error:
        raise BadInput(f"{path} is no result of spark-bench run: {error}.") from error


def _as_written(data: bytes) -> Result | None:
    """The quick way, for a thousand files: what would be written so again lacks no key."""
    try:
        result = msgspec.json.decode(data, type=Result)
    except msgspec.DecodeError:
        return None
    return result if encode(result) == data else None


def _check_version(data: bytes) -> None:
    try:
        version = msgspec.json.decode(data, type=_Version)
    except msgspec.DecodeError as error:
        raise InvalidResult(str(error)) from error
    if version.kind != KIND:
        raise InvalidResult(f"its kind is '{version.kind}', expected '{KIND}'")
    if version.schema_version != SCHEMA_VERSION:
        raise InvalidResult(_other_version(version.schema_version))


def _other_version(found: int) -> str:
    cure = (
        "install a newer spark-bench"
        if found > SCHEMA_VERSION
        else "read it with the spark-bench that its provenance.client.version names"
    )
    return f"its schema version is {found}, this spark-bench reads {SCHEMA_VERSION}; {cure}"
