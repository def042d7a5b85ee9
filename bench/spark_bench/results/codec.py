"""Results to and from JSON, and their requests to and from lines of JSON.

Decoding is strict: anything that was read is valid.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from spark_bench import errors, record
from spark_bench.results.quality_schema import QUALITY_KIND, QUALITY_VERSION, QualityResult
from spark_bench.results.schema import KIND, SCHEMA_VERSION, Result

AnyResult = TypeVar("AnyResult", Result, QualityResult)
# What decoding raises for invalid JSON and for endless nesting.
NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
# These keys come first in the file, for people who look at its head.
_HEAD = ("schema_version", "kind", "id", "created", "status", "reason")

# _MOST is larger than any figure of a run (seconds, milliseconds, tokens); _LARGEST is the largest
# integer that SQLite can store.
_MOST, _LARGEST = 1e15, 2**63 - 1
_YEARS = range(2000, 9999)
_COUNTS = ("num_prompts", "input_len", "output_len", "warmup", "repeat", "ramp", "duration")
_LOADS = ("concurrency", "request_rate")


class InvalidResult(ValueError):
    """Data that breaks the schema; the message says where, and what was expected."""


class _Version(Struct, frozen=True):
    schema_version: int
    kind: str


def encode_result(result: Result | QualityResult) -> bytes:
    """Encode a result as the bytes of its file: indented JSON with a final newline."""
    names = dict.fromkeys((*_HEAD, *result.__struct_fields__))
    every = {name: getattr(result, name) for name in names}
    fields = {name: value for name, value in every.items() if value is not UNSET}
    return msgspec.json.format(msgspec.json.encode(fields)) + b"\n"


def decode_result(data: bytes) -> Result:
    """Decode a result. Raises InvalidResult if the data is not a valid one."""
    return _decode(data, Result)


def decode_quality(data: bytes) -> QualityResult:
    """Decode a result of `spark-bench quality`. Raises InvalidResult if it is not a valid one."""
    return _decode(data, QualityResult)


def _decode(data: bytes, kind: type[AnyResult]) -> AnyResult:
    try:
        result = msgspec.json.decode(data, type=kind)
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


def _impossible(result: Result | QualityResult) -> Iterator[str]:
    """Yield what is wrong with values that have the right type but that no run can have.

    Readers rely on this check.
    """
    try:
        urlsplit(result.config.url)
    except ValueError as error:
        yield f"{error} - at `$.config.url`"
    repeats = result.repeats if isinstance(result, Result) else ()
    starts = ((r.started, f"repeats[{i}].started") for i, r in enumerate(repeats))
    for when, place in ((result.created, "created"), *starts):
        if when.tzinfo is None or when.year not in _YEARS:
            yield f"{when} is not a plausible time with a time zone - at `$.{place}`"
    yield from (
        _impossible_score(result) if isinstance(result, QualityResult) else _impossible_run(result)
    )


def _impossible_score(result: QualityResult) -> Iterator[str]:
    """Yield what is wrong with a score: it must follow from its items."""
    if len(ids := {item.id for item in result.items}) != len(result.items):
        yield f"{len(result.items) - len(ids)} items have the id of another - at `$.items`"
    failed = sum(bool(item.failure) for item in result.items)
    right = sum(item.right is True and not item.failure for item in result.items)
    score = result.score
    if (score.answered + score.failed, score.failed, score.right) != (
        len(result.items),
        failed,
        right,
    ):
        yield (
            f"{score.right} right of {score.answered} answered and {score.failed} failed, but "
            f"`items` has {right} right and {failed} failed of {len(result.items)} - at `$.score`"
        )


def _impossible_run(result: Result) -> Iterator[str]:
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
    repeats = ((f"$.repeats[{i}]", repeat) for i, repeat in enumerate(whole["repeats"]))
    for at, measured in (("$", whole), *repeats):
        for part in ("summary", "distributions"):
            for place, number in _numbers(measured[part], f"{at}.{part}"):
                if not 0 <= number <= _MOST:
                    yield f"{number:g} is not a figure of a run - at `{place}`"


def _numbers(value: Any, place: str) -> Iterator[tuple[str, int | float]]:
    """Yield every number with its place; only the smallest and the largest of a list of floats."""
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
    """Yield a message for each key that is unknown or missing.

    Defaults must not hide these: a missing figure is not the same as one that is null.

    written: the decoded file; expected: the same result as we would write it
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
    """Read a result file.

    Raises BadInput that names the file, the place in it, and what was expected.
    """
    return _read(path, Result, KIND, SCHEMA_VERSION)


def read_quality(path: Path) -> QualityResult:
    """Read a result file of `spark-bench quality`. Raises BadInput like `read_result`."""
    return _read(path, QualityResult, QUALITY_KIND, QUALITY_VERSION)


def _read(path: Path, kind: type[AnyResult], name: str, version: int) -> AnyResult:
    """Read a result of a kind. name, version: what the file must say of itself"""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise errors.BadInput(f"{path} can't be read: {error.strerror}.") from error
    # A fast path for thousands of files: if a result encodes to the same bytes, no key is missing.
    with suppress(*NOT_JSON):
        result = msgspec.json.decode(data, type=kind)
        if encode_result(result) == data and not any(_impossible(result)):
            return result
    try:
        _check_version(data, name, version)
        return _decode(data, kind)
    except InvalidResult as error:
        raise errors.BadInput(f"{path} is not a result of {name}: {error}.") from error


