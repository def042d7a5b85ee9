"""The content of a response, from the bytes of a whole exchange: de-chunked and decoded.

Nothing here depends on how the bytes were split into reads: the response is parsed from all of
them, and a byte's time is that of the read that held it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spark_bench.protocol.http1 import BodyEnd, Framing, Head, MalformedHttp
from spark_bench.protocol.tape import Tape

# What a body may have when decoded, unless told otherwise.
MOST_BYTES = 64 * 1024 * 1024
# Encodings of encodings; nobody has a use for two.
_MOST_ENCODINGS = 3
# gzip allows one stream right behind another. Behind each the rest is copied, so that little is
# handed to zlib at once and there is an end to them.
_FED = 4096
_MOST_STREAMS = 65_536


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

    most: bytes that it may have when decoded, TooLarge beyond; no more than that are ever made
    """
    head = framing.head
    assert head is not None and framing.spans is not None
    ended = framing.ended(tape.data)
    content = _cut_out(tape, framing.spans)
    if len(head.encodings) > _MOST_ENCODINGS:
        raise MalformedHttp(f"{len(head.encodings)} content-encodings, though none was asked for")
    for encoding in reversed(head.encodings):
        content = _decoded(content, encoding, most)
    return Body(content, None if framing.body_end is BodyEnd.CLOSE else ended)


def _cut_out(tape: Tape, spans: list[tuple[int, int]]) -> Tape:
    """The bytes in these spans (in order, apart; the last may end beyond), by the same reads."""
    data = b"".join([tape.data[start:end] for start, end in spans])
    if not spans:
        return tape.seen_through(data, np.zeros_like(tape.ends))
    starts, ends = np.minimum(np.array(spans, np.int64).T, len(tape.data))
    before = np.concatenate(([0], np.cumsum(ends - starts)))
    span = np.minimum(np.searchsorted(ends, tape.ends, side="left"), len(spans) - 1)
    inside = np.clip(tape.ends - starts[span], 0, ends[span] - starts[span])
    return tape.seen_through(data, before[span] + inside)


def _decoded(tape: Tape, encoding: str, most: int) -> Tape:
    """What the bytes of each read decode to, by the same reads; TooLarge beyond `most` bytes."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MalformedHttp(f"content-encoding {encoding}, though none was asked for")
    try:
        pieces = list(_inflated(tape, encoding, most))
    except zlib.error as error:
        raise MalformedHttp(f"content-encoding {encoding}: {error}") from None
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    return tape.seen_through(b"".join(pieces), np.cumsum(lengths))


def _inflated(tape: Tape, encoding: str, most: int) -> Iterator[bytes]:
    """What each read's bytes inflate to. zlib is never asked for more than there is room for."""
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
                    raise TooLarge(f"more than {most} bytes when inflated")
                fed = inflate.unconsumed_tail or inflate.unused_data
        yield b"".join(texts)
