"""The script that asks the engine, run for real against a small HTTP server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from http_engine import FakeEngine, listening

from cluster.probes.exchange import MOST_BYTES, ProbeReply, ProbeRequest, Round
from facts.answers import Replies, probe_task

KEY = "sk-a-secret"
PAIR = threading.Barrier(2, timeout=10)
# Set once nobody waits for what is slow any more.
OVER = threading.Event()
LATE = "deadline"


class Engine(FakeEngine):
    """Answers by the path."""

    def do_GET(self) -> None:
        self.say(200, f"metrics for {self.headers.get('Authorization')}")

    def do_POST(self) -> None:
        body = self.requested_with()
        if self.path == "/pair":
            PAIR.wait()
        if self.path == "/slow":
            OVER.wait(60)
        status = 500 if self.path == "/broken" else 200
        if self.path.startswith("/stream"):
            self.stream()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
        elif self.path == "/large":
            self.say(200, "x" * (MOST_BYTES + 9))
        else:
            self.say(status, f"{self.path} {body}")

    def stream(self) -> None:
        """Events of a stream, without a length: its end is the connection's."""
        self.send_response(200)
        self.end_headers()
        for event in (b'{"a": 1}', b"half a code point: \xe4\xbd"):
            self.wfile.write(b": a comment\n\ndata: " + event + b"\n\n")
            self.wfile.flush()
        if self.path == "/stream-stops":
            return
        if self.path == "/stream-drips":
            with suppress(BrokenPipeError, ConnectionResetError):
                while not OVER.wait(0.1):
                    self.wfile.write(b".")
                    self.wfile.flush()
            return
        self.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(Engine) as there:
        yield there


def post(path: str, id_: str = "", stream: bool = False) -> ProbeRequest:
    return ProbeRequest(id_ or path, path, {"model": "m"}, stream)


def ask(
    url: str, *rounds: Round, seconds: float = 10, key: str = ""
) -> tuple[dict[str, ProbeReply], float]:
    """The replies by their request's id, and how long the command took."""
    command = Replies().command(sys.executable, kill=False).get_raw_value()
    assert KEY not in command
    begun = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", command],
        input=probe_task(url, key, rounds, seconds),
        capture_output=True,
        text=True,
        check=True,
    )
    replies = Replies().process(done.stdout.splitlines())
    return {reply.id: reply for reply in replies}, time.monotonic() - begun


def one(url: str, request: ProbeRequest, seconds: float = 10) -> ProbeReply:
    replies, _ = ask(url, Round((request,)), seconds=seconds)
    return replies[request.id]


def test_each_request_is_sent_and_its_whole_answer_comes_back(url: str) -> None:
    replies, _ = ask(url, Round((post("/one"), post("/broken"))), Round((post("/two"),)))
    assert list(replies) == ["/one", "/broken", "/two"]
    assert replies["/one"].status == 200
    assert replies["/one"].body == '/one {"model": "m"}'
    assert replies["/broken"].status == 500
    assert not any(reply.why for reply in replies.values())


def test_requests_of_a_round_are_under_way_at_the_same_time(url: str) -> None:
    replies, _ = ask(url, Round((post("/pair", "a"), post("/pair", "b")), together=True))
    assert [reply.status for reply in replies.values()] == [200, 200]


def test_a_stream_comes_as_its_events_with_broken_bytes_marked(url: str) -> None:
    reply = one(url, post("/stream", stream=True))
    assert reply.events == ('{"a": 1}', "half a code point: \ufffd")
    assert (reply.status, reply.why, reply.body) == (200, "", "")


def test_a_body_of_none_is_a_get_and_the_key_is_a_header(url: str) -> None:
    replies, _ = ask(url, Round((ProbeRequest("m", "/metrics"),)), key=KEY)
    assert replies["m"].body == f"metrics for Bearer {KEY}"


@pytest.mark.parametrize(
    ("path", "stream", "why"),
    [
        pytest.param("/stream-stops", True, "its stream ended without [DONE]", id="stream"),
        pytest.param("/short", False, "the connection ended", id="whole"),
        pytest.param("/large", False, f"cut after {MOST_BYTES} bytes", id="too-long"),
        pytest.param("/large", True, f"cut after {MOST_BYTES} bytes", id="too-long-stream"),
    ],
)
def test_an_answer_that_is_not_whole_says_why(url: str, path: str, stream: bool, why: str) -> None:
    reply = one(url, post(path, stream=stream))
    assert (why in reply.why or "IncompleteRead" in reply.why) and reply.status == 200
    assert len(reply.body) <= MOST_BYTES


def test_nobody_listens() -> None:
    reply = one("http://127.0.0.1:9", post("/one"))
    assert (reply.status, reply.why) == (
        0,
        "ConnectionRefusedError: [Errno 111] Connection refused",
    )


@pytest.mark.parametrize(("path", "stream"), [("/slow", False), ("/stream-drips", True)])
def test_all_ends_with_the_deadline_even_where_bytes_drip(
    url: str, path: str, stream: bool
) -> None:
    first = post(path, stream=stream)
    OVER.clear()
    replies, seconds = ask(url, Round((first, post("/one"))), Round((post("/two"),)), seconds=1)
    OVER.set()
    assert seconds < 20
    assert {reply.why for reply in replies.values()} == {LATE}
    assert [reply.status for reply in replies.values()][1:] == [0, 0]
    assert bool(replies[path].events) is stream
