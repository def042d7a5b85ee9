"""Where requests go (addresses, TLS, a proxy), and a request as bytes."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from spark_bench.errors import BadInput, Unreachable

if TYPE_CHECKING:
    import httpx

PORTS = {"http": 80, "https": 443}

# Headers that depend on the body, which an envelope adds to each request.
OWN_HEADERS = (b"content-length:", b"content-type:", b"transfer-encoding:")


@dataclass(frozen=True)
class SocketAddress:
    """An address as `socket.connect` takes it, with its family."""

    family: int
    sockaddr: Any


@dataclass(frozen=True)
class Proxy:
    """A forward proxy, as the environment names it.

    credentials: value of a Proxy-Authorization header; empty if none are needed
    """

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)

    @property
    def header(self) -> bytes:
        """The Proxy-Authorization line with its line end; empty without credentials."""
        line = f"proxy-authorization: {self.credentials}\r\n"
        return line.encode() if self.credentials else b""


@dataclass(frozen=True)
class ServerTarget:
    """A server, as its URL names it.

    url: without a path, as in "http://spark-1:30000"
    addresses: addresses to try, in this order
    proxy: proxy that the environment asks for (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY); None:
        none
    tls: context for https; None for http
    """

    url: str
    host: str
    port: int
    addresses: tuple[SocketAddress, ...]
    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = None

    @property
    def tunnel(self) -> bytes:
        """The CONNECT request that opens a proxy's tunnel to an https server; else empty."""
        if self.proxy is None or self.tls is None:
            return b""
        address = host_and_port(self.host, self.port)
        return b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (
            address.encode(),
            address.encode(),
            self.proxy.header,
        )


def target(url: str) -> ServerTarget:
    """Look up where a URL leads.

    Raises BadInput for an invalid URL, Unreachable for a name without an address.
    """
    try:
        parts = urlsplit(url)
    except ValueError as e:
        raise BadInput(f"--url {url!r}: {e}: give http://HOST:PORT or https://HOST:PORT") from None
    scheme, host = parts.scheme, parts.hostname
    if scheme not in PORTS or not host:
        raise BadInput(f"--url {url!r}: give http://HOST:PORT or https://HOST:PORT")
    try:
        port = PORTS[scheme] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise BadInput(f"--url {url!r}: the port is not a number from 1 to 65535")
    proxy = _proxy(scheme, host, port)
    if proxy:
        cure = "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY"
        addresses = _addresses(proxy.host, proxy.port, cure)
    else:
        addresses = _addresses(host, port, "check --url")
    tls = None
    if scheme == "https":
        tls = ssl.create_default_context()  # trusts what the system or SSL_CERT_FILE trusts
        tls.set_alpn_protocols(["http/1.1"])
    return ServerTarget(
        url=f"{scheme}://{parts.netloc.rpartition('@')[2]}",
        host=host,
        port=port,
        addresses=addresses,
        proxy=proxy,
        tls=tls,
    )


def host_and_port(host: str, port: int) -> str:
    """HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def request_bytes(request: httpx.Request, target: ServerTarget) -> bytes:
    """A request that httpx has built, as bytes of HTTP/1.1.

    For a proxy in front of an http server, it has the whole URL and the proxy's credentials.
    """
    proxy = target.proxy if target.tls is None else None
    there = target.url.encode() if proxy else b""
    line = b"%b %b%b HTTP/1.1" % (request.method.encode(), there, request.url.raw_path)
    head = [line, *(name + b": " + value for name, value in request.headers.raw)]
    head += [proxy.header.strip()] if proxy and proxy.header else []
    return b"\r\n".join([*head, b"", request.content])


def _proxy(scheme: str, host: str, port: int) -> Proxy | None:
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    if loopback or proxy_bypass(f"{host}:{port}") or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy_url = proxies.get(scheme) or proxies.get("all")
    if not proxy_url:
        return None
    try:
        parts = urlsplit(proxy_url if "//" in proxy_url else f"http://{proxy_url}")
        if parts.scheme == "http" and parts.hostname:
            credentials = ""
            if parts.username is not None:
                pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                credentials = "Basic " + b64encode(pair.encode()).decode()
            return Proxy(parts.hostname, parts.port or PORTS["http"], credentials)
    except ValueError:
        pass
    # Don't show the value, which may contain a password.
    raise BadInput(
        f"{scheme.upper()}_PROXY: only proxies of the form http://HOST:PORT are supported; use "
        f"one, or bypass it with NO_PROXY={host}"
    )


def _addresses(host: str, port: int, cure: str) -> tuple[SocketAddress, ...]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        why = getattr(e, "strerror", None) or "not a name that could be looked up"
        raise Unreachable(f"{host}: no such host ({why}); {cure}") from None
    return tuple(
        dict.fromkeys(SocketAddress(family, sockaddr) for family, _, _, _, sockaddr in infos)
    )


class Envelope:
    """Turns bodies into requests that differ in nothing else, without using httpx for each.

    request: a request that httpx has built for the same path and headers
    """

    def __init__(self, request: httpx.Request, target: ServerTarget) -> None:
        lines = request_bytes(request, target).split(b"\r\n\r\n")[0].split(b"\r\n")
        shared = [line for line in lines if not line.lower().startswith(OWN_HEADERS)]
        self._head = b"\r\n".join([*shared, b"content-type: application/json", b"content-length: "])

    def __call__(self, body: bytes) -> bytes:
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
