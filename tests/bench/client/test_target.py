"""Which server a URL and the environment select."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from spark_bench.client.target import Envelope, ServerTarget, request_bytes, target
from spark_bench.errors import BadInput, Unreachable

PROXY = "http://127.0.0.1:3128"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        pytest.param("http://127.0.0.1:30000", ("http://127.0.0.1:30000", "127.0.0.1", 30000)),
        pytest.param("http://127.0.0.1", ("http://127.0.0.1", "127.0.0.1", 80)),
        pytest.param("https://127.0.0.1/v1", ("https://127.0.0.1", "127.0.0.1", 443)),
        pytest.param("http://[::1]:8000/v1", ("http://[::1]:8000", "::1", 8000), id="IPv6"),
        pytest.param("http://me:pw@127.0.0.1:1", ("http://127.0.0.1:1", "127.0.0.1", 1), id="auth"),
    ],
)
def test_urls(url: str, wanted: tuple[str, str, int]) -> None:
    address = target(url)
    assert (address.url, address.host, address.port) == wanted
    assert (address.tls is not None) == url.startswith("https")
    assert address.addresses[0].sockaddr[:2] == (address.host, address.port)
    assert address.addresses[0].family == (socket.AF_INET6 if "[" in url else socket.AF_INET)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("localhost:30000", "give http://HOST:PORT", id="no scheme"),
        pytest.param("ftp://127.0.0.1", "give http://HOST:PORT", id="another scheme"),
        pytest.param("http://", "give http://HOST:PORT", id="no host"),
        pytest.param("http://[::1", "give http://HOST:PORT", id="half an address"),
        pytest.param("http://127.0.0.1:0", "not a number from 1 to 65535", id="port 0"),
        pytest.param("http://127.0.0.1:65536", "not a number from 1 to 65535", id="port too high"),
        pytest.param("http://127.0.0.1:x", "not a number from 1 to 65535", id="port in words"),
    ],
)
def test_invalid_urls(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as error:
        target(url)
    assert repr(url) in error.value.message


@pytest.mark.parametrize("url", ["http://server.invalid", f"http://{'x' * 70}.invalid"])
def test_a_host_name_without_an_address(url: str) -> None:
    with pytest.raises(Unreachable, match=r"no such host .*check --url"):
        target(url)


@pytest.mark.parametrize(
    ("url", "env", "through"),
    [
        pytest.param("http://server.invalid", {"HTTP_PROXY": PROXY}, True, id="http"),
        pytest.param("https://server.invalid", {"HTTPS_PROXY": PROXY}, True, id="https"),
        pytest.param("https://server.invalid", {"ALL_PROXY": PROXY}, True, id="all"),
        pytest.param("http://server.invalid", {"http_proxy": "127.0.0.1:3128"}, True, id="bare"),
        pytest.param("http://127.0.0.1:1", {"HTTP_PROXY": PROXY}, False, id="loopback"),
        pytest.param("http://127.8.9.1:1", {"ALL_PROXY": PROXY}, False, id="all of loopback"),
        pytest.param("http://localhost:1", {"HTTP_PROXY": PROXY}, False, id="localhost"),
        pytest.param("http://[::1]:1", {"HTTP_PROXY": PROXY}, False, id="IPv6 loopback"),
        pytest.param("http://127.evil.invalid", {"HTTP_PROXY": PROXY}, True, id="127. in a name"),
        pytest.param(
            "http://192.0.2.1", {"HTTP_PROXY": PROXY, "NO_PROXY": "192.0.2.1"}, False, id="not this"
        ),
        pytest.param(
            "http://192.0.2.1:81",
            {"HTTP_PROXY": PROXY, "NO_PROXY": "192.0.2.1:81"},
            False,
            id="not this port",
        ),
        pytest.param(
            "http://192.0.2.1:81",
            {"HTTP_PROXY": PROXY, "NO_PROXY": "192.0.2.1:82"},
            True,
            id="another port",
        ),
        pytest.param(
            "http://192.0.2.1", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, False, id="none at all"
        ),
        pytest.param("http://192.0.2.1", {"HTTPS_PROXY": PROXY}, False, id="the other scheme's"),
    ],
)
def test_proxies(
    url: str, env: dict[str, str], through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    address = target(url)
    assert (address.proxy is not None) == through
    if through:
        assert str(address.proxy) == "127.0.0.1:3128"
        assert address.addresses[0].sockaddr == ("127.0.0.1", 3128)


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://x:y:z"])
def test_unsupported_proxies(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value.replace("://", "://user:secret@"))
    with pytest.raises(BadInput, match=r"HTTP_PROXY: .* NO_PROXY=server\.invalid") as error:
        target("http://server.invalid")
    assert "secret" not in error.value.message


def sent_bytes(
    there: ServerTarget, url: str = "http://server.invalid:81/v1/x?y=1", **more: Any
) -> bytes:
    return request_bytes(httpx.Request("POST", url, **more), there)


def test_a_request_as_bytes() -> None:
    bytes_ = sent_bytes(
        target("http://127.0.0.1"), json={"a": 1}, headers={"authorization": "Bearer k"}
    )
    head, _, body = bytes_.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nHost: server.invalid:81\r\n")
    assert b"\r\nauthorization: Bearer k" in head
    assert body == b'{"a":1}'
    assert b"\r\nContent-Length: %d" % len(body) in head


def test_a_proxy_gets_the_whole_url_and_our_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:p%40ss@127.0.0.1:3128")
    there = target("http://server.invalid:81")
    head = sent_bytes(there).decode()
    assert head.startswith("POST http://server.invalid:81/v1/x?y=1 HTTP/1.1\r\n")
    assert "\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n" in head
    assert "bWU6" not in repr(there), "credentials stay out of what may be printed"
    assert there.tunnel == b""


@pytest.mark.parametrize(
    ("host", "place"),
    [
        pytest.param("server.invalid", b"server.invalid:443", id="name"),
        pytest.param("[2001:db8::1]", b"[2001:db8::1]:443", id="IPv6"),
    ],
)
def test_a_tunnel_hides_the_request(
    host: str, place: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pw@127.0.0.1:3128")
    there = target(f"https://{host}")
    assert there.tunnel == (
        b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (place, place)
        + b"proxy-authorization: Basic bWU6cHc=\r\n\r\n"
    )
    head = sent_bytes(there, f"https://{host}/v1")
    assert head.startswith(b"POST /v1 HTTP/1.1\r\n")
    assert b"proxy" not in head


def test_an_envelope_builds_the_same_bytes_as_httpx() -> None:
    there = target("http://127.0.0.1:1")
    request = httpx.Request("POST", "http://127.0.0.1:1/v1", content=b"old", headers={"x": "1"})
    content = Envelope(request, there)(b'{"new": 1}')
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b'{"new": 1}'
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1 http/1.1"
    assert sorted(lines[1:]) == [
        b"content-length: 10",
        b"content-type: application/json",
        b"host: 127.0.0.1:1",
        b"x: 1",
    ]
