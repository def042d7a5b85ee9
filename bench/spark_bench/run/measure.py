"""One repeat: send it, read it, and say what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spark_bench.client.judge import audit
from spark_bench.client.progress import Progress
from spark_bench.client.recorder import Recorder
from spark_bench.client.recording import Recording
from spark_bench.errors import Unreachable
from spark_bench.metrics.distributions import distributions
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.intervals import over_requests
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import summarize
from spark_bench.options import RunOptions
from spark_bench.record import Load, Request
from spark_bench.results.lengths import lengths
from spark_bench.results.server_figures import node_figures, server_figures
from spark_bench.results.types import Repeat
from spark_bench.run.plan import connections
from spark_bench.run.reach import Reached
from spark_bench.run.scene import Scene
from spark_bench.run.understand import Understood, merged, understood, unseen
from spark_bench.telemetry.messages import Job as Sampled
from spark_bench.telemetry.readings import ServerSide
from spark_bench.telemetry.sampling import Sampling


@dataclass
class Measured:
    """A repeat that has been measured.

    started_ns: when its load began; the requests' times are on the same clock
    lasted: seconds from there until the last request was over
    unsent: requests whose turn did not come
    note: why responses were kept in memory that should have gone to a temporary file; "": they went
    uncounted: why the tokenizer did not count all the tokens it should have; "": it did
    warmup: requests that went before, which count nowhere
    """

    repeat: Repeat
    requests: list[Request]
    started_ns: int
    lasted: float
    unsent: int
    interrupted: bool
    note: str = ""
    uncounted: str = ""
    warmup: int = 0


def measure(options: RunOptions, scene: Scene, load: Load, number: int, label: str) -> Measured:
    """Send a load and read what came of it. number: of the repeat; label: for who watches."""
    recorder, show = scene.server.recorder, scene.show

    def tell(progress: Progress) -> None:
        show.update(progress)
        scene.interrupts.watch()

    scene.tokens.close()  # a vocabulary in memory is of no use while the clock runs
    with sampled(options, scene.server) as sampling:
        opened(recorder, load)
        started = datetime.now(UTC)
        show.start(len(load.jobs), label)
        recording = recorder.record(load, tell)
        show.end()
        side = sampling.stop(recording.started_ns, recording.ended_ns) if sampling else None
    with closing(recording.store):
        by_tokenizer = options.count_tokens != "usage"
        found = understood(load, scene, recording, tokenizer=by_tokenizer)
    parts = _parts(options, scene, recording, found, side)
    return Measured(
        Repeat(repeat=number, started=started, **parts),
        found.requests,
        recording.started_ns,
        (recording.ended_ns - recording.started_ns) / 1e9,
        len(load.jobs) - len(found.requests),
        recording.interrupted,
        recording.store.note,
        found.uncounted,
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
            api_key=reached.api_key.reveal() if reached.api_key else "",
            nodes=reached.listing.nodes if power and reached.listing else (),
        )
    )
    try:
        yield sampling
    except BaseException:
        sampling.cancel()
        raise


def _parts(
    options: RunOptions,
    scene: Scene,
    recording: Recording,
    found: Understood,
    side: ServerSide | None,
) -> dict[str, Any]:
    requests = found.requests
    summary = summarize(requests, slo=options.slo, slots=options.profile.concurrency)
    compared = reconcile(side.before, side.after, requests) if side and side.after else None
    return {
        "summary": summary,
        "audit": audit(
            recording,
            tls=scene.server.recorder.target.tls is not None,
            merged=merged(requests),
            parse_seconds=found.cpu_seconds,
            e2e_ms=summary.median_e2e_latency_ms,
            gap_ms=summary.median_icl_ms,
            spread_evenly=summary.itl_source.get("even", 0.0),
            uncounted=summary.itl_source.get("none", 0.0),
            unseen=unseen(requests),
        ),
        "lengths": lengths(requests, scene.tokens.name if scene.tokens.exact else None),
        "distributions": distributions(requests),
        "intervals": over_requests(requests, seed=options.seed),
        "stalls": stalls(requests),
        "server": server_figures(side, compared) if side else None,
        "nodes": node_figures(side, summary.total_output_tokens) if side else None,
    }
