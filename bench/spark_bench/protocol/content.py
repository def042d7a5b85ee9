"""The content of a response, from all bytes of an exchange.

The body is de-chunked and decoded, and each event of a stream gets the time at which it was
complete. How the bytes were split into reads does not matter: the response is parsed as a whole,
and a byte's time is that of the read that held it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from spark_bench.arrays import Ints
from spark_bench.protocol import sse
from spark_bench.protocol.http1 import CRLF, BodyEnd, Framing, Head, MalformedHttp
from spark_bench.record import Ended, Exchange

# Default limit on the bytes of a decoded body.
MOST_BYTES = 64 * 1024 * 1024
# Most encodings on top of each other; even two have no use.
_MOST_ENCODINGS = 3
# gzip allows streams one after another, and zlib copies the rest of its input after each. So zlib
# gets only a few bytes at a time, and the number of streams is limited.
_FED = 4096
_MOST_STREAMS = 65_536
# Bytes that hold nearly every response's head.
_HEAD = 4 * 1024


@dataclass(frozen=True, slots=True)
class Tape:
    """Bytes and the times at which they came: a whole response, its body, or its decoded body.

    data: the bytes
    ends: for each read, how many of these bytes had come by its end; never decreases
    stamps: for each read, its time in ns
    """

    data: bytes
    ends: Ints
    stamps: Ints

    @classmethod
    def of(cls, exchange: Exchange, data: bytes | None = None) -> Tape:
        """The reads of an exchange; its arrays are views, not copies. data: None: all its bytes"""
        data = bytes(exchange.data) if data is None else data
        return cls(data, np.asarray(exchange.ends), np.asarray(exchange.stamps))

    def reads(self, ends: Ints) -> Ints:
        """For each number of bytes, the index of the read that held the last of these bytes."""
        return np.searchsorted(self.ends, ends, side="left")

    def transformed(self, data: bytes, ends: Ints) -> Tape:
        """The same reads, with the bytes that these were decoded to."""
        return Tape(data, ends, self.stamps)


class TooLarge(MalformedHttp):
    """A body that is larger, once decoded, than its limit."""


@dataclass(frozen=True, slots=True)
class Body:
    """A response's body, as far as it came.

    ended: whether its end is in the bytes; None: it ends when the connection closes
    """

    tape: Tape
    ended: bool | None


def read_response(tape: Tape, most: int = MOST_BYTES) -> tuple[Head, Body]:
    """Read a response's final head and its body. Raises MalformedHttp, also for half a head."""
    framing = Framing(spans=[])
    if not framing.read_head(tape.data):
        raise MalformedHttp("the response's head has no end")
    body = read_body(tape, framing, most)
    assert framing.head is not None
    return framing.head, body


def read_body(tape: Tape, framing: Framing, most: int = MOST_BYTES) -> Body:
    """Read the body that follows the head in `framing`, de-chunked and decoded.

    most: limit on the decoded bytes; no more than that are decoded. Raises TooLarge beyond it, and
        MalformedHttp for what can't be read
    """
    head = framing.head
    assert head is not None and framing.spans is not None
    ended = framing.ended(tape.data)
    # The bytes inside the spans, with the same reads. Spans are in order and don't overlap; the
    # last may end beyond the bytes.
    spans = framing.spans
    data = b"".join([tape.data[start:end] for start, end in spans])
    if spans:
        starts, ends = np.minimum(np.array(spans, np.int64).T, len(tape.data))
        before = np.concatenate(([0], np.cumsum(ends - starts)))
        span = np.minimum(np.searchsorted(ends, tape.ends, side="left"), len(spans) - 1)
        inside = np.clip(tape.ends - starts[span], 0, ends[span] - starts[span])
        content = tape.transformed(data, before[span] + inside)
    else:
        content = tape.transformed(data, np.zeros_like(tape.ends))
    if len(head.encodings) > _MOST_ENCODINGS:
        raise MalformedHttp(f"{len(head.encodings)} content-encodings, though none was requested")
    for encoding in reversed(head.encodings):
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise MalformedHttp(f"content-encoding {encoding}, though none was requested")
        try:
            pieces = list(_inflated(content, encoding, most))
        except zlib.error as error:
            raise MalformedHttp(f"content-encoding {encoding}: {error}") from None
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        content = content.transformed(b"".join(pieces), np.cumsum(lengths))
    return Body(content, None if framing.body_end is BodyEnd.CLOSE else ended)


