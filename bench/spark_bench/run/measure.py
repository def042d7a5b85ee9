"""One repeat: send it, read it, and compute its figures."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spark_bench.client.judge import audit
from spark_bench.client.loop import Recording
from spark_bench.client.recorder import Recorder
from spark_bench.client.tally import Progress
from spark_bench.errors import Unreachable
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.intervals import over_requests
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import distributions, summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.options import RunOptions
from spark_bench.record import Load, Request
from spark_bench.results.assemble import compare_lengths, node_figures, server_figures
from spark_bench.results.schema import Repeat
from spark_bench.run.context import RunContext
from spark_bench.run.reach import ReachedServer
from spark_bench.run.responses import (
    ReadResponses,
    blank_events_note,
    merged_share,
    read_responses,
)
from spark_bench.run.run_load import count_connections
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.readings import ServerSide
from spark_bench.telemetry.sampling import Sampling


@dataclass
class MeasuredRepeat:
    """A repeat that has been measured.

    started_ns: when its load began; the requests' times are on the same clock
    lasted: seconds from there until the last request was over
    unsent: requests whose turn did not come
    note: why responses were kept in memory that should have gone to a temporary file; "": they went
    uncounted: why the tokenizer did not count all tokens it should have; "": it did
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


def measure_repeat(
    options: RunOptions, context: RunContext, load: Load, number: int, label: str
) -> MeasuredRepeat:
    """Send a load and read the responses. number: of the repeat; label: for who watches."""
    recorder, show = context.server.recorder, context.show

    def report(progress: Progress) -> None:
        show.update(progress)
        context.interrupts.watch()

    context.tokens.close()  # a vocabulary in memory is of no use while the clock runs
    with sample_server(options, context.server) as sampling:
        open_connections(recorder, load)
        started = datetime.now(UTC)
        show.start(len(load.jobs), label)
        recording = recorder.record(load, report)
        show.end()
        side = sampling.stop(recording.started_ns, recording.ended_ns) if sampling else None
    with closing(recording.store):
        by_tokenizer = options.measure.count_tokens != "usage"
        responses = read_responses(load, context, recording, tokenizer=by_tokenizer)
    figures = _compute_figures(options, context, recording, responses, side)
    return MeasuredRepeat(
        Repeat(repeat=number, started=started, **figures),
        responses.requests,
        recording.started_ns,
        (recording.ended_ns - recording.started_ns) / 1e9,
        len(load.jobs) - len(responses.requests),
        recording.interrupted,
        recording.store.note,
        responses.uncounted,
    )


def open_connections(recorder: Recorder, load: Load) -> None:
    """Connections for a load. A server that is gone meanwhile is the load's failure."""
    with suppress(Unreachable):
        recorder.open(count_connections(load))


@contextmanager
def sample_server(options: RunOptions, server: ReachedServer) -> Iterator[Sampling | None]:
    """Read the server's metrics and the nodes' power in a separate process; None: neither."""
    power = options.server.power is not False and server.listing is not None
    metrics = options.measure.metrics is not False
    if not metrics and not power:
        yield None
        return
    sampling = Sampling.start(
        SamplerJob(
            url=server.url if metrics else "",
            api_key=server.api_key.reveal() if server.api_key else "",
            nodes=server.listing.nodes if power and server.listing else (),
        )
    )
    try:
        yield sampling
    except BaseException:
        sampling.cancel()
        raise


def _compute_figures(
    options: RunOptions,
    context: RunContext,
    recording: Recording,
    responses: ReadResponses,
    side: ServerSide | None,
) -> dict[str, Any]:
    """The fields of a Repeat. side: the server's metrics and power; None: not sampled."""
    requests = responses.requests
    timed = TimedRequests(requests)
    slots = options.load.profile.concurrency
    summary = summarize(timed, slo=options.measure.slo, slots=slots)
    compared = reconcile(side.before, side.after, timed) if side and side.after else None
    return {
        "summary": summary,
        "audit": audit(
            recording,
            tls=context.server.recorder.target.tls is not None,
            merged=merged_share(requests),
            parse_seconds=responses.cpu_seconds,
            e2e_ms=summary.median_e2e_latency_ms,
            gap_ms=summary.median_icl_ms,
            spread_evenly=summary.itl_source.get("even", 0.0),
            uncounted=summary.itl_source.get("none", 0.0),
            unseen=blank_events_note(requests),
        ),
        "lengths": compare_lengths(requests, context.tokens.name if context.tokens.exact else None),
        "distributions": distributions(timed),
        "intervals": over_requests(timed, seed=options.load.seed),
        "stalls": stalls(timed),
        "server": server_figures(side, compared) if side else None,
        "nodes": node_figures(side, summary.total_output_tokens) if side else None,
    }
