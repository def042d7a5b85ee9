"""The built-in reference server, itself measured against the clock and read byte by byte."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from spark_bench.errors import BadInput, BenchError
from spark_bench.reference_server.launcher import ReferenceServer, build_reference_server, compiler
from spark_bench.reference_server.streams import Flags, ReferenceApi, ground_truth, peak
from waiting import until

CHAT = "/v1/chat/completions"
FAST = {"ttft_us": 20_000, "itl_us": 5_000}
FIREHOSE = {"ttft_us": 0, "itl_us": 0}


def connect(reference: ReferenceServer) -> HTTPConnection:
    parts = urlsplit(reference.url)
    return HTTPConnection(parts.hostname or "", parts.port, timeout=30)


def send_request(connection: HTTPConnection, path: str = CHAT, **body: Any) -> None:
    if path == CHAT:
        body = {"messages": [{"role": "user", "content": "one two three"}], **body}
    connection.request("POST", path, json.dumps({"stream": True, **body}))


def send(connection: HTTPConnection, path: str = CHAT, **body: Any) -> HTTPResponse:
    send_request(connection, path, **body)
    return connection.getresponse()


def post(reference: ReferenceServer, path: str = CHAT, **body: Any) -> tuple[int, bytes]:
    with closing(connect(reference)) as connection:
        response = send(connection, path, **body)
        return response.status, response.read()


def events(body: bytes) -> list[Any]:
    lines = body.decode().split("\n\n")
    assert lines.pop() == ""
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def ask(reference: ReferenceServer, path: str = CHAT, **body: Any) -> list[Any]:
    status, answer = post(reference, path, **body)
    assert status == 200
    return events(answer)


def ask_many(
    reference: ReferenceServer, count: int, path: str = CHAT, **body: Any
) -> list[list[Any]]:
    """All requests at once: sent by one thread over open connections, then read by several."""
    with ExitStack() as ends, ThreadPoolExecutor(count) as pool:
        connections = [ends.enter_context(closing(connect(reference))) for _ in range(count)]
        for connection in connections:
            connection.connect()
        for connection in connections:
            send_request(connection, path, **body)
        return list(pool.map(lambda c: events(c.getresponse().read()), connections))


def deltas(answer: list[Any]) -> list[dict[str, str]]:
    return [event["choices"][0]["delta"] for event in answer if event["choices"]]


def words(count: int, first: int = 0) -> str:
    return "".join(f" w{(first + i) % 1000}" for i in range(count))


def text_of(answer: list[Any]) -> str:
    return "".join(delta.get("content") or "" for delta in deltas(answer))


def get(reference: ReferenceServer, path: str) -> bytes:
    with urllib.request.urlopen(reference.url + path, timeout=10) as answer:
        body: bytes = answer.read()
        return body


# ---- its clock ---------------------------------------------------------------------------------


def test_chunks_are_sent_on_schedule(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=50_000, itl_us=5_000)
    ask(reference, max_tokens=60)
    (stream,) = reference.dump()
    true = ground_truth([stream])
    # Late by what a busy machine makes it, but never early, and without drift.
    assert 0.050 <= true.ttft[0] < 0.250
    assert np.median(true.itl) == pytest.approx(0.005, rel=0.2)
    assert true.e2e[0] == pytest.approx(0.050 + 59 * 0.005, rel=0.1)
    assert true.e2e_done[0] >= true.e2e[0]


def test_server_stamps_use_the_clients_clock(reference: ReferenceServer) -> None:
    reference.configure(**FAST)
    with closing(connect(reference)) as connection:
        connection.connect()
        before = time.perf_counter_ns()
        response = send(connection, max_tokens=20)
        received = []
        while line := response.readline():
            if b'"content":" w' in line:
                received.append(time.perf_counter_ns())
        after = time.perf_counter_ns()
    (stream,) = reference.dump()
    assert stream.id == int(response.headers["x-reference-id"])
    lags = np.array(received) - stream.sent_ns
    assert len(lags) == 20
    assert np.all(lags > 0)
    assert lags.min() < 5e6, "one clock: but for how late a busy machine reads"
    assert before < stream.asked_ns <= stream.started_ns < stream.role_ns < stream.sent_ns[0]
    assert stream.sent_ns[-1] < stream.done_ns < after


def test_a_decode_clock_makes_all_streams_emit_together(reference: ReferenceServer) -> None:
    reference.configure(step=1, ttft_us=50_000, itl_us=20_000)
    ask_many(reference, 8, max_tokens=60)
    streams = reference.dump()
    # Only while all of them emit: on a busy machine a request may be sent late.
    begun = max(stream.sent_ns[0] for stream in streams)
    ended = min(stream.sent_ns[-1] for stream in streams)
    first, *others = [s.sent_ns[(begun <= s.sent_ns) & (s.sent_ns <= ended)] for s in streams]
    assert len(first) >= 10
    for other in others:
        # Steps are 20 ms apart; without a common clock the nearest would be 5 ms away.
        nearest = [np.min(np.abs(other - sent)) for sent in first]
        assert np.median(nearest) < 2e6


def test_a_longer_prompt_takes_longer(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=10_000, itl_us=1_000, ttft_per_in_us=100)
    ask(reference, "/v1/completions", prompt="word " * 500, max_tokens=2)
    (stream,) = reference.dump()
    assert 0.060 <= ground_truth([stream]).ttft[0] < 0.250


def test_firehose_emits_faster_than_any_engine(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE, burst=16)
    before = reference.stats()
    status, body = post(reference, max_tokens=50_000)
    after = reference.stats()
    assert status == 200
    assert text_of(events(body)) == words(50_000)
    used = after.cpu_user_s + after.cpu_sys_s - before.cpu_user_s - before.cpu_sys_s
    assert after.chunks == 50_000
    # Ten times slower than it is, for sanitizers and slow machines.
    assert after.chunks / used > 40_000


def test_all_streams_pause_when_the_engine_stalls(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=10_000, itl_us=5_000, stall_every_ms=300, stall_ms=100)
    ask_many(reference, 4, max_tokens=100)
    for stream in reference.dump():
        gaps = np.diff(stream.sent_ns) / 1e6
        # 500 ms of work meet one pause or two.
        assert 1 <= np.count_nonzero(gaps > 90) <= 2
        assert np.median(gaps) == pytest.approx(5, rel=0.3)
    starts = [s.sent_ns[np.argmax(np.diff(s.sent_ns) > 90e6)] for s in reference.dump()]
    assert max(starts) - min(starts) < 20e6


def test_one_stream_is_slow_once(reference: ReferenceServer) -> None:
    reference.configure(**FAST, slow_one=3, slow_ms=150)
    for _ in range(3):
        ask(reference, max_tokens=20)
    gaps = [np.diff(stream.sent_ns) / 1e6 for stream in reference.dump()]
    assert [int(np.count_nonzero(gap > 120)) for gap in gaps] == [0, 0, 1]
    assert int(np.argmax(gaps[2])) == 9
    assert reference.dump()[2].flags & Flags.SLOW


@pytest.mark.parametrize(
    "pace",
    [
        pytest.param({"ttft_us": 0, "itl_us": 5_000, "step": 1}, id="decode-clock"),
        pytest.param(FIREHOSE, id="firehose"),
    ],
)
def test_a_slow_stream_does_not_hold_up_the_others(
    reference: ReferenceServer, pace: dict[str, int]
) -> None:
    reference.configure(**pace, slow_one=2, slow_ms=150)
    ask_many(reference, 2, max_tokens=20)
    slow, fast = sorted(reference.dump(), key=lambda stream: not stream.flags & Flags.SLOW)
    assert np.max(np.diff(slow.sent_ns)) > 140e6
    assert np.max(np.diff(fast.sent_ns)) < 100e6


# ---- its bytes ---------------------------------------------------------------------------------


def test_a_chat_answer_is_sglangs(reference: ReferenceServer) -> None:
    reference.configure(**FAST)
    usage = {"include_usage": True}
    with closing(connect(reference)) as connection:
        response = send(connection, model="some", max_tokens=3, stream_options=usage)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        number = int(response.headers["x-reference-id"])
        answer = events(response.read())
    assert {int(event["id"], 16) for event in answer} == {number}
    assert {event["model"] for event in answer} == {"some"}
    assert {event["object"] for event in answer} == {"chat.completion.chunk"}
    assert deltas(answer) == [
        {"reasoning_content": None, "role": "assistant", "content": ""},
        {"reasoning_content": None, "content": " w0"},
        {"reasoning_content": None, "content": " w1"},
        {"reasoning_content": None, "content": " w2"},
        {"reasoning_content": None},
    ]
    assert answer[-2]["choices"][0]["finish_reason"] == "length"
    assert answer[-1]["choices"] == []
    assert answer[-1]["usage"] == {
        "prompt_tokens": 3,
        "total_tokens": 6,
        "completion_tokens": 3,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
    }


def test_the_completions_endpoint_streams_text(reference: ReferenceServer) -> None:
    reference.configure(**FAST)
    answer = ask(reference, "/v1/completions", prompt="a b", max_tokens=2)
    assert [event["choices"][0]["text"] for event in answer] == [" w0", " w1", ""]
    assert reference.dump()[0].api == ReferenceApi.COMPLETION


def test_the_native_api_repeats_its_text(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE)
    answer = ask(reference, "/generate", text="a", sampling_params={"max_new_tokens": 3})
    assert [event["text"] for event in answer] == [" w0", " w0 w1", " w0 w1 w2"]
    reference.configure(**FIREHOSE, burst=8, k=500)
    count = 50_000  # far beyond 64 KiB of text
    answer = ask(reference, "/generate", text="a", sampling_params={"max_new_tokens": count})
    assert answer[-1]["text"] == words(count)
    assert answer[-1]["meta_info"]["finish_reason"] == {"type": "length", "length": count}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/generate"])
def test_an_answer_in_one_piece(reference: ReferenceServer, path: str) -> None:
    reference.configure(**FAST)
    status, body = post(
        reference, path, stream=False, max_tokens=5, sampling_params={"max_new_tokens": 5}
    )
    assert status == 200
    assert words(5) in body.decode()
    assert json.loads(body).get("usage", {"completion_tokens": 5})["completion_tokens"] == 5
    (stream,) = reference.dump()
    assert stream.flags & Flags.NOT_STREAMED
    assert 0.035 < (stream.done_ns - stream.asked_ns) / 1e9 < 0.2


def test_a_chunk_of_any_size(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE, k=1_000_000)
    assert text_of(ask(reference, max_tokens=50_000)) == words(50_000)


def test_hidden_tokens_take_their_time(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=20_000, itl_us=10_000, hidden=3)
    answer = ask(reference, max_tokens=8, stream_options={"include_usage": True})
    assert text_of(answer) == words(5)
    assert answer[-1]["usage"]["completion_tokens"] == 8
    (stream,) = reference.dump()
    assert 0.020 <= (stream.role_ns - stream.started_ns) / 1e9 < 0.045
    assert 0.050 <= (stream.sent_ns[0] - stream.started_ns) / 1e9 < 0.080


@pytest.mark.parametrize("pace", [FAST, FIREHOSE, {**FAST, "step": 1}])
def test_all_tokens_hidden(reference: ReferenceServer, pace: dict[str, int]) -> None:
    reference.configure(**pace, hidden=5)
    answer = ask(reference, max_tokens=3, stream_options={"include_usage": True})
    assert text_of(answer) == ""
    assert answer[-1]["usage"]["completion_tokens"] == 3


def test_the_role_event_can_come_early(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=50_000, itl_us=5_000, role_early=1)
    answer = ask(reference, max_tokens=3)
    assert [delta.get("role") for delta in deltas(answer)] == ["assistant", *[None] * 4]
    (stream,) = reference.dump()
    assert (stream.sent_ns[0] - stream.role_ns) / 1e9 > 0.040


def test_reasoning_comes_first(reference: ReferenceServer) -> None:
    reference.configure(**FAST, reasoning=2)
    answer = ask(reference, max_tokens=5, stream_options={"include_usage": True})
    thoughts = [delta["reasoning_content"] for delta in deltas(answer) if delta]
    assert thoughts == [None, " w0", " w1", None, None, None, None]
    assert text_of(answer) == words(3, 2)
    assert answer[-1]["usage"]["reasoning_tokens"] == 2


def test_a_model_that_stops_early(reference: ReferenceServer) -> None:
    reference.configure(**FAST, stop_at=4)
    answer = ask(reference, max_tokens=9, stream_options={"include_usage": True})
    assert text_of(answer) == words(4)
    assert answer[-2]["choices"][0]["finish_reason"] == "stop"
    assert answer[-1]["usage"]["completion_tokens"] == 4
    assert ask(reference, max_tokens=4)[-1]["choices"][0]["finish_reason"] == "length"


# ---- its faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [FAST, {**FIREHOSE, "burst": 16}, {**FAST, "step": 1}])
def test_a_connection_cut_half_way(reference: ReferenceServer, pace: dict[str, int]) -> None:
    reference.configure(**pace, cut_every=1)
    with closing(connect(reference)) as connection:
        response = send(connection, max_tokens=10)
        with pytest.raises(IncompleteRead) as cut:
            response.read()
    assert words(1, 4).encode() in cut.value.partial
    assert words(1, 5).encode() not in cut.value.partial
    (stream,) = reference.dump()
    assert stream.flags & Flags.CUT
    assert not stream.flags & Flags.CLIENT_GONE
    assert (len(stream.sent_ns), stream.done_ns, stream.ok) == (5, 0, False)


@pytest.mark.parametrize("pace", [FAST, {**FIREHOSE, "burst": 16}, {**FAST, "step": 1}])
def test_an_error_in_the_stream(reference: ReferenceServer, pace: dict[str, int]) -> None:
    reference.configure(**pace, err_every=1)
    answer = ask(reference, max_tokens=10, stream_options={"include_usage": True})
    assert text_of(answer[:-1]) == words(5)
    assert answer[-1]["error"]["message"] == "injected"
    assert not reference.dump()[0].ok


@pytest.mark.parametrize("fault", ["cut_every", "err_every"])
def test_faults_apply_to_unstreamed_answers(reference: ReferenceServer, fault: str) -> None:
    reference.configure(**FAST, **{fault: 1})
    if fault == "cut_every":
        with pytest.raises(ConnectionError):
            post(reference, stream=False, max_tokens=2)
    else:
        assert post(reference, stream=False, max_tokens=2)[0] == 500


def test_requests_beyond_the_limit_queue(reference: ReferenceServer) -> None:
    reference.configure(**FAST, max_running=2)
    ask_many(reference, 6, max_tokens=10)
    streams = sorted(reference.dump(), key=lambda stream: stream.started_ns)
    assert peak([s.started_ns for s in streams], [s.done_ns for s in streams]) == 2
    assert [s.id for s in streams] == sorted(s.id for s in streams)
    waits = [(s.started_ns - s.asked_ns) / 1e9 for s in streams]
    assert max(waits[:2]) < 0.02
    assert min(waits[4:]) > 0.1


def test_a_client_that_leaves_makes_room_for_the_next(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=10_000, itl_us=100_000, max_running=1)
    gone, waiting = connect(reference), connect(reference)
    send(gone, max_tokens=1_000)
    waiting.request("POST", CHAT, json.dumps({"stream": True, "max_tokens": 1}))
    gone.close()
    assert waiting.getresponse().read().endswith(b"data: [DONE]\n\n")
    waiting.close()
    assert reference.stats().client_gone == 1
    assert [bool(s.flags & Flags.CLIENT_GONE) for s in reference.dump()] == [True, False]


def test_a_client_that_leaves_the_queue(reference: ReferenceServer) -> None:
    reference.configure(**FAST, max_running=1)
    connections = [connect(reference) for _ in range(4)]
    for connection in connections:
        connection.request("POST", CHAT, json.dumps({"stream": True, "max_tokens": 20}))
    until(lambda: reference.stats().queued == 3)
    connections[3].close()
    connections[1].close()
    assert connections[2].getresponse().read().endswith(b"data: [DONE]\n\n")
    connections[0].close()
    connections[2].close()
    assert (reference.stats().running, reference.stats().queued) == (0, 0)


def test_reset_while_streams_run_keeps_them(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=50_000, itl_us=5_000)
    ask(reference, max_tokens=1)
    with closing(connect(reference)) as connection:
        connection.request("POST", CHAT, json.dumps({"stream": True, "max_tokens": 20}))
        while not reference.stats().running:
            time.sleep(0.001)
        reference.reset()
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    (stream,) = reference.dump()
    assert len(stream.sent_ns) == 20
    reference.reset()
    assert reference.dump() == []


def test_a_client_that_does_not_read(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE, burst=16)
    with closing(connect(reference)) as connection:
        connection.request("POST", CHAT, json.dumps({"stream": True, "max_tokens": 60_000}))
        while not reference.stats().eagain:
            time.sleep(0.001)
        before = reference.stats()
        assert text_of(ask(reference, max_tokens=100)) == words(100)
        time.sleep(0.2)
        after = reference.stats()
        used = after.cpu_user_s + after.cpu_sys_s - before.cpu_user_s - before.cpu_sys_s
        assert used < 0.1  # it sleeps, it doesn't spin
        assert text_of(events(connection.getresponse().read())) == words(60_000)
    assert reference.dump()[0].blocked > 0


def test_a_storm_of_clients_that_come_and_go(reference: ReferenceServer) -> None:
    rng = random.Random(1)
    shapes: list[dict[str, int]] = [
        {"role_early": 1, "max_running": 4, "cut_every": 3},
        {"step": 1, "slow_one": 2, "slow_ms": 10, "err_every": 5},
        {"stall_every_ms": 20, "stall_ms": 5, "hidden": 2, "k": 3},
        {"itl_us": 0, "ttft_us": 0, "burst": 8, "split": 1, "max_running": 3},
        {"itl_us": 0, "fail_every": 4, "slow_one": 3, "slow_ms": 5},
    ]
    parts = urlsplit(reference.url)
    for _ in range(12):
        reference.configure(**{"ttft_us": 2_000, "itl_us": 1_000, **rng.choice(shapes)})
        with ExitStack() as stack:
            for _ in range(30):
                address = (parts.hostname, parts.port)
                client = stack.enter_context(socket.create_connection(address))
                path = rng.choice([CHAT, "/v1/completions", "/generate"])
                body = {"stream": rng.random() < 0.8, "max_tokens": rng.randrange(1, 200)}
                request = post_bytes(b"", json.dumps(body).encode(), path)
                client.sendall(request * rng.randrange(1, 4))
                if rng.random() < 0.5:
                    client.close()
            time.sleep(rng.random() * 0.03)
            reference.reset()
    until(lambda: not (reference.stats().running or reference.stats().queued))
    reference.configure(**FAST)
    reference.reset()
    assert text_of(ask(reference, max_tokens=5)) == words(5)
    assert len(reference.dump()) == 1


# ---- HTTP --------------------------------------------------------------------------------------


def raw(reference: ReferenceServer, *pieces: bytes) -> Iterator[bytes]:
    parts = urlsplit(reference.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        while data := connection.recv(65536):
            yield data


BODY = json.dumps({"stream": True, "max_tokens": 2, "messages": []}).encode()
CLOSE = b"Connection: close\r\n"


def post_bytes(head: bytes, body: bytes = BODY, path: str = CHAT) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n%s" % (path.encode(), length, head, body)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_in_pieces(reference: ReferenceServer, size: int) -> None:
    reference.configure(**FIREHOSE)
    request = post_bytes(CLOSE)
    pieces = [request[i : i + size] for i in range(0, len(request), size)]
    if size == 1:
        pieces = [request[:1], request[1:90], *(bytes([b]) for b in request[90:110]), request[110:]]
    assert b"".join(raw(reference, *pieces)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_chunked_request(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE)
    head = b"POST /generate HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    body = b'{"text":"a b c","stream":true,"sampling_params":{"max_new_tokens":2}}'
    chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n" % (9, body[:9], len(body) - 9, body[9:])
    answer = b"".join(raw(reference, head + chunks[:30], chunks[30:], b"0\r\n\r\n"))
    assert b'"text":" w0 w1"' in answer
    assert reference.dump()[0].prompt_tokens == 3


def test_expect_100_continue(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE)
    request = post_bytes(CLOSE + b"Expect: 100-continue\r\n")
    head = request[: -len(BODY)]
    answer = b"".join(raw(reference, head, BODY[:5], BODY[5:]))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.count(b"100 Continue") == 1


def test_requests_sent_ahead_are_answered_in_turn(reference: ReferenceServer) -> None:
    reference.configure(**FAST)
    answer = b"".join(raw(reference, post_bytes(b"") * 2 + post_bytes(CLOSE)))
    assert answer.count(b"data: [DONE]") == 3
    assert [stream.earlier for stream in reference.dump()] == [0, 1, 2]


def test_a_body_that_is_not_json(reference: ReferenceServer) -> None:
    for body in (
        b"",
        b"nonsense",
        b"[]",
        b'{"a":',
        b'{"model":"x',
        b'{"a" 1}',
        b'{"m":[[[}',
        b"\0",
    ):
        answer = b"".join(raw(reference, post_bytes(CLOSE, body)))
        assert answer.startswith(b"HTTP/1.1 400 "), body
    assert reference.dump() == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"\r\n\r\n", b"400", id="no-request-line"),
        pytest.param(b"GET\r\n\r\n", b"400", id="no-target"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000_000, b"431", id="endless-head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413", id="huge-body"
        ),
    ],
)
def test_a_bad_request_is_refused(
    reference: ReferenceServer, request_bytes: bytes, status: bytes
) -> None:
    assert b"".join(raw(reference, request_bytes)).startswith(b"HTTP/1.1 " + status)


def test_an_http_1_0_client(reference: ReferenceServer) -> None:
    answer = b"".join(raw(reference, b"GET /v1/models HTTP/1.0\r\n\r\n"))
    assert b'"id":"reference"' in answer


# ---- its counts --------------------------------------------------------------------------------

PROMPTS = [
    pytest.param("one two three", 3, id="spaces"),
    pytest.param("", 0, id="empty"),
    pytest.param("  \n\t ", 0, id="blank"),
    pytest.param('one\ntwo\tthree\r\n"four" \\ \\n six', 7, id="escapes"),
    pytest.param("\u00e4 \u4e2d\u6587 \U0001f600 \x0b \x0c x", 4, id="unicode"),
    pytest.param("w " * 100_000, 100_000, id="long"),
]


@pytest.mark.parametrize(("prompt", "count"), PROMPTS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_words_are_tokens(
    reference: ReferenceServer, prompt: str, count: int, ascii_only: bool
) -> None:
    body = json.dumps({"model": "reference", "prompt": prompt}, ensure_ascii=ascii_only)
    request = urllib.request.Request(reference.url + "/tokenize", body.encode())
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    assert answer["count"] == len(answer["tokens"]) == count == len(prompt.split())
    assert answer["max_model_len"] == 131072


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        pytest.param(CHAT, {"messages": [{"content": "a b"}, {"content": "c"}]}, 3, id="messages"),
        pytest.param(
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a b c d"}]}]},
            4,
            id="parts",
        ),
        pytest.param(CHAT, {"messages": [{"role": "assistant", "content": None}]}, 0, id="null"),
        pytest.param("/v1/completions", {"prompt": "a b"}, 2, id="prompt"),
        pytest.param("/v1/completions", {"prompt": [5, 6, 7]}, 3, id="ids"),
        pytest.param("/generate", {"text": "a b c"}, 3, id="text"),
        pytest.param("/generate", {"input_ids": [1, 2]}, 2, id="input-ids"),
        pytest.param(CHAT, {"stop": "x y", "messages": [{"content": "a"}]}, 1, id="others"),
    ],
)
def test_prompt_tokens(
    reference: ReferenceServer, path: str, body: dict[str, Any], count: int
) -> None:
    reference.configure(**FIREHOSE)
    ask(reference, path, max_tokens=1, **body)
    assert reference.dump()[0].prompt_tokens == count
    request = urllib.request.Request(reference.url + "/tokenize", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        assert json.load(response)["count"] == count


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        pytest.param({}, 128, id="none"),
        pytest.param({"max_tokens": None}, 128, id="null"),
        pytest.param({"max_tokens": 7}, 7, id="max_tokens"),
        pytest.param({"max_completion_tokens": 6, "max_tokens": 7}, 6, id="completion-first"),
        pytest.param({"max_tokens": 7, "max_completion_tokens": 6}, 6, id="completion-last"),
        pytest.param({"max_tokens": 10**9}, 100_000, id="too-many"),
    ],
)
def test_the_requested_length(
    reference: ReferenceServer, limits: dict[str, Any], tokens: int
) -> None:
    reference.configure(ttft_us=0, itl_us=0, k=1000)
    ask(reference, **limits)
    assert reference.dump()[0].tokens == tokens


def test_a_prompt_that_looks_like_settings(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE)
    text = '"max_tokens": 9, "stream": false, \\"model\\": "other"'
    answer = ask(reference, model="mine", messages=[{"content": text}], max_tokens=2)
    assert answer[0]["model"] == "mine"
    assert reference.dump()[0].tokens == 2


def test_a_strict_model(reference: ReferenceServer) -> None:
    reference.configure(**FIREHOSE, strict_model=1)
    assert post(reference, model="reference", max_tokens=1)[0] == 200
    status, body = post(reference, model="other", max_tokens=1)
    assert status == 404
    assert json.loads(body)["message"] == "The model 'other' does not exist"


def histogram(reference: ReferenceServer, name: str) -> dict[str, float]:
    values = {}
    for family in text_string_to_metric_families(get(reference, "/metrics").decode()):
        if family.name == f"sglang:{name}":
            for sample in family.samples:
                kind = sample.name.removeprefix(f"sglang:{name}_")
                values[sample.labels.get("le", kind)] = sample.value
    return values


def test_the_histograms_match_the_log(reference: ReferenceServer) -> None:
    reference.configure(**FAST, max_running=3, k=2)
    ask_many(reference, 6, max_tokens=20)
    streams = reference.dump()
    gaps = np.concatenate([np.diff(s.sent_ns) for s in streams]) / 1e9
    true = ground_truth(streams)
    waits = [(s.started_ns - s.asked_ns) / 1e9 for s in streams]
    # A gap of two tokens is two gaps of half of it, as SGLang counts them.
    itl = histogram(reference, "inter_token_latency_seconds")
    assert itl["sum"] == pytest.approx(gaps.sum(), rel=1e-6)
    assert itl["count"] == itl["+Inf"] == 2 * len(gaps)
    assert itl["0.006"] == 2 * np.count_nonzero(gaps / 2 <= 0.006)
    for name, values in (
        ("time_to_first_token_seconds", true.ttft),
        ("e2e_request_latency_seconds", true.e2e_done),
        ("queue_time_seconds", waits),
    ):
        counted = histogram(reference, name)
        assert counted["sum"] == pytest.approx(np.sum(values), rel=1e-6)
        assert counted["count"] == counted["+Inf"] == 6
        assert counted["0.1"] == np.count_nonzero(np.array(values) <= 0.1)
    reference.reset()
    assert histogram(reference, "time_to_first_token_seconds")["count"] == 0


def gauges(reference: ReferenceServer) -> dict[str, float]:
    """One reading of all of them, by their names without `sglang:`."""
    families = text_string_to_metric_families(get(reference, "/metrics").decode())
    return {
        f.name.removeprefix("sglang:"): float(f.samples[0].value) for f in families if f.samples
    }


def test_the_gauges_follow_the_load(reference: ReferenceServer) -> None:
    reference.configure(ttft_us=1_000, itl_us=10_000, max_running=2)
    assert gauges(reference)["num_running_reqs"] == 0
    with ThreadPoolExecutor(3) as pool:
        pending = [pool.submit(ask, reference, max_tokens=240) for _ in range(3)]
        # Two streams of 3 prompt tokens and more than 120 of the answer, of 2^20.
        while (values := gauges(reference))["token_usage"] < 2 * 123 / 2**20:
            time.sleep(0.01)
        assert values["token_usage"] <= 2 * 243 / 2**20
        assert values["num_running_reqs"] == 2
        assert values["num_queue_reqs"] == 1
        assert values["gen_throughput"] == pytest.approx(200, rel=0.3)
        for answer in pending:
            answer.result()
    assert gauges(reference)["generation_tokens"] == 720


# ---- the process -------------------------------------------------------------------------------


def test_configure_sets_all_the_rest_to_defaults(reference: ReferenceServer) -> None:
    assert reference.configure(k=3)["k"] == 3
    assert reference.configure(hidden=1)["k"] == 1


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        pytest.param({"itl": 5}, "unknown key: itl", id="unknown"),
        pytest.param({"itl_us": -5}, "not a whole number .*: itl_us", id="negative"),
        pytest.param({"k": 0}, "too small: k", id="zero"),
        pytest.param({"itl_us": 10**10}, "not a whole number .*: itl_us", id="huge"),
        pytest.param({"stall_ms": 5}, "stall_every_ms must be above", id="endless-stall"),
    ],
)
def test_an_invalid_setting(reference: ReferenceServer, keys: dict[str, int], why: str) -> None:
    before = reference.configure(k=2)
    with pytest.raises(BadInput, match=why):
        reference.configure(**keys)
    assert json.loads(get(reference, "/_reference/config?")) == before


def test_ipv6() -> None:
    with ReferenceServer(ipv6=True) as reference:
        reference.configure(**FIREHOSE)
        assert reference.url.startswith("http://[::1]:")
        assert text_of(ask(reference, max_tokens=3)) == words(3)


def test_the_server_is_pinned_to_its_core() -> None:
    core = max(os.sched_getaffinity(0))
    with ReferenceServer(core=core, favor=True) as reference:
        assert os.sched_getaffinity(reference.pid) == {core}
        assert reference.favored == (os.getpriority(os.PRIO_PROCESS, reference.pid) == -12)


def test_it_ends_with_the_context() -> None:
    with ReferenceServer() as reference:
        pid = reference.pid
    assert not Path(f"/proc/{pid}").exists()


def test_it_ends_with_its_parent() -> None:
    script = (
        "import os; from spark_bench.reference_server.launcher import ReferenceServer;"
        "reference = ReferenceServer().__enter__(); print(reference.pid, flush=True); os._exit(1)"
    )
    bench = Path(__file__).parents[3] / "bench"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(bench)},
    )
    status = Path(f"/proc/{int(done.stdout)}/stat")
    until(
        lambda: not status.exists() or ") Z " in status.read_text(), "the reference server lives on"
    )


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = (
            f.result() for f in [pool.submit(build_reference_server) for _ in range(2)]
        )
    assert first == second == build_reference_server()
    assert list(tmp_path.rglob("*reference*")) == [first]


def test_a_missing_compiler_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="apt-get install gcc"):
        compiler()
    monkeypatch.setenv("CC", "nosuchcc -m64")
    with pytest.raises(BenchError, match="none of: nosuchcc"):
        compiler()


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "cc -include nosuch.h")
    with pytest.raises(BenchError, match=r"can't compile the reference server(.|\n)*nosuch\.h"):
        build_reference_server()
    assert list(tmp_path.rglob("reference*")) == []


def test_the_server_compiles_without_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "cc -Werror")
    assert build_reference_server().exists()


# ---- the truth ---------------------------------------------------------------------------------


def test_the_truth_from_the_clients_send(reference: ReferenceServer) -> None:
    reference.configure(**FAST)
    ask(reference, max_tokens=5)
    ask(reference, max_tokens=5)
    first, second = reference.dump()
    sent = {first.id: first.asked_ns - 1_000_000}
    true = ground_truth([first, second], sent)
    plain = ground_truth([first])
    assert true.requests == 1
    assert true.accept == pytest.approx([0.001])
    assert true.ttft == pytest.approx(plain.ttft + 0.001)
    assert true.e2e == pytest.approx(plain.e2e + 0.001)
    assert true.tpot == pytest.approx(plain.itl.mean())
    assert true.output_throughput == pytest.approx(5 / true.e2e[0])


def test_the_truth_without_streams_is_zero() -> None:
    true = ground_truth([])
    assert (true.requests, true.peak, true.output_throughput) == (0, 0, 0.0)
    assert peak([0, 5, 10], [10, 6, 20]) == 2
