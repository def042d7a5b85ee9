"""What came back, read once the clock has stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spark_bench.client.recording import Recording
from spark_bench.client.tally import cpu_seconds, undisturbed
from spark_bench.errors import BenchError
from spark_bench.prompts.tokens import Tokens
from spark_bench.protocol.counting import Count
from spark_bench.protocol.reading import read, unread
from spark_bench.record import Load, Request
from spark_bench.run.asking import Agreed
from spark_bench.run.scene import Scene

# Counting the answers' tokens takes this share of a run's time at most, in seconds at least and at
# most so many. On a server without counts in its stream it took 67 s for a run of 13.
SHARE = 0.1
LEAST_SECONDS, MOST_SECONDS = 2.0, 10.0
# Texts whose counts are remembered: deltas say the same words again and again.
REMEMBERED = 1 << 16


@dataclass(frozen=True)
class Understood:
    """The requests of a recording.

    cpu_seconds: that reading them took
    uncounted: why the tokenizer did not count all that was to be counted; "": it did
    """

    requests: list[Request]
    cpu_seconds: float
    uncounted: str = ""


class Counting:
    """A tokenizer's counts of the texts of one answer after the other, for a bounded time.

    seconds: the bound
    stopped: why it counts no more, "" while it does
    """

    def __init__(self, tokens: Tokens, seconds: float) -> None:
        self.stopped = ""
        self._tokens, self._seconds, self._left = tokens, seconds, seconds
        self._known: dict[str, int] = {}

    def __call__(self, texts: list[str]) -> Sequence[int] | None:
        """The tokens of each of the texts, asked for all at once; None: there was no time."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        unknown = [text for text in dict.fromkeys(texts) if text not in self._known]
        if unknown and not self.stopped:
            self._ask(unknown)
        if any(text not in self._known for text in texts):
            return None
        return [self._known[text] for text in texts]

    def _ask(self, texts: list[str]) -> None:
        began = time.monotonic()
        try:
            counts = self._tokens.count(texts, self._left)
        except BenchError as error:
            self.stopped = error.message
            return
        self._left -= time.monotonic() - began
        self._known.update(zip(texts, counts, strict=False))
        if len(counts) < len(texts) or self._left <= 0:
            self.stopped = (
                f"{self._tokens.name} counted tokens for {self._seconds:.1f} s, the limit "
                "for a run of this length"
            )


def counting_seconds(run_seconds: float) -> float:
    """The longest that counting may take after a run of that length."""
    return min(max(SHARE * run_seconds, LEAST_SECONDS), MOST_SECONDS)


def understood(
    load: Load, scene: Scene, recording: Recording, *, tokenizer: bool = True
) -> Understood:
    """What a recording holds.

    tokenizer: it may count tokens that the server does not tell apart
    """
    before = cpu_seconds()
    seconds = (recording.ended_ns - recording.started_ns) / 1e9
    may = tokenizer and scene.tokens.exact
    counting = Counting(scene.tokens, counting_seconds(seconds)) if may else None
    with undisturbed():
        requests = _read(load, scene.agreed, recording, counting)
    for request in requests:
        if request.detail:
            request.detail = scene.server.hidden(request.detail)
    return Understood(requests, cpu_seconds() - before, counting.stopped if counting else "")


def _read(load: Load, agreed: Agreed, recording: Recording, count: Count | None) -> list[Request]:
    requests = []
    for exchange in recording.exchanges():
        job = load.jobs[exchange.index]
        try:
            request = read(
                exchange,
                job,
                agreed.dialect,
                agreed.asking,
                count=count,
                usage_expected=agreed.usage,
            )
        except MemoryError:  # one answer, of however many, must not lose the others
            request = unread(exchange, job)
        requests.append(request)
    return requests


def merged(requests: Sequence[Request]) -> float:
    """Share of token bearing deltas that came in the same read as the one before."""
    deltas = sum(r.token_ns.size for r in requests)
    together = sum(int((np.diff(r.token_ns) == 0).sum()) for r in requests)
    return together / deltas if deltas else 0.0


def unseen(requests: Iterable[Request]) -> str:
    """What to say where events without text stand for tokens that nothing tells apart; "": they
    don't."""
    of = [r for r in requests if r.ok and r.blank_events and r.counted_by == "even"]
    lacking = sum(r.output_tokens - len(r.token_ns) for r in of)
    if not lacking:
        return ""
    return (
        f"{lacking} of {sum(r.output_tokens for r in of)} tokens had no delta with text: TTFT and "
        "ITL are those of the others"
    )
