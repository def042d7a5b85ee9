"""One engine's /metrics over one kept connection."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from spark_bench.telemetry.messages import SamplerJob, ServerLine
from spark_bench.telemetry.prometheus import look

# A busy engine answers /metrics late, since it shares the loop that streams its tokens.
SECONDS = 5
PATH = "/metrics"
# A busy engine's are some hundred kilobytes; read, they take fifty times that.
MOST_BYTES = 4 * 1024 * 1024


class NoMetrics(Exception):
    """The server answers, but tells no metrics: there is no use in asking again."""


class Scraper:
    """Asks again and again; OSError and http.client's errors tell that one answer did not come."""

    def __init__(self, job: SamplerJob) -> None:
        parts = urlsplit(job.url if "//" in job.url else f"http://{job.url}")
        self.path = parts.path.rstrip("/").removesuffix("/v1") + PATH
        self.url = f"{parts.scheme}://{parts.netloc}{self.path}"
        self._headers = {"Authorization": f"Bearer {job.api_key}"} if job.api_key else {}
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "localhost", parts.port, timeout=SECONDS)

    def ask(self, *, histograms: bool) -> ServerLine:
        """What it tells now; NoMetrics where it never will."""
        try:
            self._connection.request("GET", self.path, headers=self._headers)
            reply = self._connection.getresponse()
            text = reply.read(MOST_BYTES + 1).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        at = time.perf_counter_ns()
        if reply.status >= http.client.INTERNAL_SERVER_ERROR:
            self._connection.close()
            raise http.client.HTTPException(f"answers {reply.status}")
        if reply.status != http.client.OK:
            self._connection.close()
            raise NoMetrics(f"answers {reply.status}")
        if len(text) > MOST_BYTES:
            self._connection.close()
            raise NoMetrics(f"answers with more than {MOST_BYTES} bytes")
        try:
            return ServerLine(at, look(text, histograms=histograms)).sealed()
        except ValueError as e:
            raise NoMetrics(f"answers what is no Prometheus text ({e})") from None
