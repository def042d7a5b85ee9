"""Read the responses once the clock has stopped, and compute figures from them."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from spark_bench import errors, record
from spark_bench.client import judge, recorder
from spark_bench.client.tally import cpu_seconds, undisturbed
from spark_bench.expectations.setting import EngineSettings
from spark_bench.metrics import histograms, intervals, queues, stalls, times
from spark_bench.metrics.accepted import accepted_lengths
from spark_bench.metrics.bounds import bound_figures
from spark_bench.metrics.mixed import mixed_figures
from spark_bench.metrics.summary import distributions, summarize
from spark_bench.options import RunOptions
from spark_bench.prompts.tokens import Tokens
from spark_bench.protocol.reading import read_exchange, unreadable_request
from spark_bench.results import assemble
from spark_bench.run.context import RunContext
from spark_bench.telemetry.readings import ServerSide

# Time limit for counting the answers' tokens: this share of the run's duration, within the bounds
# below. Without a limit, a run of 13 s took 67 s to count when the stream had no counts.
SHARE = 0.1
LEAST_SECONDS, MOST_SECONDS = 2.0, 10.0
# Number of texts whose counts are kept: the same words come up again and again.
REMEMBERED = 1 << 16


@dataclass(frozen=True)
class ReadResponses:
    """The requests of a recording.

    cpu_seconds: CPU time that reading them took
    uncounted: why the tokenizer did not count all the tokens it should have; "": it did
    """

    requests: list[record.Request]
    cpu_seconds: float
    uncounted: str = ""


class TokenCounter:
    """Counts the tokens of texts, one answer after another, within a time limit.

    seconds: the time limit for all answers together
    stopped: why it has stopped counting; "": it has not
    """

    def __init__(self, tokens: Tokens, seconds: float) -> None:
        self.stopped = ""
        self._tokens, self._seconds, self._left = tokens, seconds, seconds
        self._counts: dict[str, int] = {}

    def __call__(self, texts: list[str]) -> Sequence[int] | None:
        """The number of tokens of each text; None if they could not all be counted."""
        if len(self._counts) > REMEMBERED:
            self._counts.clear()
        unknown = [text for text in dict.fromkeys(texts) if text not in self._counts]
        if unknown and not self.stopped:
            self._count(unknown)
        if any(text not in self._counts for text in texts):
            return None
        return [self._counts[text] for text in texts]

    def _count(self, texts: list[str]) -> None:
        began = time.monotonic()
        try:
            counts = self._tokens.count(texts, self._left)
        except errors.BenchError as error:
            self.stopped = error.message
            return
        self._left -= time.monotonic() - began
        self._counts.update(zip(texts, counts, strict=False))
        if len(counts) < len(texts) or self._left <= 0:
            self.stopped = (
                f"{self._tokens.name} counted tokens for {self._seconds:.1f} s, the limit "
                "for a run of this length"
            )


def counting_seconds(run_seconds: float) -> float:
    """How long counting may take after a run of this length, in seconds."""
    return min(max(SHARE * run_seconds, LEAST_SECONDS), MOST_SECONDS)


def read_responses(
    load: record.Load, context: RunContext, recording: recorder.Recording, *, tokenizer: bool = True
) -> ReadResponses:
    """Read the requests of a recording.

    tokenizer: whether the tokenizer may count the tokens of events that the server's counts don't
        tell apart
    """
    before = cpu_seconds()
    seconds = (recording.ended_ns - recording.started_ns) / 1e9
    counter = None
    if tokenizer and context.tokens.exact:
        counter = TokenCounter(context.tokens, counting_seconds(seconds))
    agreement, requests = context.agreement, list[record.Request]()
    with undisturbed():
        for exchange in recording.exchanges():
            job = load.jobs[exchange.index]
            try:
                request = read_exchange(
                    exchange,
                    job,
                    agreement.dialect,
                    agreement.terms,
                    count=counter,
                    usage_expected=agreement.usage,
                    free=True,
                )
            except MemoryError:  # one huge answer must not cost the others
                request = unreadable_request(exchange, job)
            requests.append(request)
            del exchange  # before the next one is put together
    for request in requests:
        if request.detail:
            request.detail = context.server.hidden(request.detail)
    return ReadResponses(requests, cpu_seconds() - before, counter.stopped if counter else "")


def compute_figures(
    options: RunOptions,
    context: RunContext,
    engine: EngineSettings,
    recording: recorder.Recording,
    responses: ReadResponses,
    side: ServerSide | None,
) -> dict[str, Any]:
    """The figures of one repeat, under the names of `schema.Measurement`.

    side: the server's metrics and the nodes' power; None: not sampled
    """
    requests = responses.requests
    timed = times.TimedRequests(requests)
    slots, tokens, slo = options.load.profile.concurrency, context.tokens, options.measure.slo
    summary = summarize(timed, slo=slo, slots=slots)
    bounds = bound_figures(timed, summary, slo=slo, clock_error_ns=recording.tally.step_ns)
    compared = histograms.reconcile(side.before, side.after, timed) if side and side.after else None
    return {
        "summary": summary,
        "bounds": bounds,
        "lengths": assemble.compare_lengths(requests, tokens.name if tokens.exact else None),
        "distributions": distributions(timed),
        "intervals": intervals.over_requests(timed, seed=options.load.seed),
        "stalls": stalls.stalls(timed),
        "queue": queues.queue(timed, recording.tally.step_ns) or UNSET,
        "server": assemble.server_figures(side, compared) if side else None,
        "accepted": accepted_lengths(
            timed,
            speculates=engine.speculates,
            interval=engine.number("stream_interval", "stream_interval") or 1,
            engine=side.accept_length if side else None,
        )
        or UNSET,
        "mixed": mixed_figures(timed, long_every, recording.tally.step_ns)
        if (long_every := options.load.profile.long_every)
        else UNSET,
        "nodes": assemble.node_figures(side, summary.total_output_tokens) if side else None,
        # At the end, as it has the most memory that the process took.
        "audit": judge.audit(
            recording,
            tls=context.server.recorder.target.tls is not None,
            requests=requests,
            summary=summary,
            bounds=bounds,
            parse_seconds=responses.cpu_seconds,
            closed=slots is not None and options.load.profile.request_rate is None,
            unseen=blank_events_note(requests),
        ),
    }


def blank_events_note(requests: Iterable[record.Request]) -> str:
    """A note if tokens came in events without text, so that their times are unknown; else ""."""
    blank = [r for r in requests if r.ok and r.blank_events and r.counted_by == "even"]
    lacking = sum(r.output_tokens - len(r.token_ns) for r in blank)
    if not lacking:
        return ""
    return (
        f"{lacking} of {sum(r.output_tokens for r in blank)} tokens had no delta with text: TTFT "
        "and ITL are those of the others"
    )
