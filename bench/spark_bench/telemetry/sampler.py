"""The sampling process: reads a job from stdin, writes JSON lines, ends when stdin does.

    python -m spark_bench.telemetry.sampler

The first line of stdin is the job. A second line, whatever it says, requests a last reading of the
server and an orderly end; end of file (the parent is gone) ends it at once, and what runs on the
nodes. Whatever can't be sampled is a note, not an error.
"""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO
from urllib.parse import urlsplit

import msgspec

from spark_bench.project import ProjectNode
from spark_bench.telemetry import messages, prometheus, sampling

# The measuring client has priority.
NICENESS = 5
END_SECONDS = 2

Tell = Callable[[messages.SamplerLine], None]


class Ready:
    """Sends a ReadyLine once everything has been sampled once, or given up."""

    def __init__(self, tell: Tell, names: set[str]) -> None:
        self._tell, self._waiting, self._lock = tell, names, threading.Lock()

    def done(self, name: str) -> None:
        with self._lock:
            if name in self._waiting:
                self._waiting.remove(name)
                if not self._waiting:
                    self._tell(messages.ReadyLine())


class ServerThread(threading.Thread):
    """Reads /metrics once per interval; the first and the last reading include the histograms."""

    def __init__(self, job: messages.SamplerJob, tell: Tell, done: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.job, self.tell, self.done = job, tell, done
        self.scraper = Scraper(job)
        self.ending = threading.Event()
        self._failed = ""

    def run(self) -> None:
        try:
            whole = self._look(histograms=True)
            self.done()
            while not self.ending.wait(self.job.interval):
                whole = self._look(histograms=not whole) or whole
            self._look(histograms=True)
        except NoMetrics as e:
            cure = "serve with enable_metrics = True (SGLang's --enable-metrics)"
            self.tell(messages.NoteLine(f"{self.scraper.url} {e}: {cure}"))
        self.done()

    def _look(self, *, histograms: bool) -> bool:
        """One reading; False if there was no response, which is noted once per reason."""
        try:
            self.tell(self.scraper.ask(histograms=histograms))
        except (OSError, http.client.HTTPException) as e:
            why = str(e) or type(e).__name__
            if why != self._failed:
                self.tell(messages.NoteLine(f"{self.scraper.url} did not answer: {why}"))
            self._failed = why
            return False
        return True


class NodeThread(threading.Thread):
    """Reads the output of one node's loop."""

    def __init__(
        self, node: ProjectNode, words: list[str], tell: Tell, done: Callable[[], None]
    ) -> None:
        super().__init__(daemon=True)
        self.node, self.tell, self.done = node, tell, done
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.ending, self.answered = False, False

    def run(self) -> None:
        assert self.process.stdout and self.process.stderr
        self._read(self.process.stdout)
        if not self.ending:
            words = self.process.stderr.read().strip().splitlines()
            why = words[-1] if words else f"exit {self.process.wait()}"
            lost = "was lost" if self.answered else "can't be sampled"
            self.tell(messages.NoteLine(f"{self.node.name} {lost}: {why}"))
        elif not self.answered:
            self.tell(messages.NoteLine(f"{self.node.name} sent nothing before the run ended"))
        self.done()

    def _read(self, lines: IO[str]) -> None:
        """Report every round."""
        block: list[str] = []
        blind = ""
        for line in lines:
            if line.strip() != "end":
                block.append(line)
                continue
            sample, why = sampling.parse_sample(block, time.perf_counter_ns())
            self.tell(messages.NodeLine(self.node.name, sample))
            if why and why != blind:
                self.tell(messages.NoteLine(f"{self.node.name}: no power or temperature: {why}"))
            block, blind, self.answered = [], why or blind, True
            self.done()

    def close(self) -> None:
        """Close its stdin, which ends the loop on the node."""
        self.ending = True
        with suppress(OSError):
            assert self.process.stdin
            self.process.stdin.close()

    def end(self) -> None:
        self.join(END_SECONDS)
        self.process.kill()
        self.join(END_SECONDS)


def sample_until(job: messages.SamplerJob, tell: Tell, wait: Callable[[], bool]) -> None:
    """Sample until `wait` returns: True for an orderly end with a last reading, False to end at
    once.

    tell: called with each line, from several threads
    """
    ways = [(node, sampling.sampling_argv(node, job.interval)) for node in job.nodes]
    names = {node.name for node, words in ways if words} | ({job.url} if job.url else set())
    ready = Ready(tell, set(names))
    for node, words in ways:
        if not words:
            tell(messages.NoteLine(f"{node.name} can't be sampled: it is not reached through SSH"))
    if not names:
        tell(messages.ReadyLine())
    feeds = [
        NodeThread(node, words, tell, lambda name=node.name: ready.done(name))  # type: ignore[misc]
        for node, words in ways
        if words
    ]
    server = ServerThread(job, tell, lambda: ready.done(job.url)) if job.url else None
    for thread in (*feeds, *([server] if server else [])):
        thread.start()
    orderly = wait()
    if server and orderly:
        server.ending.set()
        server.join()
    for feed in feeds:
        feed.close()
    for feed in feeds:
        feed.end()


def run_sampler() -> None:
    os.nice(NICENESS)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=messages.SamplerJob)
    encoder, lock = msgspec.json.Encoder(), threading.Lock()

    def tell(line: messages.SamplerLine) -> None:
        with lock:
            os.write(sys.stdout.fileno(), encoder.encode(line) + b"\n")

    sample_until(job, tell, lambda: bool(sys.stdin.buffer.readline()))


METRICS_PATH = "/metrics"
# A busy engine sends a few hundred kilobytes; parsed, they take fifty times as much memory.
MOST_BYTES = 4 * 1024 * 1024


class NoMetrics(Exception):
    """The server responds without metrics: there is no point in trying again."""


class Scraper:
    """One engine's /metrics over one connection. OSError and http.client's errors mean that one
    reading failed."""

    def __init__(self, job: messages.SamplerJob) -> None:
        parts = urlsplit(job.url if "//" in job.url else f"http://{job.url}")
        self.path = parts.path.rstrip("/").removesuffix("/v1") + METRICS_PATH
        self.url = f"{parts.scheme}://{parts.netloc}{self.path}"
        self._headers = {"Authorization": f"Bearer {job.api_key}"} if job.api_key else {}
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(
            parts.hostname or "localhost", parts.port, timeout=messages.SCRAPE_SECONDS
        )

    def ask(self, *, histograms: bool) -> messages.ServerLine:
        """Take a reading; NoMetrics if no attempt can ever succeed."""
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
            return messages.ServerLine(
                at, prometheus.parse_metrics(text, histograms=histograms)
            ).sealed()
        except ValueError as e:
            raise NoMetrics(f"answers with invalid Prometheus text ({e})") from None


if __name__ == "__main__":
    run_sampler()
