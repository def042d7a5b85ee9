"""One load against the reference server, sent by the code that `spark-bench run` uses."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Self

from spark_bench import errors, record
from spark_bench.client import recorder, tally, target
from spark_bench.client.audit import Audit
from spark_bench.client.judge import audit
from spark_bench.display.progress import ProgressDisplay
from spark_bench.load.arrivals import steps
from spark_bench.metrics import figures, times
from spark_bench.metrics.bounds import Bound, bound_figures
from spark_bench.metrics.summary import summarize
from spark_bench.options import ServerOptions
from spark_bench.protocol import dialects, reading
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Stream
from spark_bench.run import negotiate, reach, run_load

# Answers per stream, one after the other, so that even a single stream gives several TTFTs.
ROUNDS = 4
# Share of an answer's duration that passes before its first token.
TTFT_SHARE = 0.2
# Time between chunks in the search for capacity: an engine's step on a good day.
PACE_MS = 10.0
# In that search, the client sends all requests at once (0.1 ms each, up to 1,600), and none may be
# answered before the last is sent.
PACED_TTFT_MS = 300.0
ID = re.compile(rb"\r\nx-reference-id: (\d+)\r\n")
# More than the reference server's longest head.
HEAD = 1024
TIMEOUT = 60.0
# FILES: open files that are not the recorder's sockets. MOST_STREAMS: more than is ever requested.
FILES = 64
MOST_STREAMS = 4096


@dataclass(frozen=True)
class LoadShape:
    """A load, all of whose answers have the same shape.

    slots: requests in flight; rounds: requests that each slot sends, one after the other
    tokens: per answer
    ttft_ms, itl_ms: of the reference server's answers; both 0: it never waits
    more: further settings of the reference server
    """

    slots: int
    rounds: int
    tokens: int
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    more: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def lasting(cls, seconds: float, streams: int, itl_ms: float) -> Self:
        """A load of about this duration; each answer has at least two gaps."""
        answer_ms = seconds * 1e3 / ROUNDS
        ttft_ms = answer_ms * TTFT_SHARE
        gaps = max(2, round((answer_ms - ttft_ms) / itl_ms))
        return cls(streams, ROUNDS, gaps + 1, ttft_ms, itl_ms)

    @classmethod
    def at_rate(cls, rate: int, seconds: float) -> Self:
        """A load of this many chunks per second, from as many streams as that takes."""
        streams = max(1, round(rate * PACE_MS / 1e3))
        return cls(streams, 1, round(seconds * 1e3 / PACE_MS) + 1, PACED_TTFT_MS, PACE_MS)

    @property
    def requests(self) -> int:
        return self.slots * self.rounds

    @property
    def chunks_per_s(self) -> float:
        """Chunks per second while all streams are running; 0 if the server never waits."""
        return self.slots * 1e3 / self.itl_ms if self.itl_ms else 0.0

    @property
    def server_settings(self) -> dict[str, int]:
        """The reference server's settings for this load; times in µs."""
        times = {"ttft_us": round(self.ttft_ms * 1e3), "itl_us": round(self.itl_ms * 1e3)}
        return {**times, **self.more}


def count_streams(streams: int) -> str:
    """
    >>> count_streams(1), count_streams(1024)
    ('1 stream', '1,024 streams')
    """
    return f"{streams:,} stream{'s' * (streams != 1)}"


def chunk_rate(streams: int) -> int:
    """Chunks per second from this many streams with PACE_MS between chunks."""
    return int(streams * 1e3 / PACE_MS)


@dataclass
class Observation:
    """What the client received, and what the reference server sent.

    ids: id of the server's stream by the index of the request
    """

    requests: list[record.Request]
    ids: dict[int, int]
    streams: list[Stream]
    audit: Audit
    summary: figures.Summary
    bounds: dict[str, Bound]


class Bench:
    """The client, connected to a reference server."""

    def __init__(
        self, reference: ReferenceServer, server: reach.ReachedServer, show: ProgressDisplay
    ) -> None:
        self.reference = reference
        self.show = show
        self._recorder = server.recorder
        chat = dialects.dialect("chat")
        envelope = target.Envelope(
            server.http.build_request("POST", chat.path), server.recorder.target
        )
        self._agreement = negotiate.Agreement(
            chat, dialects.RequestTerms(model=server.model), envelope
        )

    @property
    def most_streams(self) -> int:
        """As many as the limit on open files allows, less FILES for everything else."""
        return tally.files_allowed(MOST_STREAMS + FILES) - FILES

    def observe(self, shape: LoadShape, label: str) -> Observation:
        """Send a load of this shape; read and summarize the responses as a run does."""
        self.reference.reset()
        self.reference.configure(**shape.server_settings)
        prompt = record.Prompt((record.Message("user", "How late are you?"),), None, shape.tokens)
        prompts, timings = [prompt] * shape.requests, [record.Timing()] * shape.requests
        load = record.Load(
            run_load.build_jobs(self._agreement, prompts, timings), steps(shape.slots), TIMEOUT
        )
        if self._recorder.open(run_load.count_connections(load)) < shape.slots:
            raise errors.BadInput(
                f"{count_streams(shape.slots)}: this process may open {self.most_streams:,} "
                "connections at most; ask for fewer --streams, or raise the limit (ulimit -n)"
            )
        self.show.start(len(load.jobs), label)
        recording = self._recorder.record(load, self.show.update)
        self.show.end()
        with closing(recording.store):
            return self._read(shape, load, recording)

    def _read(
        self, shape: LoadShape, load: record.Load, recording: recorder.Recording
    ) -> Observation:
        requests, ids = list[record.Request](), dict[int, int]()
        with tally.undisturbed():
            before = tally.cpu_seconds()
            for exchange in recording.exchanges():
                job = load.jobs[exchange.index]
                requests.append(
                    reading.read_exchange(
                        exchange, job, self._agreement.dialect, self._agreement.terms
                    )
                )
                if match := ID.search(exchange.data[:HEAD]):
                    ids[exchange.index] = int(match[1])
            parse_seconds = tally.cpu_seconds() - before
        timed = times.TimedRequests(requests)
        summary = summarize(timed, slots=shape.slots)
        bounds = bound_figures(timed, summary, clock_error_ns=recording.tally.step_ns)
        account = audit(
            recording,
            tls=False,
            requests=requests,
            summary=summary,
            bounds=bounds,
            parse_seconds=parse_seconds,
            closed=True,
        )
        return Observation(requests, ids, self.reference.dump(), account, summary, bounds)


@contextmanager
def connect_bench(reference: ReferenceServer, show: ProgressDisplay) -> Iterator[Bench]:
    """Connect as `run --url` does."""
    options = ServerOptions(url=reference.url)
    with reach.reach(options) as server:
        yield Bench(reference, server, show)
