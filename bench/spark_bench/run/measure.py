"""One repeat: send it, read it, and say what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from spark_bench.api.reading import read
from spark_bench.cli.options import RunOptions
from spark_bench.display.show import Show
from spark_bench.errors import Unreachable
from spark_bench.metrics.distributions import distributions
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.intervals import over_requests
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import summarize
from spark_bench.prompts.tokens import Tokens
from spark_bench.record import Load, Request
from spark_bench.result.lengths import lengths
from spark_bench.result.sides import node_figures, server_figures
from spark_bench.result.types import Repeat
from spark_bench.run.asking import Agreed
from spark_bench.run.interrupt import Interrupts
from spark_bench.run.plan import connections
from spark_bench.run.reach import Reached
from spark_bench.server.lines import Job as Sampled
from spark_bench.server.readings import ServerSide
from spark_bench.server.sampling import Sampling
from spark_bench.wire.judge import audit
from spark_bench.wire.progress import Progress
from spark_bench.wire.recorder import Recorder
from spark_bench.wire.recording import Recording
from spark_bench.wire.tally import cpu_seconds, undisturbed


@dataclass
class Measured:
    """A repeat that has been measured.

    started_ns: when its load began; the requests' times are on the same clock
    lasted: seconds from there until the last request was over
    unsent: requests whose turn did not come
    """

    repeat: Repeat
    requests: list[Request]
    started_ns: int
    lasted: float
    unsent: int
    interrupted: bool


def measure(
    options: RunOptions,
    reached: Reached,
    agreed: Agreed,
    tokens: Tokens,
    load: Load,
    number: int,
    show: Show,
    interrupts: Interrupts,
    label: str,
) -> Measured:
    """Send a load and read what came of it."""

    def tell(progress: Progress) -> None:
        show.update(progress)
        interrupts.watch()

    tokens.close()  # a vocabulary in memory is of no use while the clock runs
    with sampled(options, reached) as sampling:
        opened(reached.recorder, load)
        started = datetime.now(UTC)
        show.start(len(load.jobs), label)
        recording = reached.recorder.record(load, tell)
        show.end()
        side = sampling.stop(recording.started_ns, recording.ended_ns) if sampling else None
    with closing(recording.store):
        requests, seconds = understood(load, agreed, tokens, recording)
    parts = _parts(options, reached, tokens, recording, requests, seconds, side)
    return Measured(
        Repeat(repeat=number, started=started, **parts),
        requests,
        recording.started_ns,
        (recording.ended_ns - recording.started_ns) / 1e9,
        len(load.jobs) - len(requests),
        recording.interrupted,
    )


def opened(recorder: Recorder, load: Load) -> None:
    """Connections for a load. A server that is gone meanwhile is the load's failure."""
    with suppress(Unreachable):
        recorder.open(connections(load))


@contextmanager
def sampled(options: RunOptions, reached: Reached) -> Iterator[Sampling | None]:
    """The server's metrics and the nodes' power, by a process of their own; None: neither."""
    power = options.power is not False and reached.listing is not None
    if options.metrics is False and not power:
        yield None
        return
    sampling = Sampling.start(
        Sampled(
            url=reached.url if options.metrics is not False else "",
            api_key=options.api_key.reveal() if options.api_key else "",
            nodes=reached.listing.nodes if power and reached.listing else (),
        )
    )
    try:
        yield sampling
    except BaseException:
        sampling.cancel()
        raise


def understood(
    load: Load, agreed: Agreed, tokens: Tokens, recording: Recording
) -> tuple[list[Request], float]:
    """The requests of a recording, and the CPU seconds that reading them took."""
    before = cpu_seconds()
    with undisturbed():
        try:
            requests = _read(load, agreed, recording, _counter(tokens))
        except Unreachable:  # the server, whose tokenizer it is, is gone
            requests = _read(load, agreed, recording, None)
    return requests, cpu_seconds() - before


def _counter(tokens: Tokens) -> Callable[[str], int] | None:
    """Counts the tokens of deltas, which say the same words again and again."""
    return cache(lambda text: tokens.count([text])[0]) if tokens.exact else None


def _read(
    load: Load, agreed: Agreed, recording: Recording, count: Callable[[str], int] | None
) -> list[Request]:
    return [
        read(
            exchange,
            load.jobs[exchange.index],
            agreed.dialect,
            agreed.asking,
            count=count,
            usage_expected=agreed.usage,
        )
        for exchange in recording.exchanges()
    ]


def merged(requests: Sequence[Request]) -> float:
    """Share of token bearing deltas that came in the same read as the one before."""
    deltas = sum(r.token_ns.size for r in requests)
    together = sum(int((np.diff(r.token_ns) == 0).sum()) for r in requests)
    return together / deltas if deltas else 0.0


def _parts(
    options: RunOptions,
    reached: Reached,
    tokens: Tokens,
    recording: Recording,
    requests: Sequence[Request],
    parse_seconds: float,
    side: ServerSide | None,
) -> dict[str, Any]:
    summary = summarize(requests, slo=options.slo, slots=options.profile.concurrency)
    compared = reconcile(side.before, side.after, requests) if side and side.after else None
    return {
        "summary": summary,
        "audit": audit(
            recording,
            tls=reached.recorder.target.tls is not None,
            merged=merged(requests),
            parse_seconds=parse_seconds,
            e2e_ms=summary.median_e2e_latency_ms,
            gap_ms=summary.median_icl_ms,
        ),
        "lengths": lengths(requests, tokens.name if tokens.exact else None),
        "distributions": distributions(requests),
        "intervals": over_requests(requests, seed=options.seed),
        "stalls": stalls(requests),
        "server": server_figures(side, compared) if side else None,
        "nodes": node_figures(side, summary.total_output_tokens) if side else None,
    }
