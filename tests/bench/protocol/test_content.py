"""Encoded bodies: decoded with the right times, and never beyond their limit."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
import wire_bytes as wire
from spark_bench.protocol.content import Body, Tape, TooLarge, read_response
from spark_bench.protocol.http1 import MalformedHttp

BODY = b"The capital of France is Paris. " * 4


def body_of(*reads: bytes, most: int = 1 << 20) -> Body:
    return read_response(Tape.of(wire.exchange(reads)), most)[1]


def encoded(encoding: bytes, *parts: bytes) -> list[bytes]:
    """A response that ends with its connection."""
    return [wire.OK + b"content-encoding: " + encoding + b"\r\n\r\n", *parts]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        pytest.param("gzip", gzip.compress(BODY), id="gzip"),
        pytest.param(
            "x-gzip", gzip.compress(BODY[:50]) + gzip.compress(BODY[50:]), id="two-members"
        ),
        pytest.param("deflate", zlib.compress(BODY), id="zlib"),
        pytest.param("Deflate", raw_deflate(BODY), id="raw-deflate"),
        pytest.param("identity", BODY, id="identity"),
        pytest.param("deflate, gzip", gzip.compress(zlib.compress(BODY)), id="both"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_encoded_body_is_decoded(name: str, packed: bytes, size: int) -> None:
    head = wire.OK + b"content-encoding: %s\r\ntransfer-encoding: chunked\r\n\r\n" % name.encode()
    chunks = [wire.chunk(packed[i : i + 11]) for i in range(0, len(packed), 11)]
    data = head + b"".join(chunks) + wire.LAST_CHUNK
    assert body_of(*wire.split(data, range(0, len(data), size))).tape.data == BODY


def test_decoded_bytes_have_the_time_of_their_read() -> None:
    packer = zlib.compressobj(wbits=31)
    flushed = [
        packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in (b"one", b"two", b"six")
    ]
    body = body_of(*encoded(b"gzip", *flushed, packer.flush()))
    assert body.tape.data == b"onetwosix"
    assert body.tape.stamps[body.tape.reads(np.array([3, 6, 9]))].tolist() == [2000, 3000, 4000]


BOMBS = {
    "gzip": (b"gzip", gzip.compress(bytes(1 << 24), 9)),
    "deflate": (b"deflate", zlib.compress(bytes(1 << 24), 9)),
    "gzip of gzip": (b"gzip, gzip", gzip.compress(gzip.compress(bytes(1 << 24), 9), 9)),
    "empty streams": (b"gzip", gzip.compress(b"") * 70_000),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("size", [100, 1 << 20])
def test_decompression_stops_at_the_limit(name: str, size: int) -> None:
    encoding, packed = BOMBS[name]
    reads = encoded(encoding, *wire.split(packed, range(size, len(packed), size)))
    tape = Tape.of(wire.exchange(reads))
    tracemalloc.start()
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        read_response(tape, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_body_that_just_fits_is_whole() -> None:
    reads = encoded(b"gzip", gzip.compress(BODY))
    assert body_of(*reads, most=len(BODY)).tape.data == BODY
    with pytest.raises(TooLarge):
        body_of(*reads, most=len(BODY) - 1)


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        pytest.param(b"br", "br", id="unknown"),
        pytest.param(b"gzip", "gzip", id="not-gzip"),
        pytest.param(b"gzip, gzip, gzip, gzip", "4 content", id="stack"),
    ],
)
def test_an_encoding_that_cant_be_decoded_is_named(encoding: bytes, named: str) -> None:
    with pytest.raises(MalformedHttp, match=named):
        body_of(*encoded(encoding, b"plain"))
