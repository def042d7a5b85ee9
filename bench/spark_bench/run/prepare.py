"""What goes before each repeat: the warm-up, and an empty prefix cache."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import httpx

from spark_bench.load import warmup
from spark_bench.options import RunOptions
from spark_bench.record import Load, Prompt
from spark_bench.run.context import RunContext
from spark_bench.run.measure import open_connections
from spark_bench.run.responses import read_responses
from spark_bench.run.run_load import build_warm_up

FLUSH = "/flush_cache"  # sglang 0.5.23, srt/entrypoints/http_server.py


@dataclass
class Prepared:
    """What went before a repeat.

    warmup: requests sent, which count nowhere
    notes: what went wrong, in sentences; none of it prevents the run
    """

    warmup: int = 0
    notes: list[str] = field(default_factory=list)


def prepare_server(options: RunOptions, context: RunContext, load: Load, repeat: int) -> Prepared:
    """Warm the server up, then empty its prefix cache if the run must not find anything there.

    repeat: which one of the load follows, from 0. Without --warmup, a warm-up goes before the first
    alone, since the others follow the load itself; with it, one goes before each.
    """
    prepared = Prepared()
    warm_up = partial(build_warm_up, options.load, options.prompts.cache, context, load)
    if options.load.warmup:
        count = min(options.load.warmup, warmup.in_flight(load))
        prompts = [load.jobs[n % len(load.jobs)].prompt for n in range(options.load.warmup)]
        _send(warm_up(prompts, count, repeat), context, prepared)
    elif options.load.warmup is None and repeat == 0:
        _send_until_steady(warm_up, context, load, prepared)
    if options.prompts.cache == "miss" and context.server.engine == "sglang":
        # Prompts are the same for the same seed: a run before this one may have left them there.
        prepared.notes += _flush_cache(context.server.http)
    return prepared


def _send_until_steady(
    warm_up: Callable[[Sequence[Prompt], int, int], Load],
    context: RunContext,
    load: Load,
    prepared: Prepared,
) -> None:
    """Rounds as `load.warmup` bounds them. warm_up: builds one of prompts, slots and turn."""
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


def _send(load: Load, context: RunContext, prepared: Prepared) -> float | None:
    """Send a warm-up; the seconds that it took, None where none of its requests was answered."""
    open_connections(context.server.recorder, load)
    recording = context.server.recorder.record(load, context.interrupts.watch)
    with closing(recording.store):
        requests = read_responses(load, context, recording, tokenizer=False).requests
    prepared.warmup += len(requests)
    failed = Counter(f"{r.failure}: {r.detail}" for r in requests if not r.ok)
    if failed:
        prepared.notes.append(
            f"{failed.total()} of {len(load.jobs)} warm-up requests failed "
            f"({failed.most_common(1)[0][0]})"
        )
    answered = len(requests) > failed.total()
    return (recording.ended_ns - recording.started_ns) / 1e9 if answered else None


def _flush_cache(http: httpx.Client) -> Iterator[str]:
    meaning = "prompts of an earlier run with the same seed may still be in its prefix cache"
    try:
        response = http.post(FLUSH)
    except httpx.TransportError as error:
        yield f"{FLUSH}: {error}: {meaning}"
        return
    if not response.is_success:
        text = " ".join(response.text.split())[:80]
        yield f"the server refused {FLUSH} (HTTP {response.status_code}: {text}): {meaning}"
