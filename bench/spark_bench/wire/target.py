"""Where requests go: addresses, TLS, a proxy, and a request as bytes."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import BadInput, Unreachable

if TYPE_CHECKING:
    import httpx

PORTS = {"http": 80, "https": 443}

# Those that each body of an envelope brings.
OWN_HEADERS = (b"content-length:", b"content-type:", b"transfer-encoding:")


@dataclass(frozen=True)
class Address:
    """What `socket.connect` takes, with its family."""

    family: int
    sockaddr: Any

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Target:
    """A server, as its URL names it.

    url: without a path, as in "http://spark-1:30000"
    addresses: to try in this order
    proxy: "HOST:PORT" where requests go through one, as the environment asks (HTTP_PROXY,
        HTTPS_PROXY, NO_PROXY)
    tls: for https
    """

    url: str
    host: str
    port: int
    addresses: tuple[Address, ...]
    proxy: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def tunnel(self) -> bytes:
        """What opens the way through a proxy to an https server; empty where none is needed."""
        if not (self.proxy and self.tls):
            return b""
        place = f"{self.host}:{self.port}"
        return f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode()

    @property
    def absolute(self) -> bytes:
        """Before each request's path: a proxy is told the whole URL of an http server."""
        return self.url.encode() if self.proxy and not self.tls else b""


def target(url: str) -> Target:
    """Look up where a URL leads. BadInput for what is no such URL, Unreachable for a name that
    leads nowhere."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadInput(f"--url {url!r}: give http://HOST:PORT or https://HOST:PORT")
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError:
        raise BadInput(f"--url {url!r}: the port is no number from 1 to 65535") from None
    proxy = _proxy(parts.scheme, parts.hostname, port)
    place, at = proxy if proxy else (parts.hostname, port)
    return Target(
        url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        host=parts.hostname,
        port=port,
        addresses=_addresses(place, at),
        proxy=f"{place}:{at}" if proxy else "",
        tls=_context() if parts.scheme == "https" else None,
    )


def wire(request: httpx.Request, target: Target) -> bytes:
    """A request that httpx has built, as HTTP/1.1's bytes."""
    line = request.method.encode() + b" " + target.absolute + request.url.raw_path
    head = [line + b" HTTP/1.1", *(name + b": " + value for name, value in request.headers.raw)]
    return b"\r\n".join([*head, b"", request.content])


def _proxy(scheme: str, host: str, port: int) -> tuple[str, int] | None:
    if _loopback(host) or proxy_bypass(f"{host}:{port}") or proxy_bypass(host):
        return None
    found = getproxies().get(scheme)
    if not found:
        return None
    parts = urlsplit(found if "//" in found else f"http://{found}")
    if parts.scheme != "http" or not parts.hostname:
        raise BadInput(
            f"{scheme.upper()}_PROXY={found!r}: only http:// proxies are spoken; or go around it: "
            f"NO_PROXY={host}"
        )
    return parts.hostname, parts.port or PORTS["http"]


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _addresses(host: str, port: int) -> tuple[Address, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise Unreachable(f"{host}: no such host ({e.strerror}); check --url") from None
    return tuple(dict.fromkeys(Address(family, place) for family, _, _, _, place in found))


def _context() -> ssl.SSLContext:
    """The system's trust; SSL_CERT_FILE adds to it, as everywhere."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Envelope:
    """Turns bodies into requests that differ in nothing else, without httpx for each.

    request: any request that httpx has built for the same path and headers
    """

    def __init__(self, request: httpx.Request, target: Target) -> None:
        lines = wire(request, target).split(b"\r\n\r\n")[0].split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(OWN_HEADERS)]
        self._head = b"\r\n".join([*kept, b"content-type: application/json", b"content-length: "])

    def __call__(self, body: bytes) -> bytes:
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
