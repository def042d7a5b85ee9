"""HTTP/1.x responses, read from the bytes of a whole exchange.

Nothing here depends on how the bytes were split into reads: the response is parsed from all of
them, and a byte's time is that of the read that held it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spark_bench.protocol.tape import Ints, Tape

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.(\d) (\d{3})(?: ([^\r\n]*))?")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
# No server needs more for one size line; without a limit, garbage would count as "not yet there".
_LONGEST_SIZE_LINE = 4096
# client.framing's limits of a head: its bytes, and its lines.
_LONGEST_HEAD = 256 * 1024
_MOST_FIELDS = 1000
# What a body may have when decoded, unless it is told otherwise.
MOST_BYTES = 64 * 1024 * 1024
# Encodings of encodings; nobody has a use for two.
_MOST_ENCODINGS = 3
# gzip allows one stream right behind another. Behind each the rest is copied, so that little is
# handed to zlib at once and there is an end to them.
_FED = 4096
_MOST_STREAMS = 65_536
_BODILESS = {204, 304}


class MalformedHttp(ValueError):
    """Bytes that are no HTTP/1.x response; the message says where they go wrong."""


class TooLarge(MalformedHttp):
    """A body that has more bytes, once decoded, than it may have."""


@dataclass(frozen=True, slots=True)
class Head:
    """The final head of a response, interim ones (1xx) skipped.

    headers: names in lower case, the values of repeated ones joined with ", "
    size: bytes up to the body, interim heads included
    """

    status: int
    reason: str
    headers: dict[str, str]
    size: int

    @property
    def chunked(self) -> bool:
        """The body comes in chunks."""
        return self.headers.get("transfer-encoding", "").lower().split(",")[-1].strip() == "chunked"

    @property
    def encodings(self) -> list[str]:
        """What the body was encoded with, in that order; identity left out."""
        named = self.headers.get("content-encoding", "").lower().split(",")
        return [name for each in named if (name := each.strip()) not in ("", "identity")]


@dataclass(frozen=True, slots=True)
class Body:
    """A response's body, as far as it came.

    ended: its end was in the bytes. None: it ends where the connection does.
    """

    tape: Tape
    ended: bool | None


def head(data: bytes) -> Head | None:
    """The final head; None while it has not fully come. MalformedHttp for what can't be one."""
    start = 0
    while True:
        if not data.startswith(b"HTTP/1."[: len(data) - start], start):
            raise MalformedHttp(f"not HTTP/1: it begins with {data[start : start + 40]!r}")
        end = _HEAD_END.search(data, start)
        if start > _LONGEST_HEAD or (end is None and len(data) - start > _LONGEST_HEAD):
            raise MalformedHttp(f"no end of the head in {_LONGEST_HEAD} bytes")
        if end is None:
            return None
        if end.start() - start > _LONGEST_HEAD:
            raise MalformedHttp(f"a head of {end.start() - start} bytes")
        found = _one_head(data[start : end.start()], end.end())
        if found.status >= 200 or found.status == 101:
            return found
        start = end.end()


def body(tape: Tape, head: Head, most: int = MOST_BYTES) -> Body:
    """The body behind a head, de-chunked and decoded. MalformedHttp where its framing is wrong.

    most: bytes that it may have when decoded, TooLarge beyond; no more than that are ever made
    """
    framed = _framed(tape, head)
    if len(head.encodings) > _MOST_ENCODINGS:
        raise MalformedHttp(f"{len(head.encodings)} content-encodings, though none was asked for")
    for encoding in reversed(head.encodings):
        framed = Body(_decoded(framed.tape, encoding, most), framed.ended)
    return framed


def _one_head(text: bytes, size: int) -> Head:
    first, *lines = text.replace(b"\r\n", b"\n").split(b"\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise MalformedHttp(f"status line {first[:80]!r}")
    if len(lines) > _MOST_FIELDS:
        raise MalformedHttp(f"{len(lines)} header lines")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise MalformedHttp(f"header line {line[:80]!r}")
        key, told = name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")
        headers[key] = f"{headers[key]}, {told}" if key in headers else told
    reason = (status[3] or b"").decode("latin-1")
    return Head(int(status[2]), reason, headers, size)


def _framed(tape: Tape, head: Head) -> Body:
    if head.status in _BODILESS or head.status == 101:
        return Body(_cut_out(tape, [(head.size, head.size)]), True)
    if head.chunked:
        spans, ended = _chunks(tape.data, head.size)
        return Body(_cut_out(tape, spans), ended)
    # A body with any other transfer-encoding ends with the connection, whatever its length says.
    length = None if "transfer-encoding" in head.headers else _length(head)
    if length is None:
        return Body(_cut_out(tape, [(head.size, len(tape.data))]), None)
    stop = min(head.size + length, len(tape.data))
    return Body(_cut_out(tape, [(head.size, stop)]), stop == head.size + length)


def _length(head: Head) -> int | None:
    told = head.headers.get("content-length")
    if told is None:
        return None
    values = {value.strip() for value in told.split(",")}
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()):
        raise MalformedHttp(f"content-length {told!r}")
    return int(value)


