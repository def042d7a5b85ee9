"""HTTP responses from bytes: every framing, on any split, with the right times."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib

import numpy as np
import pytest
import wire_bytes as wire
from hypothesis import given, settings
from hypothesis import strategies as st
from spark_bench.protocol import http1
from spark_bench.protocol.tape import Tape

BODY = b"The capital of France is Paris. " * 4


def response(reads: list[bytes]) -> tuple[http1.Head, http1.Body]:
    tape = Tape.of(wire.exchange(reads))
    head = http1.head(tape.data)
    assert head is not None
    return head, http1.body(tape, head)


def chunks_of(body: bytes, size: int) -> bytes:
    return b"".join(wire.chunk(body[i : i + size]) for i in range(0, len(body), size))


FRAMED = {
    "chunked": wire.CHUNKED + chunks_of(BODY, 7) + wire.LAST_CHUNK,
    "one byte chunks": wire.CHUNKED + chunks_of(BODY, 1) + wire.LAST_CHUNK,
    "extension and trailers": wire.CHUNKED
    + b'80;name="a value"\r\n'
    + BODY
    + b"\r\n000 ;x\r\nserver-timing: 5\r\nx: y\r\n\r\n",
    "length": wire.sized(BODY),
    "length twice": wire.OK + b"Content-Length: 128\r\ncontent-length: 128\r\n\r\n" + BODY,
    "chunks over a length": wire.OK
    + b"content-length: 3\r\ntransfer-encoding: gzip-not, Chunked\r\n\r\n"
    + chunks_of(BODY, 50)
    + wire.LAST_CHUNK,
    "an unknown coding until close": wire.OK
    + b"transfer-encoding: x\r\ncontent-length: 3\r\n\r\n"
    + BODY,
    "until close": b"HTTP/1.0 200 OK\r\nserver: old\r\n\r\n" + BODY,
    "interim heads": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"
    + wire.sized(BODY),
    "bare line ends": b"HTTP/1.1 200\ncontent-length: 128\n\n" + BODY,
}


@pytest.mark.parametrize("name", FRAMED)
def test_the_same_body_whatever_its_framing(name: str) -> None:
    head, body = response([FRAMED[name]])
    assert head.status == 200
    assert body.tape.data == BODY
    assert body.ended is (None if "until close" in name else True)


@settings(deadline=None)
@given(st.sampled_from(sorted(FRAMED)), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_gives_the_same_body_and_each_byte_its_reads_time(
    name: str, cuts: list[int]
) -> None:
    data = FRAMED[name]
    reads = wire.split(data, cuts)
    _, body = response(reads)
    assert body.tape.data == BODY
    # Each body byte's place in the raw bytes, found by looking for it one byte at a time.
    raw = Tape.of(wire.exchange(reads))
    alone = response([data[i : i + 1] for i in range(len(data))])[1].tape
    places = alone.reads(np.arange(1, len(BODY) + 1))
    assert (body.tape.reads(np.arange(1, len(BODY) + 1)) == raw.reads(places + 1)).all()


@settings(deadline=None)
@given(st.sampled_from(sorted(FRAMED)), st.integers(0, 10_000))
def test_a_response_cut_anywhere_is_no_error_and_no_whole_one(name: str, at: int) -> None:
    data = FRAMED[name]
    part = data[: at % len(data)]
    head = http1.head(part)
    if head is not None:
        body = http1.body(Tape.of(wire.exchange([part])), head)
        assert BODY.startswith(body.tape.data)
        assert not body.ended


@settings(deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"HTTP/1.1 ", wire.OK, wire.CHUNKED]))
def test_no_bytes_crash_it(rubbish: bytes, before: bytes) -> None:
    tape = Tape.of(wire.exchange([before + rubbish]))
    try:
        head = http1.head(tape.data)
        assert head is None or len(http1.body(tape, head).tape.data) <= len(tape.data)
    except http1.MalformedHttp as error:
        assert str(error)


def test_the_head_in_words_and_lower_case_names() -> None:
    head, _ = response([b"HTTP/1.1 503 Not Now\r\nX-A: 1\r\nx-a:  2 \r\nRetry-After:3\r\n\r\n"])
    assert (head.status, head.reason) == (503, "Not Now")
    assert head.headers == {"x-a": "1, 2", "retry-after": "3"}


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_has_none(status: bytes) -> None:
    _, body = response([b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\n\r\n"])
    assert (body.tape.data, body.ended) == (b"", True)


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
    data = head + chunks_of(packed, 11) + wire.LAST_CHUNK
    _, body = response([data[i : i + size] for i in range(0, len(data), size)])
    assert body.tape.data == BODY


def test_what_each_read_decodes_to_has_that_reads_time() -> None:
    packer = zlib.compressobj(wbits=31)
    flushed = [
        packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in (b"one", b"two", b"six")
    ]
    head = wire.OK + b"content-encoding: gzip\r\n\r\n"
    _, body = response([head, *flushed, packer.flush()])
    assert body.tape.data == b"onetwosix"
    assert body.tape.stamps[body.tape.reads(np.array([3, 6, 9]))].tolist() == [2000, 3000, 4000]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0", id="ssh"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", "x15", id="tls-alert"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", "HTTP/2", id="http2"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", "status line", id="status"),
        pytest.param(wire.OK + b"no colon\r\n\r\n", "no colon", id="header"),
        pytest.param(wire.OK + b"content-length: -1\r\n\r\n", "-1", id="negative-length"),
        pytest.param(wire.OK + b"content-length: 1, 2\r\n\r\n", "1, 2", id="two-lengths"),
        pytest.param(wire.CHUNKED + b"xyz\r\n", "xyz", id="chunk-size"),
        pytest.param(wire.CHUNKED + b"+5\r\nhello\r\n", "+5", id="signed-chunk-size"),
        pytest.param(wire.CHUNKED + b"f" * 5000, "fff", id="endless-chunk-size"),
        pytest.param(wire.CHUNKED + b"2\r\nhello\r\n", "followed by", id="chunk-too-long"),
        pytest.param(wire.OK + b"content-encoding: br\r\n\r\nx", "br", id="encoding"),
        pytest.param(wire.OK + b"content-encoding: gzip\r\n\r\nplain", "gzip", id="not-gzip"),
    ],
)
def test_malformed_framing_is_named(data: bytes, named: str) -> None:
    tape = Tape.of(wire.exchange([data]))
    with pytest.raises(http1.MalformedHttp, match=re.escape(named)):
        head = http1.head(tape.data)
        assert head is not None
        http1.body(tape, head)


BOMBS = {
    "gzip": (b"gzip", gzip.compress(bytes(1 << 24), 9)),
    "deflate": (b"deflate", zlib.compress(bytes(1 << 24), 9)),
    "gzip of gzip": (b"gzip, gzip", gzip.compress(gzip.compress(bytes(1 << 24), 9), 9)),
    "empty streams": (b"gzip", gzip.compress(b"") * 70_000),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("size", [100, 1 << 20])
def test_no_more_is_inflated_than_there_is_room_for(name: str, size: int) -> None:
    encoding, body = BOMBS[name]
    head = b"content-encoding: " + encoding + b"\r\n\r\n"
    tape = Tape.of(wire.exchange(wire.split(wire.OK + head + body, range(size, len(body), size))))
    found = http1.head(tape.data)
    assert found is not None
    tracemalloc.start()
    with pytest.raises(http1.TooLarge, match="more than 1000000 bytes"):
        http1.body(tape, found, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_what_just_fits_is_whole() -> None:
    data = wire.OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(BODY)
    tape = Tape.of(wire.exchange([data]))
    found = http1.head(tape.data)
    assert found is not None
    assert http1.body(tape, found, len(BODY)).tape.data == BODY
    with pytest.raises(http1.TooLarge):
        http1.body(tape, found, len(BODY) - 1)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        pytest.param(wire.OK + b"a: b\r\n" * 1001 + b"\r\n", "header lines", id="lines"),
        pytest.param(wire.OK + b"a: " + b"b" * 300_000 + b"\r\n\r\n", "a head of", id="long"),
        pytest.param(
            wire.OK + b"content-encoding: gzip, gzip, gzip, gzip\r\n\r\n", "4 content", id="stack"
        ),
        pytest.param(
            wire.CHUNKED + b"1;" + b"x" * 5000 + b"\r\na\r\n", "size line", id="extension"
        ),
    ],
)
def test_heads_and_size_lines_have_a_limit(data: bytes, named: str) -> None:
    tape = Tape.of(wire.exchange([data]))
    with pytest.raises(http1.MalformedHttp, match=named):
        head = http1.head(tape.data)
        assert head is not None
        http1.body(tape, head)
