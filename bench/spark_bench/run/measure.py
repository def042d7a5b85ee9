"""One repeat: send it, read it, and say what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from spark_bench.api.reading import read
from spark_bench.cli.options import RunOptions
from spark_bench.display.show import Show
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
from spark_bench.run.plan import connections, warm_up
from spark_bench.run.reach import Reached
from spark_bench.server.lines import Job as Sampled
from spark_bench.server.readings import ServerSide
from spark_bench.server.sampling import Sampling
from spark_bench.wire.judge import audit
from spark_bench.wire.recorder import Recording
from spark_bench.wire.tally import cpu_seconds, undisturbed


@dataclass
class Measured:
    """A repeat that has been measured.

    started_ns: when its load began; the requests' times are on the same clock
    unsent: requests whose turn did not come
    """

    repeat: Repeat
    requests: list[Request]
    started_ns: int
    unsent: int
    interrupted: bool


def prepare(options: RunOptions, reached: Reached, agreed: Agreed, tokens: Tokens) -> None:
    """Warm the server up, then empty its prefix cache if the run shall not find anything there."""
    if options.warmup:
        load = warm_up(options, agreed, tokens)
        reached.recorder.open(connections(load))
        reached.recorder.record(load).store.close()
    if options.cache == "miss" and reached.engine == "sglang":
        # Prompts are the same for the same seed: a run before this one may have left them there.
        with suppress(httpx.TransportError):
            reached.http.post("/flush_cache")


def measure(
    options: RunOptions,
    reached: Reached,
    agreed: Agreed,
    tokens: Tokens,
    load: Load,
    number: int,
    show: Show,
    label: str,
) -> Measured:
    """Send a load and read what came of it."""
    tokens.close()  # a vocabulary in memory is of no use while the clock runs
    with sampled(options, reached) as sampling:
        reached.recorder.open(connections(load))
        started = datetime.now(UTC)
        show.start(len(load.jobs), label)
        recording = reached.recorder.record(load, show.update)
        show.end()
        side = sampling.stop(recording.started_ns, recording.ended_ns) if sampling else None
    with closing(recording.store):
        requests, seconds = understood(load, agreed, tokens, recording)
    parts = _parts(options, reached, tokens, recording, requests, seconds, side)
    return Measured(
        Repeat(repeat=number, started=started, **parts),
        requests,
        recording.started_ns,
        len(load.jobs) - len(requests),
        recording.interrupted,
    )


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
        sampling.stop()
        raise


def understood(
    load: Load, agreed: Agreed, tokens: Tokens, recording: Recording
) -> tuple[list[Request], float]:
    """The requests of a recording, and the CPU seconds that reading them took."""
    count = (lambda text: tokens.count([text])[0]) if tokens.exact else None
    before = cpu_seconds()
    with undisturbed():
        requests = [
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
    return requests, cpu_seconds() - before


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
