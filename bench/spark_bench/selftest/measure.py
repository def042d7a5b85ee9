"""One load against the ruler, by the code that `run` uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_bench.client.audit import Audit
from spark_bench.client.judge import audit
from spark_bench.client.tally import cpu_seconds, files_allowed, undisturbed
from spark_bench.client.target import Envelope
from spark_bench.display.show import Show
from spark_bench.errors import BadInput
from spark_bench.load.profiles import find
from spark_bench.load.slots import steps
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.summary import summarize
from spark_bench.options import RunOptions
from spark_bench.protocol.dialects import Asking, dialect
from spark_bench.protocol.reading import read
from spark_bench.record import Load, Message, Prompt, Request, Timing
from spark_bench.ruler.ruler import Ruler
from spark_bench.ruler.streams import Stream
from spark_bench.run.asking import Agreed
from spark_bench.run.plan import connections, jobs
from spark_bench.run.reach import Reached, reached
from spark_bench.run.understand import merged
from spark_bench.selftest.shape import Shape, named

if TYPE_CHECKING:
    from spark_bench.client.recording import Recording

ID = re.compile(rb"\r\nx-ruler-id: (\d+)\r\n")
# More than the ruler's longest head.
HEAD = 1024
TIMEOUT = 60.0
# What the recorder leaves for other files than its sockets; more streams than are ever asked for.
FILES = 64
MOST_STREAMS = 4096


@dataclass
class Seen:
    """What the client saw, and what the ruler sent.

    ids: of the ruler's stream, by the request's index
    """

    requests: list[Request]
    ids: dict[int, int]
    streams: list[Stream]
    audit: Audit
    summary: Summary


class Bench:
    """The client, connected to a ruler."""

    def __init__(self, ruler: Ruler, server: Reached, show: Show) -> None:
        self.ruler = ruler
        self.show = show
        self._recorder = server.recorder
        spoken = dialect("chat")
        asked = server.http.build_request("POST", spoken.path)
        envelope = Envelope(asked, server.recorder.target)
        self._agreed = Agreed(spoken, Asking(model=server.model), envelope)

    @property
    def most_streams(self) -> int:
        """As many as there may be open files, some aside for everything else."""
        return files_allowed(MOST_STREAMS + FILES) - FILES

    def measure(self, shape: Shape, label: str) -> Seen:
        """Send a load of this shape; read and sum it up as a run does."""
        self.ruler.reset()
        self.ruler.configure(**shape.ruler)
        load = self._load(shape)
        if self._recorder.open(connections(load)) < shape.slots:
            raise BadInput(
                f"{named(shape.slots)}: this process may open {self.most_streams:,} connections "
                "at most; ask for fewer --streams, or raise the limit (ulimit -n)"
            )
        self.show.start(len(load.jobs), label)
        recording = self._recorder.record(load, self.show.update)
        self.show.end()
        with closing(recording.store):
            return self._seen(shape, load, recording)

    def _load(self, shape: Shape) -> Load:
        prompt = Prompt((Message("user", "How late are you?"),), None, shape.tokens)
        count = shape.requests
        made = jobs(self._agreed, [prompt] * count, [Timing()] * count)
        return Load(made, steps(shape.slots), TIMEOUT)

    def _seen(self, shape: Shape, load: Load, recording: Recording) -> Seen:
        requests, ids = list[Request](), dict[int, int]()
        with undisturbed():
            before = cpu_seconds()
            for exchange in recording.exchanges():
                job = load.jobs[exchange.index]
                requests.append(read(exchange, job, self._agreed.dialect, self._agreed.asking))
                if named := ID.search(exchange.data, 0, HEAD):
                    ids[exchange.index] = int(named[1])
            parse_seconds = cpu_seconds() - before
        summary = summarize(requests, slots=shape.slots)
        account = audit(
            recording,
            tls=False,
            merged=merged(requests),
            parse_seconds=parse_seconds,
            e2e_ms=summary.median_e2e_latency_ms,
            gap_ms=summary.median_icl_ms,
        )
        return Seen(requests, ids, self.ruler.dump(), account, summary)


@contextmanager
def bench(ruler: Ruler, show: Show) -> Iterator[Bench]:
    """Connect as `run --url` does."""
    options = RunOptions(profile=find("quick", ()), overrides={}, url=ruler.url)
    with reached(options) as server:
        yield Bench(ruler, server, show)