def _check_version(data: bytes, kind: str, version: int) -> None:
    """Raise InvalidResult for another kind or version, before fields are compared."""
    try:
        head = msgspec.json.decode(data, type=_Version)
    except NOT_JSON as error:
        raise InvalidResult(_why(error)) from error
    if head.kind != kind:
        raise InvalidResult(f"its kind is '{head.kind}', expected '{kind}'")
    if head.schema_version != version:
        cure = (
            "install a newer spark-bench"
            if head.schema_version > version
            else "read it with the spark-bench that its provenance.client.version names"
        )
        raise InvalidResult(
            f"its schema version is {head.schema_version}, this spark-bench reads {version}; {cure}"
        )


# ---- requests.jsonl beside a result: one line of JSON for each request
#
# Times are whole nanoseconds. `scheduled_ns` and `sent_ns` count from the start of the run; every
# later time of a request counts from its own `sent_ns`. The times of tokens are delta-coded: the
# first of `token_gaps_ns` is the request's TTFT, the others are the gaps between its deltas.

# When a run starts on the clock of the records that `read_requests` returns. It can't be 0, which
# means "never".
START_NS = 1_000_000_000


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request, as a line of the requests' file. null: it never happened, or is unknown.

    index: its position in the run, from 0
    repeat: number of the repeat that it belongs to, from 0
    ok: it succeeded, so it counts in the figures
    failure: the kind of failure; "" if it succeeded
    detail: the failure in words, such as the server's message
    status: the HTTP status of the response; 0: there was none
    scheduled_ns, sent_ns: when it was due and when it was sent, in nanoseconds since the start of
        the run
    first_event_ns, text_ns, done_ns: when the first event, the first text that is not reasoning,
        and the end of the response came, in nanoseconds since sent_ns
    token_gaps_ns: for each delta with tokens, nanoseconds since the one before it; for the first,
        since sent_ns, which makes it the TTFT
    token_counts: tokens in each of these deltas
    counted_by: source of token_counts: "chunk" (one token each, as the total confirms), "usage"
        (the server's counts), "tokenizer", "even" (the total spread evenly) or "none"
    asked_input, asked_output: tokens requested: of the prompt, and to generate
    prompt_tokens, cached_tokens: tokens of the prompt, and those of them in the prefix cache
    output_tokens, reasoning_tokens, hidden_tokens: tokens generated, and those of them that were
        reasoning, or that came before any text
    usage: the server returned token counts
    finish_reason: why generation ended, as the server says
    stopped_early: the answer ended before the requested length
    reused: it went over a connection that had carried another request
    merged_reads: reads that held several of its events
    conversation, turn: its conversation, and its position in it, from 0
    prompt_sha256: SHA-256 of the prompt's messages, in hex: requests with the same one are paired
        by `compare`; left out: unknown, as in files of earlier versions
    text: the response's text
    """

    index: int
    repeat: int
    ok: bool
    failure: str
    detail: str
    status: int
    scheduled_ns: int | None
    sent_ns: int | None
    first_event_ns: int | None
    text_ns: int | None
    done_ns: int | None
    token_gaps_ns: list[int]
    token_counts: list[int]
    counted_by: str
    asked_input: int | None
    asked_output: int
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    reasoning_tokens: int
    hidden_tokens: int
    usage: bool
    finish_reason: str
    stopped_early: bool
    reused: bool
    merged_reads: int
    conversation: int
    turn: int
    text: str
    prompt_sha256: str | UnsetType = UNSET


_SAME = tuple(
    name
    for name in Row.__struct_fields__
    if name in record.Request.__dataclass_fields__
    and not name.endswith("_ns")
    and name not in ("token_counts", "prompt_sha256")
)


def to_row(request: record.Request, start_ns: int, repeat: int = 0) -> Row:
    """Convert a request to a line. start_ns: when the run started, on the request's clock"""
    sent = request.sent_ns

    def since(base: int, at: int) -> int | None:
        return at - base if at else None

    return Row(
        repeat=repeat,
        ok=request.ok,
        stopped_early=request.stopped_early,
        scheduled_ns=since(start_ns, request.scheduled_ns),
        sent_ns=since(start_ns, sent),
        first_event_ns=since(sent, request.first_event_ns),
        text_ns=since(sent, request.text_ns),
        done_ns=since(sent, request.done_ns),
        token_gaps_ns=np.diff(request.token_ns, prepend=sent).tolist(),
        token_counts=request.token_counts.tolist(),
        prompt_sha256=request.prompt_sha256 or UNSET,
        **{name: getattr(request, name) for name in _SAME},
    )


def from_row(row: Row, start_ns: int = START_NS) -> record.Request:
    """Convert a line to a request, on a clock that read `start_ns` when the run started."""

    def at(base: int, since: int | None) -> int:
        return 0 if since is None else base + since

    sent = at(start_ns, row.sent_ns)
    return record.Request(
        scheduled_ns=at(start_ns, row.scheduled_ns),
        sent_ns=sent,
        first_event_ns=at(sent, row.first_event_ns),
        text_ns=at(sent, row.text_ns),
        done_ns=at(sent, row.done_ns),
        token_ns=np.cumsum(np.array(row.token_gaps_ns, np.int64)) + sent,
        token_counts=np.array(row.token_counts, np.int32),
        prompt_sha256=row.prompt_sha256 or "",
        **{name: getattr(row, name) for name in _SAME},
    )


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the lines of a requests file. Raises BadInput that names an invalid line."""
    decoder, number = msgspec.json.Decoder(Row), 0
    try:
        with open(path, "rb") as file:
            for line in file:
                number += 1
                yield decoder.decode(line)
    except OSError as error:
        raise errors.BadInput(f"{path} can't be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise errors.BadInput(
            f"{path}, line {number}: {error}. Each line must be a request as "
            "`spark-bench run --save-requests` writes it."
        ) from error


def read_requests(path: Path, start_ns: int = START_NS) -> Iterator[record.Request]:
    """Yield the requests of a file as records; see `from_row`."""
    return (from_row(row, start_ns) for row in read_rows(path))
