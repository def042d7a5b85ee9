"""A result as JSON and back. Decoding is strict: what is read is valid."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from spark_bench.errors import BadInput
from spark_bench.results.schema import KIND, SCHEMA_VERSION, Result

# What decoding raises for invalid JSON and for endless nesting.
NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
# First in the file, for people who look at its head.
_HEAD = ("schema_version", "kind", "id", "created", "status", "reason")


# Larger than any figure of a run, which are seconds, milliseconds and tokens; the largest integer
# that SQLite can store.
_MOST, _LARGEST = 1e15, 2**63 - 1
_YEARS = range(2000, 9999)
_COUNTS = ("num_prompts", "input_len", "output_len", "warmup", "repeat", "ramp", "duration")
_LOADS = ("concurrency", "request_rate")


class InvalidResult(ValueError):
    """Data that breaks the schema; the message names the place and what was expected."""


class _Version(msgspec.Struct, frozen=True):
    schema_version: int
    kind: str


def encode_result(result: Result) -> bytes:
    """The file's bytes: indented JSON with a final newline."""
    names = dict.fromkeys((*_HEAD, *result.__struct_fields__))
    fields = {name: getattr(result, name) for name in names}
    return msgspec.json.format(msgspec.json.encode(fields)) + b"\n"


def decode_result(data: bytes) -> Result:
    """Decode a result; InvalidResult if the data is not a valid one."""
    try:
        result = msgspec.json.decode(data, type=Result)
        written = msgspec.json.decode(data)
        for difference in _differences(written, msgspec.to_builtins(result), "$"):
            raise InvalidResult(difference)
        for impossible in _impossible(result):
            raise InvalidResult(impossible)
    except NOT_JSON as error:
        raise InvalidResult(_why(error)) from error
    return result


def _why(error: Exception) -> str:
    deep = isinstance(error, RecursionError)
    return "it is nested deeper than any result" if deep else str(error)


def _impossible(result: Result) -> Iterator[str]:
    """Yield what is wrong with values of the right type that no run has; readers rely on this."""
    try:
        urlsplit(result.config.url)
    except ValueError as error:
        yield f"{error} - at `$.config.url`"
    for when, place in ((result.created, "created"), *_starts(result)):
        if when.tzinfo is None or when.year not in _YEARS:
            yield f"{when} is not a plausible time with a time zone - at `$.{place}`"
    whole = msgspec.to_builtins(result)
    for place, number in _numbers(whole, "$"):
        if isinstance(number, int) and abs(number) > _LARGEST:
            bits = number.bit_length()
            yield f"a number of {bits} bits is too large - at `{place}`"
    config = whole["config"]
    ramp = [value for value in (config["rate_ramp"] or {}).values() if isinstance(value, float)]
    for name in (*_COUNTS, *_LOADS):
        value = config[name]
        if value is not None and not (value > 0 or (name in _COUNTS and value == 0)):
            yield f"{value} is not allowed - at `$.config.{name}`"
    if any(rate <= 0 for rate in ramp):
        yield "a rate must be above 0 - at `$.config.rate_ramp`"
    for at, measured in (("$", whole), *_repeats(whole)):
        for part in ("summary", "distributions"):
            for place, number in _numbers(measured[part], f"{at}.{part}"):
                if not 0 <= number <= _MOST:
                    yield f"{number:g} is not a figure of a run - at `{place}`"


def _starts(result: Result) -> Iterator[tuple[datetime, str]]:
    for index, repeat in enumerate(result.repeats):
        yield repeat.started, f"repeats[{index}].started"


def _repeats(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, repeat in enumerate(whole["repeats"]):
        yield f"$.repeats[{index}]", repeat


def _numbers(value: Any, place: str) -> Iterator[tuple[str, int | float]]:
    """Every number with its place; of a list of floats the least and the largest."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(each, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        if value and all(type(each) is float for each in value):
            value = (min(value), max(value))
        for index, each in enumerate(value):
            yield from _numbers(each, f"{place}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place, value


def _differences(written: Any, expected: Any, place: str) -> Iterator[str]:
    """Keys that the types don't have, and keys that they have and nobody wrote.

    Neither is for defaults to hide: a figure that is missing is not a figure that is null.
    """
    if isinstance(written, dict) and isinstance(expected, dict):
        yield from (
            f"unknown key `{key}` - at `{place}`" for key in written.keys() - expected.keys()
        )
        yield from (
            f"key `{key}` is missing - at `{place}`" for key in expected.keys() - written.keys()
        )
        for key in written.keys() & expected.keys():
            yield from _differences(written[key], expected[key], f"{place}.{key}")
    elif isinstance(written, list):
        for index, (one, other) in enumerate(zip(written, expected, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")


def read_result(path: Path) -> Result:
    """Read a result file. BadInput names the file, the place in it, and what was expected."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from error
    if result := _as_written(data):
        return result
    try:
        _check_version(data)
        return decode_result(data)
    except InvalidResult as error:
        raise BadInput(f"{path} is not a result of spark-bench run: {error}.") from error


def _as_written(data: bytes) -> Result | None:
    """The fast path, for thousands of files: data that encodes to the same bytes lacks no key."""
    try:
        result = msgspec.json.decode(data, type=Result)
        same = encode_result(result) == data
    except NOT_JSON:
        return None
    return result if same and not any(_impossible(result)) else None


def _check_version(data: bytes) -> None:
    try:
        version = msgspec.json.decode(data, type=_Version)
    except NOT_JSON as error:
        raise InvalidResult(_why(error)) from error
    if version.kind != KIND:
        raise InvalidResult(f"its kind is '{version.kind}', expected '{KIND}'")
    if version.schema_version != SCHEMA_VERSION:
        raise InvalidResult(_other_version(version.schema_version))


def _other_version(version: int) -> str:
    cure = (
        "install a newer spark-bench"
        if version > SCHEMA_VERSION
        else "read it with the spark-bench that its provenance.client.version names"
    )
    return f"its schema version is {version}, this spark-bench reads {SCHEMA_VERSION}; {cure}"
