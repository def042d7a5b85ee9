"""httpx over the recorder's sockets; and its ways there: IPv6, TLS, proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme
from faulty_call import MODEL, text
from faulty_network import Address, ForwardProxy, deaf_port, tls_contexts
from faulty_server import FaultyServer
from spark_bench.client import pool
from spark_bench.client.poller import Epoll, Portable
from spark_bench.client.recorder import Recorder
from spark_bench.client.target import target
from spark_bench.client.transport import TapeTransport
from spark_bench.errors import Unreachable
from spark_bench.record import Ended
from wire_loads import ScriptedServer, load, read_request, record, recorder, request

CHAT = "/v1/chat/completions"
ASKED = {"max_tokens": 6, "messages": [{"role": "user", "content": "why"}]}


@contextmanager
def client(url: str) -> Iterator[httpx.Client]:
    with (
        recorder(url) as client,
        httpx.Client(transport=TapeTransport(client), base_url=url, trust_env=False) as http,
    ):
        yield http


@pytest.fixture
def http(faulty: FaultyServer) -> Iterator[httpx.Client]:
    with client(faulty.url) as server:
        yield server


def test_a_response_for_httpx(http: httpx.Client) -> None:
    answer = http.get("/v1/models")
    assert (answer.status_code, answer.reason_phrase) == (200, "OK")
    assert answer.json()["data"][0]["id"] == MODEL
    assert answer.headers["content-type"] == "application/json"
    exchange = answer.extensions["exchange"]
    assert exchange.ended is Ended.COMPLETE
    assert exchange.data.endswith(answer.content)
    assert exchange.sent_ns < exchange.stamps[0]


@pytest.mark.parametrize("behavior", ["plain", "gzipped", "odd_chunks", "http_1_0", "one_packet"])
def test_bodies_are_complete_and_decoded(behavior: str, http: httpx.Client) -> None:
    request = {**ASKED, "stream": True}
    plain, answer = (http.post(f"/{each}{CHAT}", json=request) for each in ("plain", behavior))
    assert answer.text == plain.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "content-encoding" not in answer.headers


def test_a_request_arrives_unchanged(faulty: FaultyServer, http: httpx.Client) -> None:
    answer = http.post(f"/plain{CHAT}", json=ASKED, headers={"authorization": "Bearer key"})
    assert answer.json()["choices"][0]["message"]["content"] == text(6)
    (call,) = faulty.calls
    assert call.json == ASKED
    assert call.headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(("behavior", "code"), [("rate_limited", 429), ("server_error", 500)])
def test_error_statuses_are_returned_not_raised(
    behavior: str, code: int, http: httpx.Client
) -> None:
    assert http.post(f"/{behavior}{CHAT}", json=ASKED).status_code == code


@pytest.mark.parametrize(
    ("behavior", "error", "message"),
    [
        pytest.param("cut_by_reset", httpx.ReadError, "reset by peer"),
        pytest.param("cut_by_close", httpx.RemoteProtocolError, "before the end of the response"),
        pytest.param(
            "closes_unanswered", httpx.RemoteProtocolError, "before the end of the response"
        ),
        pytest.param("malformed_chunk", httpx.RemoteProtocolError, "a chunk's size"),
        pytest.param("not_http", httpx.RemoteProtocolError, "SSH-2.0"),
        pytest.param("never_answers", httpx.ReadTimeout, "not done within 0.2 s"),
        pytest.param("goes_silent", httpx.ReadTimeout, "not done within 0.2 s"),
    ],
)
def test_errors_are_httpx_errors(
    behavior: str, error: type[httpx.TransportError], message: str, http: httpx.Client
) -> None:
    with pytest.raises(error, match=message) as raised:
        http.post(f"/{behavior}{CHAT}", json={**ASKED, "stream": True}, timeout=0.2)
    assert raised.value.request.url.path == f"/{behavior}{CHAT}"
    assert http.get("/v1/models").status_code == 200, "and it goes on"


def test_a_stopped_server_is_a_connect_error() -> None:
    with FaultyServer() as server, client(server.url) as http:
        assert http.get("/v1/models").status_code == 200
        server.__exit__(None, None, None)
        with pytest.raises(httpx.ConnectError, match="refused"):
            http.get("/v1/models")


def test_a_stop_is_an_error_while_connecting() -> None:
    with deaf_port() as url, closing(Recorder(target(url))) as client:
        threading.Timer(0.2, client.stop).start()
        http = httpx.Client(transport=TapeTransport(client), base_url=url, trust_env=False)
        with http, pytest.raises(httpx.ConnectError, match="the run was stopped"):
            http.get("/v1/models")


def test_bad_encodings_are_protocol_errors() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n"
        connection.sendall(head + b"none")

    with (
        ScriptedServer(serve) as server,
        client(server.url) as http,
        pytest.raises(httpx.RemoteProtocolError, match="gzip"),
    ):
        http.post("/v1/models", content=b"")


# ---- ways there ---------------------------------------------------------------------------------


@pytest.fixture(params=[Epoll, Portable])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "poller", request.param)


def check(url: str) -> None:
    """A load of streams and large requests gets there, and back."""
    with recorder(url, 3) as client:
        wires = [request("plain"), request("plain", padding=300_000), request("byte_by_byte")] * 2
        got = record(client, load(wires, slots=3))
    assert got.ended == ["complete"] * 6, got.details
    assert len({body.partition(b'"usage"')[0] for body in got.bodies}) == 1


@pytest.mark.usefixtures("poller")
def test_ipv6() -> None:
    with FaultyServer(ipv6=True) as server:
        assert server.url.startswith("http://[::1]:")
        check(server.url)


@pytest.mark.usefixtures("poller")
def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = tls_contexts(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with FaultyServer(tls=context) as server:
        check(server.url)
        with client(server.url) as http:
            assert http.get("/v1/models").json()["data"][0]["id"] == MODEL
        with recorder(server.url) as recorder_:
            wires = [request("cut_by_close"), request("goes_silent"), request("plain")]
            got = record(recorder_, load(wires, slots=1, timeout=0.5))
        assert got.ended == ["cut", "timeout", "complete"]


def test_an_untrusted_certificate(tmp_path: Path) -> None:
    context, _ = tls_contexts(tmp_path)
    wanted = r"TLS: .*unable to get local issuer certificate.*SSL_CERT_FILE"
    with (
        FaultyServer(tls=context) as server,
        closing(Recorder(target(server.url))) as client,
        pytest.raises(Unreachable, match=wanted),
    ):
        client.open(2)


def test_a_certificate_for_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = tls_contexts(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with FaultyServer(tls=context) as server:
        there = replace(target(server.url), host="other.invalid")
        with closing(Recorder(there)) as client, pytest.raises(Unreachable, match="Hostname mism"):
            client.open(1)


def answering(line: bytes) -> Callable[[socket.socket, int], None]:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.sendall(line + b"\r\n\r\n")

    return serve


def test_tls_to_a_server_without_tls() -> None:
    with ScriptedServer(answering(b"HTTP/1.1 400 Bad Request")) as server:
        there = target(server.url.replace("http:", "https:"))
        with closing(Recorder(there)) as client, pytest.raises(Unreachable, match=r"TLS: .*--url"):
            client.open(1)


class ProxyOfOne(ForwardProxy):
    """Takes every name for one server's."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def _connect(self, address: Address) -> socket.socket:
        return super()._connect(("127.0.0.1", self._port))


