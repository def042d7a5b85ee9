"""The server of faults does what its behaviours say."""

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
from awkward_call import CHAT, COMPLETIONS, MODEL, text
from awkward_faults import ALWAYS, BEHAVIOURS, EVERYWHERE, KEY, STREAMS, WRONG_MODEL
from awkward_network import ForwardProxy, closed_port, deaf_port, tls_contexts
from awkward_server import AwkwardServer

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


@pytest.mark.parametrize("behaviour", GOOD)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_good_answers(awkward: AwkwardServer, behaviour: str, path: str) -> None:
    response, body = ask(awkward.at(behaviour), path)
    assert response.status == 200
    assert text_of(body) == text(6) == "w1 w2 w3 w4 w5 w6"
    assert body.endswith(b"data: [DONE]\n\n")
    finish, usage = events(body)[-2:]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["usage"]["completion_tokens"], usage["choices"]) == (6, [])


def test_every_behaviour_is_named_once_and_described() -> None:
    functions = [*STREAMS.values(), *ALWAYS.values(), *EVERYWHERE.values()]
    assert len(BEHAVIOURS) == len(functions) == len(set(functions))
    assert all(function.__doc__ for function in functions)
    with pytest.raises(ValueError, match="no such behaviour: polite"):
        AwkwardServer("polite")


@pytest.mark.parametrize("behaviour", ["plain", "server_error"])
def test_the_models(awkward: AwkwardServer, behaviour: str) -> None:
    with urllib.request.urlopen(awkward.at(behaviour) + "/v1/models") as answer:
        assert [model["id"] for model in json.load(answer)["data"]] == [MODEL]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_answer_in_one_piece(awkward: AwkwardServer, path: str) -> None:
    response, body = ask(awkward.at("crlf"), path, stream=False)
    choice = json.loads(body)["choices"][0]
    assert response.status == 200
    assert choice.get("text", choice.get("message", {}).get("content")) == text(6)


def test_other_paths_are_not_found(awkward: AwkwardServer) -> None:
    response, body = ask(awkward.url, "/generate")
    assert (response.status, json.loads(body)["error"]["code"]) == (404, 404)


@pytest.mark.parametrize(
    ("behaviour", "status"),
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
def test_statuses(awkward: AwkwardServer, behaviour: str, status: int) -> None:
    response, body = ask(awkward.at(behaviour))
    assert response.status == status
    if behaviour == "bad_gateway":
        assert body.startswith(b"<html>")
    else:
        assert json.loads(body)["error"]["code"] == status
    assert response.headers["retry-after"] == ("1" if behaviour == "rate_limited" else None)


def test_the_right_key(awkward: AwkwardServer) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(awkward.at("needs_key") + "/v1/models", headers=key)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    assert awkward.calls[-1].headers["authorization"] == key["Authorization"]


def test_known_fields_are_not_refused(awkward: AwkwardServer) -> None:
    parts = urlsplit(awkward.at("refuses_unknown_fields"))
    body = {key: value for key, value in ASKED.items() if key != "stream_options"}
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        connection.request("POST", parts.path + CHAT, json.dumps(body))
        assert connection.getresponse().status == 200


def test_cut_by_close(awkward: AwkwardServer) -> None:
    with pytest.raises(IncompleteRead) as cut:
        ask(awkward.at("cut_by_close"))
    assert text_of(cut.value.partial) == text(2)


def test_cut_by_reset(awkward: AwkwardServer) -> None:
    with pytest.raises(ConnectionResetError):
        ask(awkward.at("cut_by_reset"))


def test_closes_unanswered(awkward: AwkwardServer) -> None:
    with pytest.raises(RemoteDisconnected):
        ask(awkward.at("closes_unanswered"))


def test_never_ends(awkward: AwkwardServer) -> None:
    got = raw(awkward.at("never_ends"), until=b" w6")
    while got.count(b" w6") < 3:
        got += raw(awkward.at("never_ends"), until=b" w6")
    assert b"[DONE]" not in got


@pytest.mark.parametrize("behaviour", ["goes_silent", "never_answers"])
def test_silence(awkward: AwkwardServer, behaviour: str) -> None:
    parts = urlsplit(awkward.at(behaviour))
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=0.2)) as connection:
        connection.request("POST", parts.path + CHAT, json.dumps(ASKED))
        with pytest.raises(TimeoutError):
            connection.getresponse().read()


def test_gzipped(awkward: AwkwardServer) -> None:
    response, body = ask(awkward.at("gzipped"))
    assert response.headers["content-encoding"] == "gzip"
    assert text_of(gzip.decompress(body)) == text(6)


def test_http_1_0_has_no_length(awkward: AwkwardServer) -> None:
    answer = raw(awkward.at("http_1_0"))
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"content-length" not in answer
    assert b"chunked" not in answer


def test_closes_idle(awkward: AwkwardServer) -> None:
    parts = urlsplit(awkward.at("closes_idle"))
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


