"""Read a recorded exchange: times, how many tokens each event carried, or why it failed."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spark_bench.arrays import Bools, Counts, Ints
from spark_bench.protocol import error_text, failures
from spark_bench.protocol.content import ParsedResponse, parse_response
from spark_bench.protocol.deltas import Deltas
from spark_bench.protocol.dialects import Dialect, RequestTerms
from spark_bench.protocol.failures import Failure
from spark_bench.record import QUEUED_NS, Ended, Exchange, Job, Request

# Counts the tokens of each of an answer's texts; returns None if it can't (any more).
Count = Callable[[list[str]], Sequence[int] | None]

# A read of at least this many bytes may be only a part of one segment: it filled the buffer.
SEGMENT = 32 * 1024

# More deltas than this are enough to show how many tokens one delta can hold.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of one answer.

    counts: tokens of each token-bearing event
    by: see Request.counted_by
    hidden: tokens that no event shows, such as those generated before the first text
    total: tokens of the answer, including hidden ones
    """

    counts: Counts
    by: str
    hidden: int
    total: int


def count_tokens(deltas: Deltas, count: Count | None) -> TokenCounts:
    """Count the tokens of each event in the best available way.

    In this order: the usage in each event; one token per event, if that agrees with the total; the
    tokenizer, if it agrees with the total; the total spread evenly. Without a total (no usage): the
    tokenizer, else one token per event ("none", an assumption).
    """
    total = reported_total(deltas)
    if total is None:
        sizes = count(deltas.texts()) if count else None
        if sizes is None:
            return TokenCounts(_ones(deltas), "none", 0, len(deltas.tokens))
        return TokenCounts(np.array(sizes, np.int32), "tokenizer", 0, sum(sizes))
    if by_usage := _by_usage(deltas, total):
        return by_usage
    events = len(deltas.tokens)
    unseen = total - events
    # Some servers count reasoning that they never send (OpenAI's).
    reasoning = deltas.usage.reasoning if deltas.usage else 0
    if events and (not unseen or (unseen == reasoning and deltas.first_text == deltas.tokens[0])):
        return TokenCounts(_ones(deltas), "chunk", unseen, total)
    sizes = count(deltas.texts()) if count and events else None
    if sizes is not None and sum(sizes) == total:
        return TokenCounts(np.array(sizes, np.int32), "tokenizer", 0, total)
    if sizes is not None and unseen >= 0 and all(size == 1 for size in sizes):
        # The other tokens had no text: an end of sequence, if the model stopped by itself, and
        # tokens hidden before the first.
        hidden = unseen - (deltas.finish_reason == "stop")
        return TokenCounts(_ones(deltas), "tokenizer", hidden, total)
    # Spread evenly, with larger shares first.
    shares = -(-np.arange(events + 1, dtype=np.int64) * total // max(events, 1))
    even = np.diff(shares).astype(np.int32)
    return TokenCounts(even, "even" if events else "none", 0, total)


def reported_total(deltas: Deltas) -> int | None:
    """The output tokens in the server's last usage; None if there is none, or 0 despite text."""
    usage = deltas.usage
    if usage is None or (not usage.completion_tokens and deltas.tokens):
        return None
    return usage.completion_tokens or 0


def _by_usage(deltas: Deltas, total: int) -> TokenCounts | None:
    """Counts from a usage that grows with each event.

    Returns None if a token-bearing event has no usage, or if it does not grow with the text: some
    servers send 0, or the total, in every event.

    Tokens without text count for the next event with text. Those before the first text and after
    the last count for no event: they are hidden.
    """
    counted, so_far = np.array(deltas.counted), np.array(deltas.so_far)
    if not deltas.tokens or counted[-1] < deltas.tokens[-1]:
        return None
    places = np.searchsorted(counted, deltas.tokens)
    grown = so_far[places]
    if (counted[places] != deltas.tokens).any() or grown.min() < 0:
        return None
    first = int(grown[0])
    if not first or (len(grown) > 1 and first == grown[-1]):
        return None
    # The first text has at least one token, even if the event before it (a role) counted it.
    before = min(int(so_far[: places[0]].max(initial=0)), first - 1)
    counts = np.diff(grown, prepend=before).astype(np.int32)
    if counts.min() < 0 or before + int(counts.sum()) > total:
        return None
    # SGLang sends no event for harmony's channel markers, but counts them with the first text after
    # them. What exceeds the largest later event was hidden. Too few later events prove nothing.
    unseen = max(0, int(counts[0]) - max(1, int(counts[1:].max()))) if len(counts) > _SHOWN else 0
    counts[0] -= unseen
    return TokenCounts(counts, "usage", before + unseen, total)


def _ones(deltas: Deltas) -> Counts:
    return np.ones(len(deltas.tokens), np.int32)


# What servers append to the name of the requested model: a revision (transformers) or a snapshot's
# date (OpenAI).
_REVISION = re.compile(r"@[\w.-]+$|-\d{4}-?\d{2}-?\d{2}$")


def read_exchange(
    exchange: Exchange,
    job: Job,
    dialect: Dialect,
    terms: RequestTerms,
    *,
    count: Count | None = None,
    usage_expected: bool = True,
    keep_text: bool = False,
    free: bool = False,
) -> Request:
    """Read an exchange; returns its request with times and tokens, or with a failure.

    count: counts with the served model's tokenizer, for deltas of several tokens without counts
    usage_expected: the server reports token counts on request, so a response without them is a
        failure
    keep_text: put the answer's text into the request
    free: take the exchange's bytes, which would double the memory that a long answer's events need

    The first token is the first delta with content, reasoning, a tool call or text that is not
    empty; its time is that of the read that completed its event. A failed request has whatever
    could be read.
    """
    request = _blank(exchange, job)
    answer = parse_response(exchange, dialect.most_bytes(job.prompt.output_tokens))
    if free:
        exchange.data = b""
    request.status = answer.status
    deltas = Deltas()
    if answer.ok:
        deltas = dialect.deltas(answer.data if answer.body is None else [answer.body])
        _fill(request, exchange, answer, deltas, count_tokens(deltas, count))
        _fill_since(request, answer, deltas, earliest_ns(exchange, answer))
        if keep_text:
            request.text = "".join(deltas.texts())
    usage_due = usage_expected and terms.include_usage
    if failed := _failure(exchange, answer, deltas, terms, usage_due):
        request.failure, request.detail = str(failed[0]), failed[1]
    return request


def unreadable_request(exchange: Exchange, job: Job) -> Request:
    """The request for an exchange whose answer takes more memory to read than there is."""
    request = _blank(exchange, job)
    request.failure = Failure.TOO_LARGE
    request.detail = f"no memory to read an answer of {exchange.ends[-1]} bytes"
    return request


def _blank(exchange: Exchange, job: Job) -> Request:
    prompt = job.prompt
    return Request(
        index=exchange.index,
        scheduled_ns=exchange.scheduled_ns,
        sent_ns=exchange.sent_ns,
        sent_by_ns=exchange.sent_by_ns,
        asked_input=prompt.input_tokens,
        asked_output=prompt.output_tokens,
        reused=exchange.reused,
        conversation=prompt.conversation,
        turn=prompt.turn,
        prompt_sha256=prompt.sha256(),
    )


def _fill(
    request: Request,
    exchange: Exchange,
    answer: ParsedResponse,
    deltas: Deltas,
    tokens: TokenCounts,
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
        request.done_ns = exchange.stamps[-1]
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


def earliest_ns(exchange: Exchange, answer: ParsedResponse) -> Ints | None:
    """The earliest time at which each event can have been complete; None: all at their stamps.

    The kernel's stamp is that of the last segment in a read. So it is the time of the read's last
    event, and that of all its events if the read was one segment. Otherwise, the others came after
    the read before, and after the last look at the sockets that did not report them.
    """
    if exchange.unstamped:
        own = np.zeros(len(answer.reads), np.bool_)
    else:
        own = answer.after <= 0
        own[-1:] = True  # what follows is the end of the body
        if own.all():
            return None
        single = single_segments(exchange)
        if single is None:
            return None
        own |= single[answer.reads]
        if own.all():
            return None
    others = ~own
    stamps, reads, at = np.asarray(exchange.stamps), answer.reads[others], answer.stamps[others]
    since = np.full(len(reads), exchange.sent_ns)
    # The read was made after its stamp, so that it belongs to the look before that, or to a later
    # one; what it held was not there yet in the look before.
    before = np.searchsorted(exchange.looks, at - exchange.clock_error_ns) - 2
    if before.max(initial=-1) >= 0:
        np.maximum(since, exchange.looks[before] - QUEUED_NS, out=since, where=before >= 0)
    if exchange.looked:
        number, moments = np.asarray(exchange.looked).reshape(-1, 2).T
        not_before = np.zeros(len(stamps), np.int64)
        not_before[number - 1] = moments
        np.maximum(since, not_before[reads], out=since)
    if not exchange.unstamped:
        np.maximum(since, stamps[reads - 1], out=since, where=reads > 0)
    earliest = answer.stamps.copy()
    earliest[others] = np.minimum(since, at)
    return earliest


def single_segments(exchange: Exchange) -> Bools | None:
    """Which reads are known to have held one TCP segment each; None: all of them."""
    count, pairs = len(exchange.ends), exchange.segments
    small = not count or exchange.ends[-1] < SEGMENT
    if not small:
        ends = np.asarray(exchange.ends)
        small = ends[0] < SEGMENT and (ends[1:] - ends[:-1]).max(initial=0) < SEGMENT
    if small and pairs and pairs[-2] == pairs[-1] == count:
        return None
    single = np.zeros(count, np.bool_)
    before = (0, 0)
    for reads, segments in zip(pairs[::2], pairs[1::2], strict=True) if small else ():
        if segments - before[1] == reads - before[0]:
            single[before[0] : reads] = True
        before = (reads, segments)
    return single


def _fill_since(
    request: Request, answer: ParsedResponse, deltas: Deltas, since: Ints | None
) -> None:
    """Put the earliest possible times into the request. since: of each event"""
    if since is None or not len(since):
        return
    request.first_event_since_ns = int(since[0])
    token_since_ns = since[deltas.tokens]
    if not np.array_equal(token_since_ns, request.token_ns):
        request.token_since_ns = token_since_ns
    if deltas.first_text >= 0:
        request.text_since_ns = int(since[deltas.first_text])
    if deltas.done >= 0:
        request.done_since_ns = int(since[deltas.done])
    elif not answer.whole and deltas.finish >= 0:
        request.done_since_ns = int(since[-1])


def _failure(
    exchange: Exchange,
    answer: ParsedResponse,
    deltas: Deltas,
    terms: RequestTerms,
    usage_due: bool,
) -> tuple[str, str] | None:
    """The first kind of failure that applies, in the order of `failures`, and its detail."""
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
    # A body that can't be read. One that is not a stream is judged only if it is whole.
    if answer.body is None or answer.whole:
        if answer.body is not None and terms.stream:
            return Failure.NOT_STREAMED, "one JSON response instead of a stream"
        if answer.problem:
            return Failure.MALFORMED_SSE, f"line {answer.problem!r}"
        if deltas.malformed:
            return Failure.MALFORMED_JSON, deltas.malformed
    # A connection that ended before the answer did.
    finished = deltas.finish >= 0 and (reported_total(deltas) is not None or not usage_due)
    if not (answer.whole or deltas.done >= 0 or finished):
        return _ended_early(exchange, deltas)
    # An answer that is complete, but wrong.
    alias = terms.answers_as or terms.model
    if not (same_model(terms.model, deltas.model) or same_model(alias, deltas.model)):
        detail = f"asked for {terms.model!r}, answered by {deltas.model!r}"
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
    """Whether an answer's model is the requested one.

    The names must be equal, or if one of them is a path, its last part. A revision or a snapshot's
    date may follow. "" matches any name.
    """
    if not requested or not answered or requested == answered:
        return True
    plain = _REVISION.sub("", answered)
    return plain == requested or plain.endswith(f"/{requested}") or requested.endswith(f"/{plain}")
