"""Server-sent events: every line end, every oddity, and the fast way beside the general one."""

from __future__ import annotations

import time

import numpy as np
import pytest
import wire_bytes as wire
from hypothesis import given, strategies as st
from spark_bench.protocol import sse
from spark_bench.protocol.content import ParsedResponse, Tape, parse_response, read_response


@pytest.mark.parametrize(
    ("body", "data"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="lf"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="cr"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"], id="mixed"),
        pytest.param(b"data:a\n\ndata:  b\n\n", [b"a", b" b"], id="blanks"),
        pytest.param(b"data: a\ndata: b\ndata\ndata: c\n\n", [b"a\nb\n\nc"], id="several-lines"),
        pytest.param(b": ping\n\ndata: a\n: x\n\n", [b"a"], id="comments"),
        pytest.param(b"id: 1\nevent: m\nretry: 5\ndata: a\n\n", [b"a"], id="fields"),
        pytest.param(b"data: a\n\ndata: b", [b"a", b"b"], id="no-line-end-at-the-end"),
        pytest.param(b"data: a\n\ndata: b\n", [b"a", b"b"], id="no-blank-line-at-the-end"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte-order-mark"),
        pytest.param(b"data: \n\nevent: x\n\n\n\n", [], id="empty-events"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_events(body: bytes, data: list[bytes]) -> None:
    events = sse.parse_events(body)
    assert events.data == data
    assert events.problem == ""


def test_an_event_ends_with_its_blank_line() -> None:
    assert sse.parse_events(b"data: a\n\n: c\n\ndata: b\r\n\r\ndata: c").ends == [9, 25, 32]


def test_the_rest_of_a_cut_stream_is_not_an_event() -> None:
    assert sse.parse_events(b'data: a\n\ndata: {"id', whole=False).data == [b"a"]
    assert sse.parse_events(b"data: a\n\ndata: b\n", whole=False).data == [b"a"]


@pytest.mark.parametrize("named", [b"event: error\ndata: b", b"error: b"])
def test_events_that_name_themselves_an_error(named: bytes) -> None:
    events = sse.parse_events(b"data: a\n\n" + named + b"\n\ndata: c\n\n")
    assert events.data == [b"a", b"b", b"c"]
    assert events.errors == {1}


@pytest.mark.parametrize("line", [b"<html>", b'{"a":1}', b"dat: x", b" data: x"])
def test_a_line_outside_the_format_is_reported(line: bytes) -> None:
    assert sse.parse_events(b"data: a\n\n" + line + b"\n\n").problem == line.decode()


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
END = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=6), END, st.data())
def test_every_stream_is_read_back(
    events: list[list[str]], end: bytes, data: st.DataObject
) -> None:
    lines = [[text.replace("\n", "?").replace("\r", "!").encode() for text in e] for e in events]
    body = b"".join(b"".join(b"data: " + x + end for x in each) + end for each in lines)
    result = sse.parse_events(body)
    assert result.data == [b"\n".join(each) for each in lines]
    assert result.ends == [e for e in result.ends if body[:e].endswith(end + end)]


# What a server may send as a chunk: mostly one event, as nearly all do.
PIECES = st.one_of(
    TEXTS.map(lambda text: wire.event(wire.delta(content=text))),
    TEXTS.map(lambda text: wire.event({"a": text})),
    st.sampled_from(
        [
            wire.DONE,
            b": ping\n\n",
            b"data: \n\n",
            b"data:x\n\n",
            b"data: a\ndata: b\n\n",
            b"data: a\r\n\r\n",
            b"data: a\n\ndata: b\n\n",
            b"data: a",
            b"\n\n",
            b"data: a\n\n\r\n",
            b"event: error\ndata: x\n\n",
        ]
    ),
)
CUTS = st.lists(st.integers(0, 100_000), max_size=20)


def general(reads: list[bytes]) -> ParsedResponse:
    head, body = read_response(Tape.of(wire.exchange(reads)))
    events = sse.parse_events(body.tape.data, whole=bool(body.ended))
    answer = ParsedResponse(
        head.status, data=events.data, errors=events.errors, problem=events.problem
    )
    answer.place(body.tape, np.array(events.ends, np.int64))
    return answer


@given(st.lists(PIECES, max_size=8), CUTS, st.booleans())
def test_the_fast_path_gives_the_same_events_as_the_general_one(
    pieces: list[bytes], cuts: list[int], upper: bool
) -> None:
    chunks = [wire.chunk(piece) for piece in pieces]
    if upper:
        chunks = [b"0" + c.split(b"\r")[0].upper() + c[len(c.split(b"\r")[0]) :] for c in chunks]
    data = wire.CHUNKED + b"".join(chunks) + wire.LAST_CHUNK
    reads = wire.split(data, cuts)
    fast, slow = parse_response(wire.exchange(reads)), general(reads)
    assert (list(fast.data), fast.errors, fast.problem) == (slow.data, slow.errors, slow.problem)
    assert fast.reads.tolist() == slow.reads.tolist()
    assert fast.stamps.tolist() == slow.stamps.tolist()
    if all(piece.startswith(b"data: {") for piece in pieces) and pieces:
        assert sse.split_events(data, len(wire.CHUNKED)) is not None


@given(st.lists(PIECES, min_size=1, max_size=4), st.integers(0, 10_000), st.integers(0, 255))
def test_both_paths_agree_on_any_changed_byte(pieces: list[bytes], at: int, byte: int) -> None:
    data = bytearray(b"".join(wire.chunked(pieces)))
    start = len(wire.CHUNKED)
    data[start + at % (len(data) - start)] = byte
    fast = sse.split_events(bytes(data), start)
    if fast is not None:
        slow = general([bytes(data)])
        assert (list(fast[0]), slow.problem, slow.errors) == (slow.data, "", set())
        assert slow.reads.tolist() == [0] * len(fast[0])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(wire.chunk(b"data: \n\n"), id="empty-event"),
        pytest.param(b"9;x=1\r\ndata: a\n\n\r\n", id="extension"),
        pytest.param(b" 9\r\ndata: a\n\n\r\n", id="blank-before-size"),
        pytest.param(b"0x9\r\ndata: a\n\n\r\n", id="prefixed-size"),
        pytest.param(b"8\r\ndata: a\n\n\r\n", id="wrong-size"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_the_fast_path_declines_any_other_stream(body: bytes) -> None:
    good = wire.chunk(b"data: a\n\n")
    assert sse.split_events(good + wire.LAST_CHUNK, 0) is not None
    assert sse.split_events(body + good * (body != b"") + wire.LAST_CHUNK, 0) is None


@pytest.mark.parametrize("size", [64, 100, 4096])
def test_a_long_answer_is_parsed_in_blocks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "BLOCK", size)
    monkeypatch.setattr(sse, "SHORT", size)
    reads = wire.chunked([b"data: %s\n\n" % (b"x" * (i % 30 + 1)) for i in range(200)])
    data, slow = b"".join(reads), general(reads)
    fast = sse.split_events(data, len(wire.CHUNKED))
    assert fast is not None and list(fast[0]) == slow.data
    assert [fast[0][i] for i in (199, 0, 150, -1)] == [slow.data[i] for i in (199, 0, 150, -1)]
    assert list(fast[0][20:150]) == slow.data[20:150]
    complete = np.cumsum([len(r) for r in reads])[1:-1] - len(b"\r\n")
    assert fast[1].tolist() == complete.tolist()
    assert sse.split_events(data.replace(b"x\n", b"xx\n", 1), len(wire.CHUNKED)) is None


@pytest.mark.parametrize("last", [b"", b"0\r\n", b"0z\r\n\r\n", b"0\r\nx: y\r\n\r\n"])
def test_the_fast_path_needs_the_last_chunk(last: bytes) -> None:
    assert sse.split_events(wire.chunk(b"data: a\n\n") + last, 0) is None


def test_one_read_may_complete_several_events() -> None:
    reads = [wire.CHUNKED, b"".join(map(wire.chunk, [b"data: a\n\n", b"data: b\n\n"]))]
    reads += [wire.chunk(b"data: c\n\n"), wire.chunk(b"data: d\n\n") * 3 + wire.LAST_CHUNK]
    response = parse_response(wire.exchange(reads))
    assert response.stamps.tolist() == [2000, 2000, 3000, 4000, 4000, 4000]
    assert response.merged_reads == 2


def test_an_unterminated_line_takes_linear_time() -> None:
    """With quadratic time, a tenth of this would have taken minutes."""
    started = time.process_time()
    assert not sse.parse_events(b"data: " + b"a" * 4_000_000, whole=False).data
    assert time.process_time() - started < 5
