"""A server of faults: it speaks the OpenAI API in every way that clients trip over.

>>> with FaultyServer() as server:
...     server.at("cut_by_reset")
'http://127.0.0.1:41234/cut_by_reset'

The first part of the path names the behavior (faulty_behaviors.py has them all); without one it is
the server's own, "plain" by default.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import TracebackType

from faulty_behaviors import BEHAVIORS, perform
from faulty_call import Call


class FaultyServer:
    """On a free loopback port, as long as the context lasts; a thread per connection.

    behavior: of requests whose path names none
    ipv6: on ::1
    tls: speak TLS with this context (`tls_contexts` makes one)
    accept_delay: seconds before each connection is accepted; the kernel has completed it already
    pace: seconds between the events of a stream
    calls: every request that came; connections: how many were accepted
    """

    def __init__(
        self,
        behavior: str = "plain",
        *,
        ipv6: bool = False,
        tls: ssl.SSLContext | None = None,
        accept_delay: float = 0.0,
        pace: float = 0.001,
    ) -> None:
        if behavior not in BEHAVIORS:
            raise ValueError(f"no such behavior: {behavior}")
        self.behavior = behavior
        self.tls = tls
        self.accept_delay = accept_delay
        self.pace = pace
        self.calls: list[Call] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        host = "::1" if ipv6 else "127.0.0.1"
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        scheme = "https" if tls else "http"
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{scheme}://{'[::1]' if ipv6 else host}:{self.port}"

    def at(self, behavior: str) -> str:
        """The base URL under which the server behaves like this."""
        if behavior not in BEHAVIORS:
            raise ValueError(f"no such behavior: {behavior}")
        return f"{self.url}/{behavior}"

    def __enter__(self) -> FaultyServer:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        # Closing alone doesn't wake an accept() that waits.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.wait(self.accept_delay):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        # The client may go at any time: that is its right.
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            for call in read_calls(connection, self.pace):
                self.calls.append(call)
                if not self._answer(call):
                    break
        self._open.discard(connection)
        connection.close()

    def _answer(self, call: Call) -> bool:
        name, _, rest = call.path.lstrip("/").partition("/")
        if name in BEHAVIORS:
            return perform(name, replace(call, path=f"/{rest}"))
        return perform(self.behavior, call)


def read_calls(connection: socket.socket, pace: float) -> Iterator[Call]:
    """The requests that come over one connection."""
    with connection.makefile("rb") as stream:
        while line := stream.readline():
            method, target, _ = line.decode("latin-1").split()
            headers = {}
            while (header := stream.readline().decode("latin-1").strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            if headers.get("expect", "").lower() == "100-continue":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = stream.read(int(headers.get("content-length", 0)))
            path = target.partition("?")[0]
            yield Call(connection, method, path, headers, body, pace)
            if headers.get("connection", "").lower() == "close":
                return
