"""What may lie between a client and a server: closed and deaf ports, a proxy, certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

Address = tuple[str, int]


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The URL of a port that refuses connections; nobody else can get it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """The URL of a port where connecting gets no answer: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for 127.0.0.1 and localhost, and the file of the
    authority that signed it.
    """
    import trustme

    authority = trustme.CA()
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost", "::1").configure_cert(context)
    return context, trusted


class ForwardProxy:
    """A plain HTTP forward proxy on a free loopback port, as long as the context lasts.

    Requests in absolute form go on in origin form, CONNECT makes a tunnel. One origin per
    connection. `targets` has what was asked for.
    """

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ForwardProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self, target: Callable[[], None]) -> None:
        def quietly() -> None:
            # Either side may go at any time; then the other's end follows.
            with contextlib.suppress(OSError, ValueError):
                target()

        thread = threading.Thread(target=quietly, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self._sockets.append(client)
            self._start(partial(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        origin: socket.socket | None = None
        with client, client.makefile("rb") as stream:
            while line := stream.readline():
                method, target, version = line.decode("latin-1").split()
                self.targets.append(f"{method} {target}")
                head, length = read_headers(stream)
                if origin is None:
                    origin = self._connect(address_of(method, target))
                    if method == "CONNECT":
                        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._start(partial(relay, origin.recv, client))
                if method == "CONNECT":
                    relay(stream.read1, origin)
                    return
                path = target[target.index("/", target.index("//") + 2) :]
                first = f"{method} {path} {version}\r\n".encode("latin-1")
                origin.sendall(first + head + stream.read(length))

    def _connect(self, address: Address) -> socket.socket:
        origin = socket.create_connection(address, timeout=10)
        origin.settimeout(None)
        self._sockets.append(origin)
        return origin


def address_of(method: str, target: str) -> Address:
    """Where a proxied request is to go."""
    parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
    return parts.hostname or "", parts.port or (443 if method == "CONNECT" else 80)


def read_headers(stream: BufferedReader) -> tuple[bytes, int]:
    """The headers to pass on, the empty line included, and the body's length."""
    headers, length = [], 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if not name.lower().startswith(b"proxy-"):
            headers.append(line)
    return b"".join([*headers, b"\r\n"]), length


def relay(read: Callable[[int], bytes], sink: socket.socket) -> None:
    """Bytes from here to there, until one of them ends; then the sink's sending ends too."""
    while data := read(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
