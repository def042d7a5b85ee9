"""A server whose /metrics says what a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPOSITION = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{model_name="m"}} {running}
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{model_name="m"}} {tokens}
# TYPE sglang:time_to_first_token_seconds histogram
sglang:time_to_first_token_seconds_sum{{model_name="m"}} 1.5
sglang:time_to_first_token_seconds_bucket{{le="0.1",model_name="m"}} {tokens}
sglang:time_to_first_token_seconds_bucket{{le="+Inf",model_name="m"}} {tokens}
sglang:time_to_first_token_seconds_count{{model_name="m"}} {tokens}
"""


class FakeMetrics(ThreadingHTTPServer):
    """Each look finds 10 more tokens generated.

    status: of every answer; more: what follows the metrics; keys: the Authorization headers that
    came; connections: how many
    """

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.requests, self.connections = status, 0, 0
        self.more = b""
        self.keys: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeMetrics

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        fake = self.server
        fake.requests += 1
        fake.keys.add(self.headers.get("Authorization", ""))
        body = EXPOSITION.format(running=3, tokens=10 * fake.requests)
        body = body.encode() + fake.more if self.path == "/metrics" else b"elsewhere"
        self.send_response(fake.status if self.path == "/metrics" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def fake_metrics(status: int = 200) -> Iterator[FakeMetrics]:
    with FakeMetrics(status) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
