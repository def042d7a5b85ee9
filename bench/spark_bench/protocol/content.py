"""The content of a response, from the bytes of a whole exchange: de-chunked and decoded, and the
events of a stream, each with the time at which it was complete.

Nothing here depends on how the bytes were split into reads: the response is parsed from all of
them, and a byte's time is that of the read that held it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spark_bench.protocol import sse
from spark_bench.protocol.http1 import BodyEnd, Framing, Head, MalformedHttp
from spark_bench.record import Ended, Exchange

Ints = NDArray[np.int64]

# Bytes that a body may have when decoded, by default.
MOST_BYTES = 64 * 1024 * 1024
# Encodings of encodings; nobody has a use for two.
_MOST_ENCODINGS = 3
# gzip allows one stream right behind another. Behind each the rest is copied, so that little is
# handed to zlib at once and there is an end to them.
_FED = 4096
_MOST_STREAMS = 65_536


@dataclass(frozen=True, slots=True)
class Tape:
    """What came, and when: of a whole response, of its body, or of its decoded body.

    data: the bytes
    ends: for each read, how many of these bytes had come by its end; never falls
    stamps: for each read, when it came, ns
    """

    data: bytes
    ends: Ints
    stamps: Ints

    @classmethod
    def of(cls, exchange: Exchange) -> Tape:
        """The raw bytes of an exchange; its arrays are views, not copies."""
        return cls(exchange.data, np.asarray(exchange.ends), np.asarray(exchange.stamps))

    def reads(self, ends: Ints) -> Ints:
        """For each number of bytes, the index of the read that held the last of them."""
        return np.searchsorted(self.ends, ends, side="left")

    def transformed(self, data: bytes, ends: Ints) -> Tape:
        """The same reads, of other bytes: those that these turned into."""
        return Tape(data, ends, self.stamps)


class TooLarge(MalformedHttp):
    """A body that has more bytes, once decoded, than it may have."""


@dataclass(frozen=True, slots=True)
class Body:
    """A response's body, as far as it came.

    ended: its end was in the bytes. None: it ends where the connection does.
    """

    tape: Tape
    ended: bool | None


def read_response(tape: Tape, most: int = MOST_BYTES) -> tuple[Head, Body]:
    """A response's final head and its body. Raises MalformedHttp; also if the head never ends."""
    framing = Framing(spans=[])
    if not framing.read_head(tape.data):
        raise MalformedHttp("the response's head has no end")
    body = read_body(tape, framing, most)
    assert framing.head is not None
    return framing.head, body


def read_body(tape: Tape, framing: Framing, most: int = MOST_BYTES) -> Body:
    """The body behind the head that `framing` has read, de-chunked and decoded. Raises
    MalformedHttp.

    most: bytes that it may have when decoded, TooLarge beyond; never more than that are decoded
    """
    head = framing.head
    assert head is not None and framing.spans is not None
    ended = framing.ended(tape.data)
    # The bytes in its spans (in order, apart; the last may end beyond), by the same reads.
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
    """What each read's bytes inflate to. zlib never produces more than there is room for."""
    window = 16 + zlib.MAX_WBITS
    if encoding == "deflate":
        # A zlib stream by the standard and a raw one by old habit; the first two bytes of a zlib
        # stream tell (RFC 1950, 2.2).
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
    """A response, taken apart.

    status: 0 if no head came
    body: the bytes of an answer that is no event stream
    data: of each event of one that is
    reads: of each event, the read that completed it
    stamps: of each event, when that was, ns
    errors: indices of events that name themselves an error
    problem: a line that belongs to no event stream, "" if there is none
    whole: the end of the body came
    malformed: what is wrong with the HTTP, "" if nothing is
    too_large: that is its size, once decoded
    """

    status: int = 0
    body: bytes | None = None
    data: list[bytes] = field(default_factory=list)
    reads: Ints = field(default_factory=_no_ints)
    stamps: Ints = field(default_factory=_no_ints)
    errors: set[int] = field(default_factory=set)
    problem: str = ""
    whole: bool = False
    malformed: str = ""
    too_large: bool = False

    @property
    def ok(self) -> bool:
        """There is an answer: a success by its status, in HTTP that can be read."""
        return 200 <= self.status < 300 and not self.malformed

    def place(self, tape: Tape, ends: Ints) -> None:
        """Give each event the read that held its last byte."""
        self.reads = tape.reads(ends)
        self.stamps = tape.stamps[self.reads]

    @property
    def merged_reads(self) -> int:
        """Reads that completed more than one event."""
        same = self.reads[1:] == self.reads[:-1]
        return int(np.count_nonzero(same) - np.count_nonzero(same[1:] & same[:-1]))


def parse_response(tape: Tape, ended: Ended, most: int = MOST_BYTES) -> ParsedResponse:
    """The answer in these bytes, as far as it came. most: bytes of its body, decoded."""
    framing = Framing(spans=[])
    try:
        if not framing.read_head(tape.data):
            return ParsedResponse()
        head = framing.head
        assert head is not None
        if head.status == 200 and framing.body_end is BodyEnd.CHUNKED and not head.encodings:
            common = sse.split_events(tape.data, head.size)
            if common is not None:
                answer = ParsedResponse(200, data=common[0], whole=True)
                answer.place(tape, common[1])
                return answer
        body = read_body(tape, framing, most)
    except MalformedHttp as error:
        too_large = isinstance(error, TooLarge)
        status = framing.head.status if framing.head else 0
        return ParsedResponse(status, malformed=str(error), too_large=too_large)
    whole = ended is Ended.COMPLETE if body.ended is None else body.ended
    answer = ParsedResponse(head.status, whole=whole)
    # JSON by its first byte: proxies are known to change content types, but not this.
    is_json = body.tape.data[:64].lstrip()[:1] in (b"{", b"[")
    if is_json or not 200 <= head.status < 300:
        answer.body = body.tape.data
        return answer
    events = sse.parse_events(body.tape.data, whole=whole)
    answer.data, answer.errors, answer.problem = events.data, events.errors, events.problem
    answer.place(body.tape, np.array(events.ends, np.int64))
    return answer