def _inflated(tape: Tape, encoding: str, most: int) -> Iterator[bytes]:
    """Yield what each read's bytes decompress to. zlib never produces more than the limit."""
    window = 16 + zlib.MAX_WBITS
    if encoding == "deflate":
        # "deflate" is a zlib stream by the standard, but a raw one by old habit. The first two
        # bytes tell (RFC 1950, 2.2).
        first = tape.data[:2]
        is_zlib = first and first[0] & 15 == 8 and int.from_bytes(first, "big") % 31 == 0
        window = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
    inflate, room, streams = zlib.decompressobj(window), most, 1
    for begin, end in pairwise([0, *tape.ends.tolist()]):
        piece, texts = tape.data[begin:end], []
        for start in range(0, len(piece), _FED):
            fed = piece[start : start + _FED]
            while fed:
                if inflate.eof:
                    inflate, streams = zlib.decompressobj(window), streams + 1
                texts.append(inflate.decompress(fed, room + 1))
                room -= len(texts[-1])
                if room < 0 or streams > _MOST_STREAMS:
                    raise TooLarge(f"more than {most} bytes when decompressed")
                fed = inflate.unconsumed_tail or inflate.unused_data
        yield b"".join(texts)


def _no_ints() -> Ints:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class ParsedResponse:
    """A parsed response.

    status: HTTP status; 0: no head came
    body: bytes of an answer that is not an event stream
    data: for each event of a stream, its data
    reads: for each event, the index of the read that completed it
    stamps: for each event, the time of that read in ns
    after: for each event, how many bytes of that read came after it
    errors: indices of events that call themselves an error
    problem: a line that does not belong in an event stream; "" if there is none
    whole: the end of the body came
    malformed: what is wrong with the HTTP; "" if nothing is
    too_large: what is wrong is the decoded size
    """

    status: int = 0
    body: bytes | None = None
    data: Sequence[bytes] = ()
    reads: Ints = field(default_factory=_no_ints)
    stamps: Ints = field(default_factory=_no_ints)
    after: Ints = field(default_factory=_no_ints)
    errors: set[int] = field(default_factory=set)
    problem: str = ""
    whole: bool = False
    malformed: str = ""
    too_large: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an answer: a success by its status, and valid HTTP."""
        return 200 <= self.status < 300 and not self.malformed

    def place(self, tape: Tape, ends: Ints, framing: int = 0) -> None:
        """Set the read that held each event's last byte, and what came after it in the read.

        ends: offsets of the events' ends
        framing: bytes of a chunk's end after each event, which are sent with it
        """
        self.reads = tape.reads(ends)
        self.stamps = tape.stamps[self.reads]
        self.after = tape.ends[self.reads] - (ends + framing)

    @property
    def merged_reads(self) -> int:
        """Number of reads that completed more than one event."""
        same = self.reads[1:] == self.reads[:-1]
        return int(np.count_nonzero(same) - np.count_nonzero(same[1:] & same[:-1]))


def parse_response(exchange: Exchange, most: int = MOST_BYTES) -> ParsedResponse:
    """Parse a response, as far as it came. most: limit on the bytes of its decoded body

    A long simple stream's events stay where the response is (see `sse.split_events`), so that they
    take little memory. Any other response is put into memory as a whole.
    """
    framing = Framing(spans=[])
    try:
        data = exchange.data
        if not framing.read_head(data[:_HEAD]) and not framing.read_head(bytes(data)):
            return ParsedResponse()
        head = framing.head
        assert head is not None
        if head.status == 200 and framing.body_end is BodyEnd.CHUNKED and not head.encodings:
            common = sse.split_events(data, head.size)
            if common is not None:
                answer = ParsedResponse(200, data=common[0], whole=True)
                answer.place(Tape.of(exchange, b""), common[1], framing=len(CRLF))
                return answer
        body = read_body(Tape.of(exchange), framing, most)
    except MalformedHttp as error:
        too_large = isinstance(error, TooLarge)
        status = framing.head.status if framing.head else 0
        return ParsedResponse(status, malformed=str(error), too_large=too_large)
    whole = exchange.ended is Ended.COMPLETE if body.ended is None else body.ended
    answer = ParsedResponse(head.status, whole=whole)
    # Recognize JSON by its first byte, since some proxies change the content type.
    is_json = body.tape.data[:64].lstrip()[:1] in (b"{", b"[")
    if is_json or not 200 <= head.status < 300:
        answer.body = body.tape.data
        return answer
    events = sse.parse_events(body.tape.data, whole=whole)
    answer.data, answer.errors, answer.problem = events.data, events.errors, events.problem
    answer.place(body.tape, np.array(events.ends, np.int64))
    return answer
