"""The HTTP reader: every framing, on any split of the bytes, while they come and afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import wire_bytes as wire
from hypothesis import given, strategies as st
from spark_bench.protocol import http1
from spark_bench.protocol.content import Body, Tape, read_response
from spark_bench.protocol.http1 import BodyEnd, Framing, Head, MalformedHttp

OK, CHUNKED = wire.OK, wire.OK + b"transfer-encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What looks like the end of a body, and isn't.
TRAPS = [
    b"0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"data: x\r\n\r\n",
    b"data: 0\r\n\r\n",
    b"5\r\n",
    b"\n\n",
]


@dataclass(frozen=True)
class Response:
    """Its bytes, and what must be read from them."""

    wire: bytes
    content: bytes
    end: BodyEnd
    keep_alive: bool = True


contents = st.lists(st.one_of(st.sampled_from(TRAPS), st.binary(max_size=20)), max_size=6).map(
    b"".join
)
extensions = st.sampled_from([b"", b";a=1", b" ;note", b'; q="0"', b'; name="a value"'])
interim = st.sampled_from([b"", CONTINUE, b"HTTP/1.1 103 H\r\na: b\r\n\r\n" + CONTINUE])
# An unknown coding in front, a length that no longer holds.
codings = st.sampled_from([b"chunked", b"gzip-not, Chunked", b"chunked\r\ncontent-length: 3"])


@st.composite
def chunked(draw: st.DrawFn) -> Response:
    pieces = draw(st.lists(contents.filter(bool), max_size=5))
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), draw(extensions), piece) for piece in pieces)
    trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"a: 0\r\nb: \r\n"]))
    last = draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n" + trailers + b"\r\n"
    head = draw(interim) + OK + b"transfer-encoding: " + draw(codings) + b"\r\n\r\n"
    return Response(head + chunks + last, b"".join(pieces), BodyEnd.CHUNKED)


@st.composite
def sized(draw: st.DrawFn) -> Response:
    body = draw(contents)
    close = draw(st.booleans())
    length = draw(st.sampled_from([b"Content-Length: %d\r\n", b"content-length: %d, %d\r\n"]))
    head = OK + length.replace(b"%d", b"%d" % len(body)) + b"Connection: close\r\n" * close
    end = draw(st.sampled_from([b"\r\n", b"\n"]))
    head = (head + b"\r\n").replace(b"\r\n", end)
    return Response(draw(interim) + head + body, body, BodyEnd.LENGTH, not close)


@st.composite
def until_close(draw: st.DrawFn) -> Response:
    body = draw(contents)
    head = draw(
        st.sampled_from(
            [b"HTTP/1.0 200 OK\r\nserver: old", OK + b"transfer-encoding: x\r\ncontent-length: 3"]
        )
    )
    return Response(draw(interim) + head + b"\r\n\r\n" + body, body, BodyEnd.CLOSE, False)


framed = st.one_of(chunked(), sized())
responses = st.one_of(framed, until_close())
cuts = st.lists(st.integers(0, 400), max_size=30)


def follow(reads: Sequence[bytes]) -> tuple[str, int]:
    """How a response that comes like this goes on, and after how many reads that is known."""
    framing, data = Framing(), bytearray()
    for number, read in enumerate(reads):
        data += read
        try:
            if framing.ended(data):
                return "ended", number
        except MalformedHttp:
            return "malformed", number
    return "open", len(reads)


def whole(reads: Sequence[bytes]) -> tuple[Head, Body]:
    return read_response(Tape.of(wire.exchange(reads)))


# ---- while the bytes come ----------------------------------------------------------------------


@given(framed, cuts)
def test_the_end_is_the_last_byte(response: Response, at: list[int]) -> None:
    framing, data = Framing(), bytearray()
    *before, last = wire.split(response.wire, at)
    for read in before:
        data += read
        assert not framing.ended(data)
    data += last
    assert framing.ended(data)
    assert framing.ended(data), "and stays it"
    assert (framing.body_end, framing.keep_alive) == (response.end, response.keep_alive)
    assert framing.at == len(response.wire)


@given(responses, cuts, st.lists(st.booleans(), min_size=32, max_size=32))
def test_parsed_bytes_can_be_forgotten(
    response: Response, at: list[int], forgotten: list[bool]
) -> None:
    framing, data, ended = Framing(), bytearray(), False
    for read, forget in zip(wire.split(response.wire, at), forgotten, strict=False):
        data += read
        ended = framing.ended(data)
        if forget and framing.body_end is not None and not ended:
            count = framing.at
            del data[:count]
            framing.forget(count)
            assert framing.at == 0
    assert ended or framing.closed()


@given(responses)
def test_a_close_ends_only_bodies_without_another_end(response: Response) -> None:
    framing = Framing()
    ended = framing.ended(bytearray(response.wire[:-1]))
    assert not ended
    assert framing.closed() is (framing.body_end is BodyEnd.CLOSE)
    assert not framing.keep_alive


def test_bytes_after_the_end_end_the_connection() -> None:
    framing = Framing()
    assert framing.ended(bytearray(CHUNKED + b"0\r\n\r\nHTTP/1.1 408 Too slow\r\n\r\n"))
    assert not framing.keep_alive


@pytest.mark.parametrize(
    ("head", "end", "keep_alive"),
    [
        pytest.param(OK + b"\r\n", BodyEnd.CLOSE, False, id="no length"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
            BodyEnd.LENGTH,
            True,
            id="HTTP/1.0 keep-alive",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", BodyEnd.LENGTH, False, id="HTTP/1.0"
        ),
        pytest.param(
            OK + b"transfer-encoding: gzip\r\n\r\n", BodyEnd.CLOSE, False, id="another coding"
        ),
    ],
)
def test_response_heads_set_the_framing(head: bytes, end: BodyEnd, keep_alive: bool) -> None:
    framing = Framing()
    assert not framing.ended(bytearray(head))
    assert (framing.body_end, framing.keep_alive) == (end, keep_alive)


@pytest.mark.parametrize("status", [204, 304, 101])
def test_statuses_without_a_body(status: int) -> None:
    data = b"HTTP/1.1 %d X\r\ncontent-length: 9\r\n\r\n" % status
    framing = Framing()
    assert framing.ended(bytearray(data))
    assert framing.keep_alive is (status != 101)
    _, body = whole([data])
    assert (body.tape.data, body.ended) == (b"", True)


# ---- the whole response ------------------------------------------------------------------------


@given(responses, cuts)
def test_any_split_gives_the_same_body_and_each_byte_its_reads_time(
    response: Response, at: list[int]
) -> None:
    reads = wire.split(response.wire, at)
    head, body = whole(reads)
    assert (head.status, body.tape.data) == (200, response.content)
    assert body.ended is (None if response.end is BodyEnd.CLOSE else True)
    # Each body byte's place in the raw bytes, found by looking for it one byte at a time.
    raw = Tape.of(wire.exchange(reads))
    alone = whole([bytes([byte]) for byte in response.wire])[1].tape
    numbers = range(1, len(response.content) + 1)
    places = alone.reads(numbers)
    assert (body.tape.reads(numbers) == raw.reads(places + 1)).all()


@given(responses, st.integers(0, 10_000))
def test_a_response_cut_anywhere_is_no_error_and_no_whole_one(response: Response, at: int) -> None:
    part = response.wire[: at % len(response.wire)]
    if Framing().read_head(part):
        _, body = whole([part])
        assert response.content.startswith(body.tape.data)
        assert not body.ended
    else:
        with pytest.raises(MalformedHttp, match="no end"):
            whole([part])


def test_the_reason_and_lower_case_header_names() -> None:
    head, _ = whole([b"HTTP/1.1 503 Not Now\r\nX-A: 1\r\nx-a:  2 \r\nRetry-After:3\r\n\r\n"])
    assert (head.status, head.reason) == (503, "Not Now")
    assert head.headers == {"x-a": "1, 2", "retry-after": "3"}


# ---- what is no HTTP ---------------------------------------------------------------------------


@given(responses, cuts, st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_broken_bytes_mean_the_same_on_any_split(
    response: Response, at: list[int], place: int, noise: bytes
) -> None:
    place %= len(response.wire)
    data = response.wire[:place] + noise + response.wire[place + len(noise) :]
    assert follow([data])[0] == follow(wire.split(data, at))[0]


@given(st.binary(max_size=80), st.sampled_from([b"", b"HTTP/1.1 ", OK, CHUNKED]))
def test_no_bytes_crash_the_parser(noise: bytes, before: bytes) -> None:
    assert follow([before, noise])[0] in ("open", "malformed", "ended")
    try:
        assert len(whole([before + noise])[1].tape.data) <= len(before + noise)
    except MalformedHttp as error:
        assert str(error)


MALFORMED = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
    "TLS alert": (b"\x15\x03\x03\x00\x02\x02\x46", "x15"),
    "another HTTP": (b"HTTP/2 200\r\n\r\n", "HTTP/2"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 OK"),
    "long status": (b"HTTP/1.1 2000 OK\r\n\r\n", "2000"),
    "no colon": (OK + b"no colon\r\n\r\n", "no colon"),
    "negative length": (OK + b"content-length: -1\r\n\r\n", "-1"),
    "no ASCII digit": (OK + b"content-length: \xb2\r\n\r\n", "content-length"),
    "two lengths": (OK + b"content-length: 3, 4\r\n\r\n", "3, 4"),
    "endless length": (OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\n", "999"),
    "no hex": (CHUNKED + b"zz\r\n", "zz"),
    "no size": (CHUNKED + b"\r\n", "size"),
    "signed size": (CHUNKED + b"+5\r\nabcde\r\n", "+5"),
    "a number for Python alone": (CHUNKED + b"1_0\r\n", "1_0"),
    "prefixed size": (CHUNKED + b"0x5\r\nabcde\r\n", "0x5"),
    "bare line end": (CHUNKED + b"5\nabcde\n", "5"),
    "endless size": (CHUNKED + b"f" * 16 + b"\r\n", "fff"),
    "longer than it says": (CHUNKED + b"3\r\nabcdef\r\n", "followed by"),
    "one byte too long": (CHUNKED + b"3\r\nabcd", "followed by"),
    "endless extension": (CHUNKED + b"5;" + b"x" * http1.LONGEST_LINE, "size"),
    "endless head": (OK + b"x: " + b"y" * http1.LONGEST_HEAD, "no end"),
    "long head": (OK + b"a: " + b"b" * 300_000 + b"\r\n\r\n", "no end"),
    "many lines": (OK + b"a: b\r\n" * 1001 + b"\r\n", "1001 lines"),
    "endless interim heads": (CONTINUE * 20_000, "no end"),
    "endless trailer": (CHUNKED + b"0\r\nx: " + b"y" * http1.LONGEST_HEAD, "trailer"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_bytes_that_are_not_http_are_named(name: str) -> None:
    data, named = MALFORMED[name]
    with pytest.raises(MalformedHttp, match=re.escape(named)):
        Framing().ended(bytearray(data))
    with pytest.raises(MalformedHttp, match=re.escape(named)):
        whole([data])


def test_a_thousand_interim_heads_are_skipped() -> None:
    data = CONTINUE * 3000
    assert follow([data])[0] == "open"
    assert follow([data, OK + b"content-length: 0\r\n\r\n"]) == ("ended", 1)
