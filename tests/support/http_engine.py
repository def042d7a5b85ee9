"""A small HTTP server in an engine's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeEngine(BaseHTTPRequestHandler):
    """What each fake answers is its own."""

    def say(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def requested_with(self) -> str:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextmanager
def listening(engine: type[FakeEngine]) -> Iterator[str]:
    """Its URL, on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), engine)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
