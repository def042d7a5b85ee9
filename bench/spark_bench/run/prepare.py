"""What goes before each repeat: the warm-up, and an empty prefix cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import httpx

from spark_bench.cli.options import RunOptions
from spark_bench.run.measure import opened
from spark_bench.run.plan import warm_up
from spark_bench.run.scene import Scene
from spark_bench.run.understand import understood

FLUSH = "/flush_cache"  # sglang 0.5.23, srt/entrypoints/http_server.py


def prepare(options: RunOptions, scene: Scene) -> Iterator[str]:
    """Warm the server up, then empty its prefix cache if the run shall not find anything there.

    What goes wrong is yielded in sentences, and keeps no run from being made.
    """
    if options.warmup:
        yield from _warm(options, scene)
    if options.cache == "miss" and scene.server.engine == "sglang":
        # Prompts are the same for the same seed: a run before this one may have left them there.
        yield from _flush(scene.server.http)


def _warm(options: RunOptions, scene: Scene) -> Iterator[str]:
    load = warm_up(options, scene.agreed, scene.tokens)
    opened(scene.server.recorder, load)
    recording = scene.server.recorder.record(load, scene.interrupts.watch)
    with closing(recording.store):
        requests = understood(load, scene, recording, tokenizer=False).requests
    failed = Counter(f"{r.failure}: {r.detail}" for r in requests if not r.ok)
    if failed:
        yield (
            f"{failed.total()} of {len(load.jobs)} warm-up requests failed "
            f"({failed.most_common(1)[0][0]})"
        )


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