def test_keep_alive(awkward: AwkwardServer) -> None:
    before = awkward.connections
    parts = urlsplit(awkward.url)
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=5)) as connection:
        for _ in range(3):
            connection.request("POST", CHAT, json.dumps(ASKED))
            assert text_of(connection.getresponse().read()) == text(6)
    assert awkward.connections - before == 1
    assert [call.path for call in awkward.calls] == [CHAT] * 3


def test_continues_first(awkward: AwkwardServer) -> None:
    answer = raw(awkward.at("continues_first"), until=b"[DONE]")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_huge_headers(awkward: AwkwardServer) -> None:
    answer = raw(awkward.at("huge_headers"), until=b"[DONE]")
    assert answer.index(b"\r\n\r\n") > 50_000


def test_malformed_chunk(awkward: AwkwardServer) -> None:
    with pytest.raises(IncompleteRead):
        ask(awkward.at("malformed_chunk"))


def test_not_http(awkward: AwkwardServer) -> None:
    with pytest.raises(BadStatusLine, match="SSH-2"):
        ask(awkward.at("not_http"))


def test_crlf(awkward: AwkwardServer) -> None:
    _, body = ask(awkward.at("crlf"))
    assert body.count(b"\n") == body.count(b"\r\n") == 2 * body.count(b"data: ")
    assert text_of(body) == text(6)


def test_comments(awkward: AwkwardServer) -> None:
    _, body = ask(awkward.at("comments"))
    assert body.startswith(b": ping\n\nevent: message\nid: 1\ndata:{")
    assert text_of(body.replace(b"data:[DONE]", b"")) == text(6)


def test_malformed_json(awkward: AwkwardServer) -> None:
    _, body = ask(awkward.at("malformed_json"))
    with pytest.raises(json.JSONDecodeError):
        events(body)


@pytest.mark.parametrize(
    ("behaviour", "lacks"),
    [
        pytest.param("missing_usage", b'"usage"', id="usage"),
        pytest.param("no_done", b"[DONE]", id="done"),
        pytest.param("no_finish", b'"length"', id="finish-reason"),
        pytest.param("no_tokens", b"choices", id="tokens"),
    ],
)
def test_what_a_stream_lacks(awkward: AwkwardServer, behaviour: str, lacks: bytes) -> None:
    assert lacks in ask(awkward.at("plain"))[1]
    assert lacks not in ask(awkward.at(behaviour))[1]


def test_wrong_model(awkward: AwkwardServer) -> None:
    _, body = ask(awkward.at("wrong_model"))
    (named,) = {event["model"] for event in events(body)}
    assert named.startswith(WRONG_MODEL)


def test_error_in_stream(awkward: AwkwardServer) -> None:
    response, body = ask(awkward.at("error_in_stream"))
    assert response.status == 200
    assert text_of(body) == text(2)
    assert events(body)[-1]["error"]["message"] == "the engine died"


def test_ignores_stream(awkward: AwkwardServer) -> None:
    response, body = ask(awkward.at("ignores_stream"))
    assert response.headers["content-type"] == "application/json"
    assert json.loads(body)["usage"]["completion_tokens"] == 6


def test_two_events_a_send(awkward: AwkwardServer) -> None:
    answer = raw(awkward.at("two_events_a_send"), until=b"[DONE]")
    assert b"\n\ndata: " in answer


def test_a_behaviour_of_the_whole_server() -> None:
    with AwkwardServer("unavailable") as server:
        assert ask(server.url)[0].status == 503
        assert ask(server.at("plain"))[0].status == 200


def test_slow_accept() -> None:
    with AwkwardServer(accept_delay=0.2) as server:
        start = time.monotonic()
        ask(server.url)
        assert time.monotonic() - start >= 0.2


def test_ipv6() -> None:
    with AwkwardServer(ipv6=True) as server:
        assert server.url.startswith("http://[::1]:")
        assert text_of(ask(server.url)[1]) == text(6)


def test_tls(tmp_path: Path) -> None:
    context, authority = tls_contexts(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority))
    with AwkwardServer(tls=context) as server:
        assert server.url.startswith("https://")
        with closing(HTTPSConnection("127.0.0.1", server.port, context=trusting)) as connection:
            connection.request("POST", CHAT, json.dumps(ASKED))
            assert text_of(connection.getresponse().read()) == text(6)
        with (
            closing(HTTPSConnection("127.0.0.1", server.port)) as distrusting,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            distrusting.request("POST", CHAT, "{}")


def test_a_forward_proxy(awkward: AwkwardServer) -> None:
    with ForwardProxy() as proxy, httpx.Client(proxy=proxy.url) as client:
        for _ in range(2):
            answer = client.post(awkward.at("plain") + CHAT, json=ASKED)
            assert text_of(answer.content) == text(6)
    assert proxy.targets == [f"POST {awkward.at('plain')}{CHAT}"] * 2


def test_a_tunnel(tmp_path: Path) -> None:
    context, authority = tls_contexts(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority))
    with (
        AwkwardServer(tls=context) as server,
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
