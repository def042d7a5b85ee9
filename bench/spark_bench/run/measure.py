"""One repeat from start to end.

Warm up the server, empty its prefix cache, send the load while the server is sampled, read the
responses, compute the figures.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import httpx

from spark_bench import errors, record
from spark_bench.client.recorder import Recorder
from spark_bench.client.tally import Progress
from spark_bench.expectations.setting import EngineSettings
from spark_bench.load import warmup
from spark_bench.options import RunOptions
from spark_bench.results.schema import Repeat
from spark_bench.run import reach, run_load
from spark_bench.run.context import RunContext
from spark_bench.run.responses import compute_figures, read_responses
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.sampling import Sampling

FLUSH = "/flush_cache"  # sglang 0.5.23, srt/entrypoints/http_server.py


@dataclass
class MeasuredRepeat:
    """A repeat that has been measured.

    started_ns: when its load began; the requests' times are on the same clock
    lasted: seconds from started_ns until the last request was over
    unsent: number of requests whose turn did not come
    note: why responses stayed in memory instead of going to a temporary file; "": they did not
    uncounted: why the tokenizer did not count all the tokens it should have; "": it did
    warmup: number of uncounted requests sent before it
    clock_error_ns: how far the kernel's clock may be off against the client's
    """

    repeat: Repeat
    requests: list[record.Request]
    started_ns: int
    lasted: float
    unsent: int
    interrupted: bool
    note: str = ""
    uncounted: str = ""
    warmup: int = 0
    clock_error_ns: int = 0


@dataclass
class Prepared:
    """What was done before a repeat.

    warmup: number of uncounted requests sent
    contexts: the requests that sent the load's contexts; empty: it has none
    clock_error_ns: how far the kernel's clock may be off against the client's meanwhile
    notes: sentences on what went wrong; none of it prevents the run
    """

    warmup: int = 0
    contexts: list[record.Request] = field(default_factory=list)
    clock_error_ns: int = 0
    notes: list[str] = field(default_factory=list)


def prepare_server(
    options: RunOptions, context: RunContext, load: record.Load, repeat: int
) -> Prepared:
    """Warm up the server, then empty its prefix cache if the run must not find anything there, and
    send the load's contexts.

    repeat: number of the repeat that follows, from 0. Without --warmup, only the first has a
        warm-up, since the others follow the load itself; with --warmup, each has one.
    """
    prepared = Prepared()
    warm_up = partial(run_load.build_warm_up, options.load, options.prompts.cache, context, load)
    if options.load.warmup:
        count = min(options.load.warmup, warmup.in_flight(load))
        prompts = [load.jobs[n % len(load.jobs)].prompt for n in range(options.load.warmup)]
        _send(warm_up(prompts, count, repeat), context, prepared)
    elif options.load.warmup is None and repeat == 0:
        _send_until_steady(warm_up, context, load, prepared)
    _flush(options, context, prepared)
    if load.contexts and not context.interrupts.came:
        sent = replace(load, jobs=load.contexts, contexts=())
        contexts = _send_counted(sent, context, prepared, "requests of contexts")
        prepared.contexts, prepared.clock_error_ns = contexts.requests, contexts.clock_error_ns
    return prepared


def _flush(options: RunOptions, context: RunContext, prepared: Prepared) -> None:
    """Empty the prefix cache of an engine that can, unless the load is to be found there."""
    if options.prompts.cache == "miss" and context.server.engine == "sglang":
        # The same seed gives the same prompts: an earlier run may have left them in the cache.
        meaning = "prompts of an earlier run with the same seed may still be in its prefix cache"
        try:
            response = context.server.http.post(FLUSH)
        except httpx.TransportError as error:
            prepared.notes.append(f"{FLUSH}: {error}: {meaning}")
            return
        if not response.is_success:
            status, text = response.status_code, " ".join(response.text.split())[:80]
            prepared.notes.append(f"the server refused {FLUSH} (HTTP {status}: {text}): {meaning}")


def _send_until_steady(
    warm_up: Callable[[Sequence[record.Prompt], int, int], record.Load],
    context: RunContext,
    load: record.Load,
    prepared: Prepared,
) -> None:
    """Send warm-up rounds until they stop getting faster, within the limits of `load.warmup`.

    warm_up: builds the load of one round from prompts, slots and turn
    """
    slots = warmup.in_flight(load)
    if warmup.rate(load):
        alone = warmup.sample_warm_up(load, 1)
        seconds = _send(warm_up(alone, 1, -1), context, prepared)
        longer = load.jobs[0].prompt.output_tokens / alone[0].output_tokens
        slots = warmup.in_flight(load, (seconds or 0.0) * longer)
    prompts = warmup.round_of(load, slots)
    most, took = warmup.most_rounds(load, prompts), list[float]()
    while not context.interrupts.came:
        seconds = _send(warm_up(prompts, slots, len(took)), context, prepared)
        if seconds is None:
            return
        took.append(seconds)
        if warmup.is_warm(took, most):
            break
    if len(took) > 1 and not warmup.is_steady(took) and not context.interrupts.came:
        faster = 1 - took[-1] / took[-2]
        prepared.notes.append(
            f"the server was still getting faster when the warm-up ended after "
            f"{prepared.warmup} requests (its last round by {faster:.0%}): the first repeat may be "
            "slower than the others; --warmup N sends more"
        )


def _send(load: record.Load, context: RunContext, prepared: Prepared) -> float | None:
    """Send a warm-up and return how many seconds it took; None if no request was answered."""
    sent = _send_counted(load, context, prepared, "warm-up requests")
    prepared.warmup += len(sent.requests)
    return sent.seconds if any(request.ok for request in sent.requests) else None


@dataclass
class Sent:
    """Requests outside the measured load, and the seconds that they took.

    clock_error_ns: how far the kernel's clock may be off against the client's
    """

    requests: list[record.Request]
    seconds: float
    clock_error_ns: int


def _send_counted(load: record.Load, context: RunContext, prepared: Prepared, what: str) -> Sent:
    """Send requests outside the measured load; failed ones are noted.

    what: they are, in the plural
    """
    open_connections(context.server.recorder, load)
    recording = context.server.recorder.record(load, context.interrupts.watch)
    with closing(recording.store):
        requests = read_responses(load, context, recording, tokenizer=False).requests
    failed = Counter(f"{r.failure}: {r.detail}" for r in requests if not r.ok)
    if failed:
        prepared.notes.append(
            f"{failed.total()} of {len(load.jobs)} {what} failed ({failed.most_common(1)[0][0]})"
        )
    seconds = (recording.ended_ns - recording.started_ns) / 1e9
    return Sent(requests, seconds, recording.tally.step_ns)


# ---- the measured load


def measure_repeat(
    options: RunOptions,
    context: RunContext,
    load: record.Load,
    engine: EngineSettings,
    number: int,
    label: str,
) -> MeasuredRepeat:
    """Send a load and read the responses.

    number: the repeat's, from 0; label: its name in the progress display
    """
    recorder, show = context.server.recorder, context.show

    def report(progress: Progress) -> None:
        show.update(progress)
        context.interrupts.watch()

    context.tokens.close()  # no need for a vocabulary in memory while the clock runs
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
    figures = compute_figures(options, context, engine, recording, responses, side)
    return MeasuredRepeat(
        Repeat(repeat=number, started=started, **figures),
        responses.requests,
        recording.started_ns,
        (recording.ended_ns - recording.started_ns) / 1e9,
        len(load.jobs) - len(responses.requests),
        recording.interrupted,
        recording.store.note,
        responses.uncounted,
        clock_error_ns=recording.tally.step_ns,
    )


def open_connections(recorder: Recorder, load: record.Load) -> None:
    """Open a load's connections in advance. If the server is gone by now, its requests fail."""
    with suppress(errors.Unreachable):
        recorder.open(run_load.count_connections(load))


@contextmanager
def sample_server(options: RunOptions, server: reach.ReachedServer) -> Iterator[Sampling | None]:
    """Sample the server's metrics and the nodes' power in a separate process.

    Yields None if neither is to be sampled.
    """
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