def _chunks(data: bytes, at: int) -> tuple[list[tuple[int, int]], bool]:
    """Where each chunk's content lies, the last one perhaps in part; whether the end came."""
    spans: list[tuple[int, int]] = []
    while True:
        line = _CHUNK_SIZE.match(data, at)
        if line is None:
            _refuse_size_line(data, at)
            return spans, False
        size, start = int(line[1], 16), line.end()
        if start - at > _LONGEST_SIZE_LINE:
            raise MalformedHttp(f"chunk size line of {start - at} bytes")
        if size == 0:
            return spans, _trailers_end(data, start)
        end = start + size
        spans.append((start, min(end, len(data))))
        if not b"\r\n".startswith(data[end : end + 2]):
            raise MalformedHttp(f"chunk of {size} bytes is followed by {data[end : end + 20]!r}")
        at = end + 2
        if at > len(data):
            return spans, False


def _refuse_size_line(data: bytes, at: int) -> None:
    line = data[at : at + _LONGEST_SIZE_LINE]
    if b"\n" in line or len(line) == _LONGEST_SIZE_LINE:
        raise MalformedHttp(f"chunk size {line[:40]!r}")


def _trailers_end(data: bytes, at: int) -> bool:
    """Whether the blank line behind the trailers came."""
    return data.startswith(b"\r\n", at) or data.find(b"\r\n\r\n", at) >= 0


def _cut_out(tape: Tape, spans: list[tuple[int, int]]) -> Tape:
    """The bytes in these spans (in order, apart), by the same reads."""
    data = b"".join([tape.data[start:end] for start, end in spans])
    if not spans:
        return tape.seen_through(data, np.zeros_like(tape.ends))
    starts, ends = np.array(spans, np.int64).T
    before = np.concatenate(([0], np.cumsum(ends - starts)))
    span = np.minimum(np.searchsorted(ends, tape.ends, side="left"), len(spans) - 1)
    inside = np.clip(tape.ends - starts[span], 0, ends[span] - starts[span])
    return tape.seen_through(data, before[span] + inside)


def _decoded(tape: Tape, encoding: str, most: int) -> Tape:
    """What the bytes of each read decode to, by the same reads; TooLarge beyond `most` bytes."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MalformedHttp(f"content-encoding {encoding}, though none was asked for")
    try:
        pieces = list(_inflated(tape, _window(tape.data, encoding), most))
    except zlib.error as error:
        raise MalformedHttp(f"content-encoding {encoding}: {error}") from None
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    return tape.seen_through(b"".join(pieces), np.cumsum(lengths))


def _inflated(tape: Tape, window: int, most: int) -> Iterator[bytes]:
    """What each read's bytes inflate to. zlib is never asked for more than there is room for."""
    inflate, room, streams = zlib.decompressobj(window), most, 1
    for piece in _pieces(tape.data, tape.ends):
        texts = []
        for start in range(0, len(piece), _FED):
            fed = piece[start : start + _FED]
            while fed:
                if inflate.eof:
                    inflate, streams = zlib.decompressobj(window), streams + 1
                texts.append(inflate.decompress(fed, room + 1))
                room -= len(texts[-1])
                if room < 0 or streams > _MOST_STREAMS:
                    raise TooLarge(f"more than {most} bytes when inflated")
                fed = inflate.unconsumed_tail or inflate.unused_data
        yield b"".join(texts)


def _pieces(data: bytes, ends: Ints) -> Iterator[bytes]:
    start = 0
    for end in ends.tolist():
        yield data[start:end]
        start = end


def _window(data: bytes, encoding: str) -> int:
    """zlib's wbits. "deflate" is a zlib stream by the standard and a raw one by old habit; the
    first two bytes of a zlib stream tell (RFC 1950, 2.2)."""
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    zlib_stream = data[:1] and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if zlib_stream else -zlib.MAX_WBITS
