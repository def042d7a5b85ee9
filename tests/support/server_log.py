"""What really came from a server, and when: a pass-through on loopback that keeps the bytes.

It shares nothing with spark-bench, so that figures computed from its log are a second opinion. An
answer's bytes count from when they are passed on, a request from when the kernel had it for us: the
time that this program was kept waiting is in neither.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

EVENT = re.compile(rb"data: (\{.*?\})\n\n", re.DOTALL)
READ = 65536
# Linux' SO_TIMESTAMPNS, which Python has no name for: the kernel's receive time beside the bytes.
STAMPED = 35
TIMESPEC = struct.Struct("@qq")


@dataclass
class Exchange:
    """A request and what came for it; `arrivals`: (time_ns, bytes), each as it came."""

    asked_ns: int
    request: bytes
    arrivals: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def whole(self) -> bytes:
        return b"".join(came for _, came in self.arrivals)

    @property
    def answered(self) -> bool:
        """It streamed to its end."""
        return b"".join(came for _, came in self.arrivals).endswith(
            b"data: [DONE]\n\n\r\n0\r\n\r\n"
        )

    @property
    def body(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.request.partition(b"\r\n\r\n")[2])
        return fields

    def events(self) -> list[tuple[int, dict[str, Any]]]:
        """Each stream event with when its last byte came; llama.cpp has one in each HTTP chunk."""
        ends = list(accumulate(len(came) for _, came in self.arrivals))
        exchanges = []
        for match in EVENT.finditer(self.whole):
            read = next(i for i, end in enumerate(ends) if match.end() <= end)
            exchanges.append((self.arrivals[read][0], json.loads(match[1])))
        return exchanges

    def tokens(self) -> list[int]:
        """When each event with text came."""
        return [at for at, event in self.events() if _text(event)]

    def last(self) -> dict[str, Any]:
        """The event with llama.cpp's own `timings`, and the usage."""
        return next(event for _, event in reversed(self.events()) if "timings" in event)


def _text(event: dict[str, Any]) -> str:
    choices = event["choices"]
    if not choices:
        return ""
    return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""


class ServerLog(threading.Thread):
    """Listens on `port`, passes on to `server`, and logs before it passes on."""

    def __init__(self, server: int) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.exchanges: list[Exchange] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        if sys.platform == "linux":
            self._listener.setsockopt(socket.SOL_SOCKET, STAMPED, 1)  # what it accepts inherits it
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._latest: dict[socket.socket, Exchange] = {}
        self._stopping = False

    def run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass(key.fileobj, to_server=key.data)
        for sock in [*self._peers, self._listener]:
            sock.close()

    def stop(self) -> None:
        self._stopping = True
        self.join(timeout=10)
        assert not self.is_alive()

    def streams(self, tokens: int) -> list[Exchange]:
        """The answered requests for so many tokens."""
        streams = [e for e in self.exchanges if e.answered]
        return [e for e in streams if e.body.get("max_tokens") == tokens]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self.server))
        for sock, other in ((client, server), (server, client)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[sock] = other
            self._selector.register(sock, selectors.EVENT_READ, data=sock is client)

    def _pass(self, sock: socket.socket, to_server: bool) -> None:
        other = self._peers.get(sock)
        if other is None:
            return
        try:
            came, ancillary, _, _ = sock.recvmsg(READ, 64)
            if came:
                now = _received(ancillary) if to_server else time.time_ns()
                self._note(sock, other, to_server, now, came)
                other.sendall(came)
                return
        except OSError:
            pass
        for one in (sock, other):
            self._selector.unregister(one)
            del self._peers[one]
            one.close()

    def _note(
        self, sock: socket.socket, other: socket.socket, to_server: bool, now: int, came: bytes
    ) -> None:
        if not to_server:
            self._latest[other].arrivals.append((now, came))
        elif came.startswith((b"GET ", b"POST ")):
            self._latest[sock] = Exchange(now, came)
            self.exchanges.append(self._latest[sock])
        else:
            self._latest[sock].request += came


def _received(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel had it, by its stamp; now, without one."""
    if not ancillary:
        return time.time_ns()
    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
    return int(seconds * 10**9 + nanoseconds)


@contextmanager
def server_log(server: int) -> Iterator[ServerLog]:
    """A log of all that clients of its `port` ask the server at this port."""
    log = ServerLog(server)
    log.start()
    try:
        yield log
    finally:
        log.stop()
