"""The server of faults does what its behaviors say."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
import urllib.request
from contextlib import closing
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    RemoteDisconnected,
)
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from faulty_behaviors import KEY, WRONG_MODEL
from faulty_call import CHAT, COMPLETIONS, MODEL, text
from faulty_network import ForwardProxy, closed_port, deaf_port, tls_contexts
from faulty_server import FaultyServer

ASKED: dict[str, Any] = {
    "model": MODEL,
    "stream": True,
    "max_tokens": 6,
    "messages": [{"role": "user", "content": "one two three"}],
    "stream_options": {"include_usage": True},
}
GOOD = [
    "plain",
    "byte_by_byte",
    "http_1_0",
    "content_length",
    "one_packet",
    "odd_chunks",
    "closes_each",
    "closes_idle",
    "two_events_a_send",
]
"""Whose events an ordinary client reads as they should be."""


def ask(base: str, path: str = CHAT, **changes: Any) -> tuple[HTTPResponse, bytes]:
    parts = urlsplit(base)
    body = json.dumps({**ASKED, **changes})
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        connection.request("POST", parts.path + path, body)
        response = connection.getresponse()
        return response, response.read()


def raw(base: str, path: str = CHAT, until: bytes | None = None) -> bytes:
    """Every byte until the server closes, or sends this."""
    parts = urlsplit(base)
    body = json.dumps(ASKED).encode()
    head = f"POST {parts.path}{path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        got = b""
        while not (until and until in got) and (data := connection.recv(65536)):
            got += data
        return got


def events(body: bytes) -> list[Any]:
    lines = [line for line in body.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines if line != "data: [DONE]"]


def text_of(body: bytes) -> str:
    choices = [choice for event in events(body) for choice in event.get("choices", [])]
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


@pytest.mark.parametrize("behavior", GOOD)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_good_answers(faulty: FaultyServer, behavior: str, path: str) -> None:
    response, body = ask(faulty.at(behavior), path)
    assert response.status == 200
    assert text_of(body) == text(6) == "w1 w2 w3 w4 w5 w6"
    assert body.endswith(b"data: [DONE]\n\n")
    finish, usage = events(body)[-2:]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["usage"]["completion_tokens"], usage["choices"]) == (6, [])


def test_an_unknown_behavior_is_refused() -> None:
    with pytest.raises(ValueError, match="no such behavior: polite"):
        FaultyServer("polite")


@pytest.mark.parametrize("behavior", ["plain", "server_error"])
def test_the_models(faulty: FaultyServer, behavior: str) -> None:
    with urllib.request.urlopen(faulty.at(behavior) + "/v1/models") as answer:
        assert [model["id"] for model in json.load(answer)["data"]] == [MODEL]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_answer_in_one_piece(faulty: FaultyServer, path: str) -> None:
    response, body = ask(faulty.at("crlf"), path, stream=False)
    choice = json.loads(body)["choices"][0]
    assert response.status == 200
    assert choice.get("text", choice.get("message", {}).get("content")) == text(6)


def test_other_paths_are_not_found(faulty: FaultyServer) -> None:
    response, body = ask(faulty.url, "/generate")
    assert (response.status, json.loads(body)["error"]["code"]) == (404, 404)


@pytest.mark.parametrize(
    ("behavior", "status"),
    [
        ("unauthorized", 401),
        ("needs_key", 401),
        ("not_found", 404),
        ("no_such_model", 404),
        ("rate_limited", 429),
        ("server_error", 500),
        ("bad_gateway", 502),
        ("unavailable", 503),
        ("refuses_unknown_fields", 400),
    ],
)
def test_statuses(faulty: FaultyServer, behavior: str, status: int) -> None:
    response, body = ask(faulty.at(behavior))
    assert response.status == status
    if behavior == "bad_gateway":
        assert body.startswith(b"<html>")
    else:
        assert json.loads(body)["error"]["code"] == status
    assert response.headers["retry-after"] == ("1" if behavior == "rate_limited" else None)


def test_the_right_key(faulty: FaultyServer) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(faulty.at("needs_key") + "/v1/models", headers=key)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    assert faulty.calls[-1].headers["authorization"] == key["Authorization"]


def test_known_fields_are_not_refused(faulty: FaultyServer) -> None:
    parts = urlsplit(faulty.at("refuses_unknown_fields"))
    body = {key: value for key, value in ASKED.items() if key != "stream_options"}
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        connection.request("POST", parts.path + CHAT, json.dumps(body))
        assert connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("behavior", "error"),
    [
        ("cut_by_close", IncompleteRead),
        ("malformed_chunk", IncompleteRead),
        ("cut_by_reset", ConnectionResetError),
        ("closes_unanswered", RemoteDisconnected),
        ("not_http", BadStatusLine),
    ],
)
def test_responses_that_are_not_answers(
    faulty: FaultyServer, behavior: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        ask(faulty.at(behavior))


def test_never_ends(faulty: FaultyServer) -> None:
    got = raw(faulty.at("never_ends"), until=b" w6")
    while got.count(b" w6") < 3:
        got += raw(faulty.at("never_ends"), until=b" w6")
    assert b"[DONE]" not in got


@pytest.mark.parametrize("behavior", ["goes_silent", "never_answers"])
def test_silence(faulty: FaultyServer, behavior: str) -> None:
    parts = urlsplit(faulty.at(behavior))
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=0.2)) as connection:
        connection.request("POST", parts.path + CHAT, json.dumps(ASKED))
        with pytest.raises(TimeoutError):
            connection.getresponse().read()


def test_gzipped(faulty: FaultyServer) -> None:
    response, body = ask(faulty.at("gzipped"))
    assert response.headers["content-encoding"] == "gzip"
    assert text_of(gzip.decompress(body)) == text(6)


# What an answer has in its bytes, and what it lacks.
HOLDS = {
    "http_1_0": (b"HTTP/1.0 200 OK\r\n", b"content-length"),
    "continues_first": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", b""),
    "huge_headers": (b"x" * 1000 + b"\r\nx-padding-49: " + b"x" * 1000, b""),
    "comments": (b": ping\n\n", b"data: "),
    "crlf": (b"}\r\n\r\n", b"}\n"),
    "malformed_json": (b'"conte\n\n', b""),
    "missing_usage": (b'"length"', b'"usage"'),
    "no_done": (b'"length"', b"[DONE]"),
    "no_finish": (b"[DONE]", b'"length"'),
    "no_tokens": (b"[DONE]", b"choices"),
    "wrong_model": (WRONG_MODEL.encode(), MODEL.encode()),
    "error_in_stream": (b"the engine died", b"w3"),
    "ignores_stream": (b"content-type: application/json", b"data:"),
    "two_events_a_send": (b"\n\ndata: ", b""),
}


@pytest.mark.parametrize("behavior", HOLDS)
def test_fields_of_a_response(faulty: FaultyServer, behavior: str) -> None:
    holds, lacks = HOLDS[behavior]
    end = b"0\r\n\r\n" if behavior not in ("http_1_0", "ignores_stream") else b"usage"
    answer = raw(faulty.at(behavior), until=end)
    assert holds in answer
    assert not lacks or lacks not in answer


def test_closes_idle(faulty: FaultyServer) -> None:
    parts = urlsplit(faulty.at("closes_idle"))
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        connection.auto_open = False
        connection.connect()
        connection.request("POST", parts.path + CHAT, json.dumps(ASKED))
        first = connection.getresponse()
        assert text_of(first.read()) == text(6)
        assert not first.will_close
        time.sleep(0.2)
        with pytest.raises(ConnectionError):
            connection.request("POST", parts.path + CHAT, json.dumps(ASKED))
            connection.getresponse()


def test_keep_alive(faulty: FaultyServer) -> None:
    before = faulty.connections
    parts = urlsplit(faulty.url)
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        for _ in range(3):
            connection.request("POST", CHAT, json.dumps(ASKED))
            assert text_of(connection.getresponse().read()) == text(6)
    assert faulty.connections - before == 1
    assert [call.path for call in faulty.calls] == [CHAT] * 3


def test_a_behavior_applies_to_the_whole_server() -> None:
    with FaultyServer("unavailable") as server:
        assert ask(server.url)[0].status == 503
        assert ask(server.at("plain"))[0].status == 200


def test_slow_accept() -> None:
    with FaultyServer(accept_delay=0.2) as server:
        start = time.monotonic()
        ask(server.url)
        assert time.monotonic() - start >= 0.2


def test_ipv6() -> None:
    with FaultyServer(ipv6=True) as server:
        assert server.url.startswith("http://[::1]:")
        assert text_of(ask(server.url)[1]) == text(6)


def test_tls(tmp_path: Path) -> None:
    context, authority = tls_contexts(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority))
    with FaultyServer(tls=context) as server:
        assert server.url.startswith("https://")
        with closing(HTTPSConnection("127.0.0.1", server.port, context=trusting)) as connection:
            connection.request("POST", CHAT, json.dumps(ASKED))
            assert text_of(connection.getresponse().read()) == text(6)
        with (
            closing(HTTPSConnection("127.0.0.1", server.port)) as distrusting,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            distrusting.request("POST", CHAT, "{}")


def test_a_forward_proxy(faulty: FaultyServer) -> None:
    with ForwardProxy() as proxy, httpx.Client(proxy=proxy.url) as client:
        for _ in range(2):
            answer = client.post(faulty.at("plain") + CHAT, json=ASKED)
            assert text_of(answer.content) == text(6)
    assert proxy.targets == [f"POST {faulty.at('plain')}{CHAT}"] * 2


def test_a_tunnel(tmp_path: Path) -> None:
    context, authority = tls_contexts(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority))
    with (
        FaultyServer(tls=context) as server,
        ForwardProxy() as proxy,
        httpx.Client(proxy=proxy.url, verify=trusting) as client,
    ):
        answer = client.post(server.url + CHAT, json=ASKED)
        assert text_of(answer.content) == text(6)
    assert proxy.targets == [f"CONNECT 127.0.0.1:{server.port}"]


def test_a_closed_port() -> None:
    with closed_port() as url, pytest.raises(ConnectionRefusedError):
        ask(url)


def test_a_deaf_port() -> None:
    with deaf_port() as url, pytest.raises(TimeoutError):
        parts = urlsplit(url)
        socket.create_connection((parts.hostname, parts.port), timeout=0.3).close()
