"""`requests.jsonl` beside a result: one line of JSON for each request.

Times are whole nanoseconds. `scheduled_ns` counts from the start of the run, `sent_ns` too; all
that follows in a request counts from its own `sent_ns`. The tokens' times are delta-coded: the
first of `token_gaps_ns` is the request's TTFT, the others are the gaps between its deltas.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.record import Request
from spark_bench.results.atomic import replacing

# A run's start on the clock of the records that `read_requests` returns: 0 would mean "never".
START_NS = 1_000_000_000

_BUFFER = 1 << 20


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request as a line; null: it never happened, or is unknown. See record.Request.

    scheduled_ns, sent_ns: since the start of the run
    first_event_ns, text_ns, done_ns: since sent_ns
    token_gaps_ns: for each delta with tokens, the time since the previous one; for the first since
        sent_ns
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


_SAME = tuple(
    name
    for name in Row.__struct_fields__
    if name in Request.__dataclass_fields__ and not name.endswith("_ns") and name != "token_counts"
)


def to_row(request: Request, start_ns: int, repeat: int = 0) -> Row:
    """A request as a line. start_ns: when the run started, on the request's clock."""
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
        **{name: getattr(request, name) for name in _SAME},
    )


def from_row(row: Row, start_ns: int = START_NS) -> Request:
    """A line as a request, on a clock that read `start_ns` when the run started."""

    def at(base: int, since: int | None) -> int:
        return 0 if since is None else base + since

    sent = at(start_ns, row.sent_ns)
    return Request(
        scheduled_ns=at(start_ns, row.scheduled_ns),
        sent_ns=sent,
        first_event_ns=at(sent, row.first_event_ns),
        text_ns=at(sent, row.text_ns),
        done_ns=at(sent, row.done_ns),
        token_ns=np.cumsum(np.array(row.token_gaps_ns, np.int64)) + sent,
        token_counts=np.array(row.token_counts, np.int32),
        **{name: getattr(row, name) for name in _SAME},
    )


def write_requests(rows: Iterable[Row], path: Path) -> int:
    """Write a line per request; the file appears complete or not at all.

    Returns the number of lines. NotSaved if the file can't be written.
    """
    with replacing(path) as file:
        return _write_lines(rows, file)


def _write_lines(rows: Iterable[Row], file: BinaryIO) -> int:
    encoder = msgspec.json.Encoder()
    buffer = bytearray()
    lines = 0
    for row in rows:
        lines += 1
        encoder.encode_into(row, buffer, -1)
        buffer += b"\n"
        if len(buffer) >= _BUFFER:
            file.write(buffer)
            buffer.clear()
    file.write(buffer)
    return lines


def read_rows(path: Path) -> Iterator[Row]:
    """Read the lines of a file. BadInput names an invalid line."""
    decoder = msgspec.json.Decoder(Row)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decode(decoder, line, path, number)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from error


def _decode(decoder: msgspec.json.Decoder[Row], line: bytes, path: Path, number: int) -> Row:
    try:
        return decoder.decode(line)
    except msgspec.DecodeError as error:
        raise BadInput(
            f"{path}, line {number}: {error}. Each line must be a request as "
            "`spark-bench run --save-requests` writes it."
        ) from error


def read_requests(path: Path, start_ns: int = START_NS) -> Iterator[Request]:
    """Read the requests of a file as records; see `from_row`."""
    return (from_row(row, start_ns) for row in read_rows(path))
