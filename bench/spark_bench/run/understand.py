"""What came back, read once the clock has stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from spark_bench.api.reading import read
from spark_bench.errors import Unreachable
from spark_bench.prompts.tokens import Tokens
from spark_bench.record import Load, Request
from spark_bench.run.asking import Agreed
from spark_bench.run.scene import Scene
from spark_bench.wire.recording import Recording
from spark_bench.wire.tally import cpu_seconds, undisturbed


def understood(load: Load, scene: Scene, recording: Recording) -> tuple[list[Request], float]:
    """The requests of a recording, and the CPU seconds that reading them took."""
    before = cpu_seconds()
    with undisturbed():
        try:
            requests = _read(load, scene.agreed, recording, _counter(scene.tokens))
        except Unreachable:  # the server, whose tokenizer it is, is gone
            requests = _read(load, scene.agreed, recording, None)
    for request in requests:
        if request.detail:
            request.detail = scene.server.hidden(request.detail)
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
