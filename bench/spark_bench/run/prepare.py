"""What goes before each repeat: the warm-up, and an empty prefix cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import httpx

from spark_bench.load import warmup
from spark_bench.options import RunOptions
from spark_bench.record import Load
from spark_bench.run.measure import opened
from spark_bench.run.plan import warm_up
from spark_bench.run.scene import Scene
from spark_bench.run.understand import understood

FLUSH = "/flush_cache"  # sglang 0.5.23, srt/entrypoints/http_server.py


@dataclass
class Prepared:
    """What went before a repeat.

    warmup: requests sent, which count nowhere
    notes: what went wrong, in sentences; it keeps no run from being made
    """

    warmup: int = 0
    notes: list[str] = field(default_factory=list)


def prepare(options: RunOptions, scene: Scene, load: Load, repeat: int) -> Prepared:
    """Warm the server up, then empty its prefix cache if the run shall not find anything there.

    repeat: which one of the load follows, from 0: by itself a warm-up goes before the first alone,
    since the others follow on the load itself; a number of requests goes before each
    """
    prepared = Prepared()
    if options.warmup:
        count = min(options.warmup, warmup.in_flight(load))
        prompts = [load.jobs[n % len(load.jobs)].prompt for n in range(options.warmup)]
        _sent(warm_up(options, scene, load, prompts, count, repeat), scene, prepared)
    elif options.warmup is None and repeat == 0:
        _until_steady(options, scene, load, prepared)
    if options.cache == "miss" and scene.server.engine == "sglang":
        # Prompts are the same for the same seed: a run before this one may have left them there.
        prepared.notes += _flush(scene.server.http)
    return prepared


def _until_steady(options: RunOptions, scene: Scene, load: Load, prepared: Prepared) -> None:
    """Rounds as `load.warmup` bounds them."""
    slots = warmup.in_flight(load)
    if warmup.rate(load):
        alone = warmup.sample(load, 1)
        seconds = _sent(warm_up(options, scene, load, alone, 1, -1), scene, prepared)
        longer = load.jobs[0].prompt.output_tokens / alone[0].output_tokens
        slots = warmup.in_flight(load, (seconds or 0.0) * longer)
    prompts = warmup.round_of(load, slots)
    most, took = warmup.most_rounds(load, prompts), list[float]()
    while not scene.interrupts.came:
        seconds = _sent(warm_up(options, scene, load, prompts, slots, len(took)), scene, prepared)
        if seconds is None:
            return
        took.append(seconds)
        if warmup.done(took, most):
            break
    if len(took) > 1 and not warmup.steady(took) and not scene.interrupts.came:
        faster = 1 - took[-1] / took[-2]
        prepared.notes.append(
            f"the server was still getting faster when the warm-up ended after "
            f"{prepared.warmup} requests (its last round by {faster:.0%}): the first repeat may be "
            "slower than the others; --warmup N sends more"
        )


def _sent(load: Load, scene: Scene, prepared: Prepared) -> float | None:
    """Send a warm-up; the seconds that it took, None where none of its requests was answered."""
    opened(scene.server.recorder, load)
    recording = scene.server.recorder.record(load, scene.interrupts.watch)
    with closing(recording.store):
        requests = understood(load, scene, recording, tokenizer=False).requests
    prepared.warmup += len(requests)
    failed = Counter(f"{r.failure}: {r.detail}" for r in requests if not r.ok)
    if failed:
        prepared.notes.append(
            f"{failed.total()} of {len(load.jobs)} warm-up requests failed "
            f"({failed.most_common(1)[0][0]})"
        )
    whole = len(requests) > failed.total()
    return (recording.ended_ns - recording.started_ns) / 1e9 if whole else None


def _flush(http: httpx.Client) -> Iterator[str]:
    meaning = "prompts of an earlier run with the same seed may still be in its prefix cache"
    try:
        answer = http.post(FLUSH)
    except httpx.TransportError as error:
        yield f"{FLUSH}: {error}: {meaning}"
        return
    if not answer.is_success:
        words = " ".join(answer.text.split())[:80]
        yield f"the server refused {FLUSH} (HTTP {answer.status_code}: {words}): {meaning}"
