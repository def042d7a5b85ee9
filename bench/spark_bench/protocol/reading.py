"""What a recorded exchange means: times, tokens, or why it failed."""

import re

from spark_bench.protocol import error_text, failures
from spark_bench.protocol.content import ParsedResponse, Tape, parse_response
from spark_bench.protocol.counting import Count, TokenCounts, count_tokens, reported_total
from spark_bench.protocol.deltas import Deltas
from spark_bench.protocol.dialects import Asking, Dialect
from spark_bench.protocol.failures import Failure
from spark_bench.record import Ended, Exchange, Job, Request

# What servers add to the name of a model that they were asked for: a revision (transformers) or
# the date of a snapshot (OpenAI).
_REVISION = re.compile(r"@[\w.-]+$|-\d{4}-?\d{2}-?\d{2}$")


def read_exchange(
    exchange: Exchange,
    job: Job,
    dialect: Dialect,
    asking: Asking,
    *,
    count: Count | None = None,
    usage_expected: bool = True,
    keep_text: bool = False,
) -> Request:
    """The request that an exchange was.

    count: the served model's tokenizer, for deltas of several tokens that no usage tells apart
    usage_expected: the server reports token counts on request, so a response without them is a
        failure
    keep_text: put the answer's text into the request

    The first token is the first delta with content, reasoning, a tool call or text that is not
    empty; its time is that of the read that completed its event. A failed request has
    whatever could be read.
    """
    request = _blank(exchange, job)
    tape = Tape.of(exchange)
    answer = parse_response(tape, exchange.ended, dialect.most_bytes(job.prompt.output_tokens))
    request.status = answer.status
    deltas = Deltas()
    if answer.ok:
        deltas = dialect.deltas(answer.data if answer.body is None else [answer.body])
        _fill(request, answer, deltas, tape, count_tokens(deltas, count))
        if keep_text:
            request.text = "".join(deltas.texts())
    usage_due = usage_expected and asking.include_usage
    if failed := _failure(exchange, answer, deltas, asking, usage_due):
        request.failure, request.detail = str(failed[0]), failed[1]
    return request


def unreadable_request(exchange: Exchange, job: Job) -> Request:
    """The request whose answer takes more memory to read than there is."""
    request = _blank(exchange, job)
    request.failure = Failure.TOO_LARGE
    request.detail = f"no memory to read an answer of {len(exchange.data)} bytes"
    return request


def _blank(exchange: Exchange, job: Job) -> Request:
    prompt = job.prompt
    return Request(
        index=exchange.index,
        scheduled_ns=exchange.scheduled_ns,
        sent_ns=exchange.sent_ns,
        asked_input=prompt.input_tokens,
        asked_output=prompt.output_tokens,
        reused=exchange.reused,
        conversation=prompt.conversation,
        turn=prompt.turn,
    )


def _fill(
    request: Request, answer: ParsedResponse, deltas: Deltas, tape: Tape, tokens: TokenCounts
) -> None:
    """Put times and tokens into the request."""
    stamps = answer.stamps
    if len(stamps):
        request.first_event_ns = int(stamps[0])
        request.token_ns = stamps[deltas.tokens]
        request.merged_reads = answer.merged_reads
    if deltas.first_text >= 0 and len(stamps):
        request.text_ns = int(stamps[deltas.first_text])
    if deltas.done >= 0 and len(stamps):
        request.done_ns = int(stamps[deltas.done])
    elif answer.whole:
        request.done_ns = int(tape.stamps[-1])
    elif deltas.finish >= 0 and len(stamps):
        request.done_ns = int(stamps[-1])
    request.output_tokens = tokens.total
    if answer.body is None:
        request.token_counts, request.counted_by = tokens.counts, tokens.by
        request.hidden_tokens = tokens.hidden
    request.finish_reason, request.model = deltas.finish_reason, deltas.model
    request.blank_events = deltas.blank
    request.usage = reported_total(deltas) is not None
    if usage := deltas.usage:
        request.prompt_tokens = usage.prompt_tokens or 0
        request.cached_tokens = usage.cached
        request.reasoning_tokens = usage.reasoning


def _failure(
    exchange: Exchange, answer: ParsedResponse, deltas: Deltas, asking: Asking, usage_due: bool
) -> tuple[str, str] | None:
    """The first kind that holds, in the order that `failures` gives, and its detail."""
    if answer.malformed:
        kind = Failure.TOO_LARGE if answer.too_large else Failure.MALFORMED_HTTP
        return kind, answer.malformed
    if answer.status and not answer.ok:
        message = error_text.from_body(answer.body or b"")
        return failures.of_status(answer.status, message), f"HTTP {answer.status}: {message}"
    if exchange.ended is Ended.TOO_LARGE:
        return _ended_early(exchange, deltas)
    # An error that the server reports itself.
    if answer.errors:
        return Failure.STREAM_ERROR, error_text.from_body(answer.data[min(answer.errors)])
    if deltas.error is not None:
        return Failure.STREAM_ERROR, deltas.error
    # Bytes that are not what was asked for. A body in one piece is judged when it is whole.
    if answer.body is None or answer.whole:
        if answer.body is not None and asking.stream:
            return Failure.NOT_STREAMED, "one JSON response instead of a stream"
        if answer.problem:
            return Failure.MALFORMED_SSE, f"line {answer.problem!r}"
        if deltas.malformed:
            return Failure.MALFORMED_JSON, deltas.malformed
    # A connection that ended before the answer.
    finished = deltas.finish >= 0 and (reported_total(deltas) is not None or not usage_due)
    if not (answer.whole or deltas.done >= 0 or finished):
        return _ended_early(exchange, deltas)
    # An answer that came to its end.
    alias = asking.answers_as or asking.model
    if not (same_model(asking.model, deltas.model) or same_model(alias, deltas.model)):
        detail = f"asked for {asking.model!r}, answered by {deltas.model!r}"
        return Failure.WRONG_MODEL, error_text.one_line(detail)
    if deltas.done < 0 and deltas.finish < 0:
        return Failure.UNFINISHED, f"after {len(deltas.tokens)} events with tokens"
    if not deltas.tokens:
        return Failure.NO_TOKENS, f"finish_reason {deltas.finish_reason or 'none'}"
    if usage_due and reported_total(deltas) is None:
        return Failure.MISSING_USAGE, f"after {len(deltas.tokens)} events with tokens"
    return None


def _ended_early(exchange: Exchange, deltas: Deltas) -> tuple[str, str]:
    progress = (
        f"after {len(deltas.tokens)} events with tokens" if deltas.tokens else "before any token"
    )
    return failures.of_connection(exchange.ended), ", ".join(
        filter(None, [exchange.detail, progress])
    )


def same_model(requested: str, answered: str) -> bool:
    """Whether an answer's model is the one asked for: by its whole name or, where one of them is a
    path, by its last part; a revision or a snapshot's date may follow. "" fits any."""
    if not requested or not answered or requested == answered:
        return True
    plain = _REVISION.sub("", answered)
    return plain == requested or plain.endswith(f"/{requested}") or requested.endswith(f"/{plain}")
