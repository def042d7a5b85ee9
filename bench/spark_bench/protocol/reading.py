"""What a recorded exchange means: times, tokens, or why it failed."""

from __future__ import annotations

import re

from spark_bench.protocol import failures, words
from spark_bench.protocol.counting import Count, counted, told_total
from spark_bench.protocol.deltas import Deltas
from spark_bench.protocol.dialects import Asking, Dialect
from spark_bench.protocol.failures import Failure
from spark_bench.protocol.stream import Answer, answer
from spark_bench.protocol.tape import Tape
from spark_bench.record import Ended, Exchange, Job, Request

# What servers add to the name of a model that they were asked for: a revision (transformers) or
# the date of a snapshot (OpenAI).
_REVISION = re.compile(r"@[\w.-]+$|-\d{4}-?\d{2}-?\d{2}$")


def read(
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
    usage_expected: the server tells token counts if asked to, so that an answer without is a
        failure
    keep_text: put the answer's text into the request

    The first token is the first delta with content, reasoning, a tool call or text that is not
    empty; its time is that of the read that completed its event. A failed request keeps what is
    known of it.
    """
    request = _blank(exchange, job)
    tape = Tape.of(exchange)
    found = answer(tape, exchange.ended, dialect.most_bytes(job.prompt.output_tokens))
    request.status = found.status
    told = Deltas()
    if found.ok:
        told = dialect.deltas(found.data if found.body is None else [found.body])
        _fill_times(request, found, told, tape)
        _fill_tokens(request, found, told, count)
        if keep_text:
            request.text = "".join(told.texts())
    usage_due = usage_expected and asking.include_usage
    if failed := _failure(exchange, found, told, asking, usage_due):
        request.failure, request.detail = str(failed[0]), failed[1]
    return request


def unread(exchange: Exchange, job: Job) -> Request:
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


def _fill_times(request: Request, found: Answer, told: Deltas, tape: Tape) -> None:
    stamps = found.stamps
    if len(stamps):
        request.first_event_ns = int(stamps[0])
        request.token_ns = stamps[told.tokens]
        request.merged_reads = found.merged_reads
    if told.first_text >= 0 and len(stamps):
        request.text_ns = int(stamps[told.first_text])
    if told.done >= 0 and len(stamps):
        request.done_ns = int(stamps[told.done])
    elif found.whole:
        request.done_ns = int(tape.stamps[-1])
    elif told.finish >= 0 and len(stamps):
        request.done_ns = int(stamps[-1])


def _fill_tokens(request: Request, found: Answer, told: Deltas, count: Count | None) -> None:
    tokens = counted(told, count)
    request.output_tokens = tokens.total
    if found.body is None:
        request.token_counts, request.counted_by = tokens.counts, tokens.by
        request.hidden_tokens = tokens.hidden
    request.finish_reason, request.model = told.finish_reason, told.model
    request.blank_events = told.blank
    request.usage = told_total(told) is not None
    if usage := told.usage:
        request.prompt_tokens = usage.prompt_tokens or 0
        request.cached_tokens = usage.cached
        request.reasoning_tokens = usage.reasoning


def _failure(
    exchange: Exchange, found: Answer, told: Deltas, asking: Asking, usage_due: bool
) -> tuple[str, str] | None:
    """The first kind that holds, in the order that `failures` gives, and its words."""
    if found.malformed:
        kind = Failure.TOO_LARGE if found.too_large else Failure.MALFORMED_HTTP
        return kind, found.malformed
    if found.status and not found.ok:
        said = words.from_body(found.body or b"")
        return failures.of_status(found.status, said), f"HTTP {found.status}: {said}"
    if exchange.ended is Ended.TOO_LARGE:
        return _ended_early(exchange, told)
    return (
        _said(found, told)
        or _unreadable(found, told, asking)
        or _broken(exchange, found, told, usage_due)
        or _lacking(told, asking, usage_due)
    )


def _said(found: Answer, told: Deltas) -> tuple[str, str] | None:
    """An error that the server reports itself."""
    if found.errors:
        return Failure.STREAM_ERROR, words.from_body(found.data[min(found.errors)])
    return None if told.error is None else (Failure.STREAM_ERROR, told.error)


def _unreadable(found: Answer, told: Deltas, asking: Asking) -> tuple[str, str] | None:
    """Bytes that are not what was asked for. A body in one piece is judged when it is whole."""
    if found.body is not None and not found.whole:
        return None
    if found.body is not None and asking.stream:
        return Failure.NOT_STREAMED, "one JSON answer in place of a stream"
    if found.problem:
        return Failure.MALFORMED_SSE, f"line {found.problem!r}"
    return (Failure.MALFORMED_JSON, told.malformed) if told.malformed else None


def _broken(
    exchange: Exchange, found: Answer, told: Deltas, usage_due: bool
) -> tuple[str, str] | None:
    """A connection that ended before the answer."""
    finished = told.finish >= 0 and (told_total(told) is not None or not usage_due)
    if found.whole or told.done >= 0 or finished:
        return None
    return _ended_early(exchange, told)


def _ended_early(exchange: Exchange, told: Deltas) -> tuple[str, str]:
    seen = f"after {len(told.tokens)} events with tokens" if told.tokens else "before any token"
    return failures.of_connection(exchange.ended), ", ".join(filter(None, [exchange.detail, seen]))


def _lacking(told: Deltas, asking: Asking, usage_due: bool) -> tuple[str, str] | None:
    """What is wrong with an answer that came to its end."""
    alias = asking.answers_as or asking.model
    if not (same_model(asking.model, told.model) or same_model(alias, told.model)):
        detail = f"asked for {asking.model!r}, answered by {told.model!r}"
        return Failure.WRONG_MODEL, words.one_line(detail)
    if told.done < 0 and told.finish < 0:
        return Failure.UNFINISHED, f"after {len(told.tokens)} events with tokens"
    if not told.tokens:
        return Failure.NO_TOKENS, f"finish_reason {told.finish_reason or 'none'}"
    if usage_due and told_total(told) is None:
        return Failure.MISSING_USAGE, f"after {len(told.tokens)} events with tokens"
    return None


def same_model(asked: str, answered: str) -> bool:
    """Whether an answer's model is the one asked for: by its whole name or, where one of them is a
    path, by its last part; a revision or a snapshot's date may follow. "" fits any."""
    if not asked or not answered or asked == answered:
        return True
    plain = _REVISION.sub("", answered)
    return plain == asked or plain.endswith(f"/{asked}") or asked.endswith(f"/{plain}")