def through(proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)


@pytest.mark.usefixtures("poller")
def test_a_forward_proxy(faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProxyOfOne(faulty.port) as proxy:
        through(proxy, monkeypatch)
        with client("http://server.invalid:8000") as http:
            assert http.get("/v1/models").json()["data"][0]["id"] == MODEL
            assert http.post(f"/plain{CHAT}", json=ASKED).status_code == 200
    assert proxy.targets == [
        "GET http://server.invalid:8000/v1/models",
        f"POST http://server.invalid:8000/plain{CHAT}",
    ]


@pytest.mark.usefixtures("poller")
def test_a_tunnel_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = tls_contexts(tmp_path)
    ours = trustme.CA()
    ours.issue_cert("server.invalid").configure_cert(context)
    ours.cert_pem.write_to_path(str(authority))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with FaultyServer(tls=context) as server, ProxyOfOne(server.port) as proxy:
        through(proxy, monkeypatch)
        check("https://server.invalid")
    assert set(proxy.targets) == {"CONNECT server.invalid:443"}


def test_loopback_bypasses_a_proxy(faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProxyOfOne(1) as proxy:
        through(proxy, monkeypatch)
        check(faulty.url)
    assert proxy.targets == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            b"HTTP/1.1 407 Proxy Authentication Required",
            r"through the proxy 127.0.0.1:\d+: the proxy .* answers '.*407 Proxy Auth",
            id="refuses",
        ),
        pytest.param(b"x" * 300_000, "sends a response head without end", id="endless head"),
    ],
)
def test_a_proxy_that_refuses_a_tunnel(
    line: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ScriptedServer(answering(line)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with (
            closing(Recorder(target("https://server.invalid"))) as client,
            pytest.raises(Unreachable, match=message),
        ):
            client.open(1)
