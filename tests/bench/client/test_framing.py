"""The end of a response is found on any split of its bytes, and never where it isn't."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spark_bench.client import framing
from spark_bench.client.framing import Body, Framing, NotHttp
from spark_bench.protocol import http1
from spark_bench.protocol.tape import Tape
from spark_bench.record import Exchange

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
# What looks like the end of a body, and isn't.
TRAPS = [
    b"0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"data: x\r\n\r\n",
    b"5\r\n",
    b"\n\n",
]


@dataclass(frozen=True)
class Response:
    """Its bytes and how its end is told."""

    wire: bytes
    body: Body
    keep_alive: bool = True


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(content), extension, content)


contents = st.lists(st.one_of(st.sampled_from(TRAPS), st.binary(max_size=20)), max_size=6).map(
    b"".join
)
extensions = st.sampled_from([b"", b";a=1", b" ;note", b'; q="0"'])
interim = st.sampled_from(
    [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 H\r\na: b\r\n\r\n"]
)


@st.composite
def chunked(draw: st.DrawFn) -> Response:
    pieces = draw(st.lists(contents.filter(bool), max_size=5))
    chunks = b"".join(chunk(piece, draw(extensions)) for piece in pieces)
    trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"a: 0\r\nb: \r\n"]))
    end = b"0" + draw(extensions) + b"\r\n" + trailers + b"\r\n"
    return Response(draw(interim) + CHUNKED + chunks + end, Body.CHUNKED)


@st.composite
def sized(draw: st.DrawFn) -> Response:
    body = draw(contents)
    close = draw(st.booleans())
    head = OK + b"Content-Length: %d\r\n" % len(body) + (b"Connection: close\r\n" if close else b"")
    return Response(draw(interim) + head + b"\r\n" + body, Body.LENGTH, not close)


responses = st.one_of(chunked(), sized())
cuts = st.lists(st.integers(0, 400), max_size=30)


def pieces(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in at if cut < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


def told(reads: Sequence[bytes]) -> tuple[str, int]:
    """How a response that comes like this goes on, and after how many reads that is known."""
    followed, data = Framing(), bytearray()
    for number, read in enumerate(reads):
        data += read
        try:
            if followed.ended(data):
                return "ended", number
        except NotHttp:
            return "not http", number
    return "open", len(reads)


@given(responses, cuts)
def test_the_end_is_the_last_byte(response: Response, at: list[int]) -> None:
    followed, data = Framing(), bytearray()
    *before, last = pieces(response.wire, at)
    for read in before:
        data += read
        assert not followed.ended(data)
    data += last
    assert followed.ended(data)
    assert followed.ended(data), "and stays it"
    assert (followed.body, followed.keep_alive) == (response.body, response.keep_alive)
    assert followed.at == len(response.wire)


@given(responses, cuts, st.lists(st.booleans(), min_size=32, max_size=32))
def test_what_is_understood_can_be_forgotten(
    response: Response, at: list[int], forgotten: list[bool]
) -> None:
    followed, data, ended = Framing(), bytearray(), False
    for read, forget in zip(pieces(response.wire, at), forgotten, strict=False):
        data += read
        ended = followed.ended(data)
        if forget and followed.body is not None and not ended:
            count = followed.at
            del data[:count]
            followed.forget(count)
            assert followed.at == 0
    assert ended


@given(responses, cuts, st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_broken_bytes_mean_the_same_on_any_split(
    response: Response, at: list[int], place: int, noise: bytes
) -> None:
    place %= len(response.wire)
    wire = response.wire[:place] + noise + response.wire[place + len(noise) :]
    assert told([wire])[0] == told(pieces(wire, at))[0]


@given(st.binary(max_size=60))
def test_any_bytes_are_survived(noise: bytes) -> None:
    assert told([noise])[0] in ("open", "not http")
    assert told([CHUNKED, noise])[0] in ("open", "not http", "ended")


@given(responses)
def test_what_reads_the_bodies_later_agrees(response: Response) -> None:
    stamps, ends = array("q", [1]), array("q", [len(response.wire)])
    head = http1.head(response.wire)
    assert head
    tape = Tape.of(Exchange(0, stamps=stamps, ends=ends, data=response.wire))
    assert http1.body(tape, head).ended is True


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"0\r\n\r\n", id="a last chunk inside a chunk"),
        pytest.param(b"data: 0\r\n\r\n", id="CRLF events"),
        pytest.param(b"x\r\n0\r\n\r\n", id="with the line end before"),
    ],
)
def test_no_end_inside_a_chunk(content: bytes) -> None:
    followed, data = Framing(), bytearray(CHUNKED)
    for byte in chunk(content):
        data.append(byte)
        assert not followed.ended(data)
    assert followed.ended(data + b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "body", "keep_alive"),
    [
        pytest.param(OK + b"\r\n", Body.CLOSE, False, id="no length"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", Body.CLOSE, False, id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
            Body.LENGTH,
            True,
            id="HTTP/1.0 keep-alive",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Body.LENGTH, False, id="1.0"),
        pytest.param(OK + b"content-length: 5, 5\r\n\r\n", Body.LENGTH, True, id="told twice"),
        pytest.param(
            OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            Body.CHUNKED,
            True,
            id="chunks go before the length",
        ),
        pytest.param(
            OK + b"transfer-encoding: gzip, Chunked\r\n\r\n", Body.CHUNKED, True, id="two codings"
        ),
        pytest.param(OK + b"transfer-encoding: gzip\r\n\r\n", Body.CLOSE, False, id="one coding"),
        pytest.param(b"HTTP/1.1 200 OK\ncontent-length: 5\n\n", Body.LENGTH, True, id="bare LF"),
    ],
)
def test_heads(head: bytes, body: Body, keep_alive: bool) -> None:
    followed = Framing()
    assert not followed.ended(bytearray(head))
    assert (followed.body, followed.keep_alive) == (body, keep_alive)


@pytest.mark.parametrize("status", [204, 304, 101])
def test_statuses_without_a_body(status: int) -> None:
    followed = Framing()
    assert followed.ended(bytearray(b"HTTP/1.1 %d X\r\ncontent-length: 9\r\n\r\n" % status))
    assert followed.keep_alive is (status != 101)


def test_a_close_ends_a_body_without_length() -> None:
    followed = Framing()
    assert not followed.ended(bytearray(OK + b"\r\nanything"))
    assert followed.closed()
    assert not followed.keep_alive


@pytest.mark.parametrize(
    "come", [b"", OK, CHUNKED + b"5\r\nab", OK + b"content-length: 3\r\n\r\na"]
)
def test_a_close_before_the_end_is_none(come: bytes) -> None:
    followed = Framing()
    assert not followed.ended(bytearray(come))
    assert not followed.closed()


def test_bytes_after_the_end_end_the_connection() -> None:
    followed = Framing()
    assert followed.ended(bytearray(CHUNKED + b"0\r\n\r\nHTTP/1.1 408 Too slow\r\n\r\n"))
    assert not followed.keep_alive


def test_a_thousand_interim_heads() -> None:
    followed = Framing()
    data = bytearray(b"HTTP/1.1 100 Continue\r\n\r\n" * 3000)
    assert not followed.ended(data)
    assert followed.ended(data + OK + b"content-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"HTTP/2 200\r\n\r\n", id="another HTTP"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(OK + b"content-length: -1\r\n\r\n", id="negative length"),
        pytest.param(OK + b"content-length: 3, 4\r\n\r\n", id="two lengths"),
        pytest.param(OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\n", id="endless length"),
        pytest.param(CHUNKED + b"zz\r\n", id="no hex"),
        pytest.param(CHUNKED + b"\r\n", id="no size"),
        pytest.param(CHUNKED + b"-5\r\nabcde\r\n", id="negative size"),
        pytest.param(CHUNKED + b"1_0\r\n", id="a number for Python alone"),
        pytest.param(CHUNKED + b"0x5\r\nabcde\r\n", id="0x"),
        pytest.param(CHUNKED + b"f" * 16 + b"\r\n", id="endless chunk"),
        pytest.param(CHUNKED + b"3\r\nabcdef\r\n", id="longer than it says"),
        pytest.param(CHUNKED + b"5;" + b"x" * framing.LONGEST_LINE, id="endless extension"),
        pytest.param(OK + b"x: " + b"y" * framing.LONGEST_HEAD, id="endless head"),
        pytest.param(CHUNKED + b"0\r\nx: " + b"y" * framing.LONGEST_HEAD, id="endless trailer"),
    ],
)
def test_what_is_not_http(wire: bytes) -> None:
    with pytest.raises(NotHttp, match=r"\w"):
        Framing().ended(bytearray(wire))
