"""Find out what the server understands, with a few short requests before the clock starts.

These probes show which optional fields it accepts, whether it returns token counts, whether each of
its events is one token, and how many tokens its chat template adds to a prompt.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import msgspec
from msgspec.structs import replace

from spark_bench import errors, record
from spark_bench.client.target import Envelope
from spark_bench.options import RunOptions
from spark_bench.prompts.compose import Overhead, overhead, probe_prompts
from spark_bench.prompts.tokens import Tokens
from spark_bench.protocol import content, failures, reading, refusals
from spark_bench.protocol.dialects import Dialect, RequestTerms, dialect
from spark_bench.run.reach import ReachedServer

# Failures by which servers refuse a field that they don't know.
REFUSED = ("http_400", "http_422")
# Statuses that are a refusal only if the message says so, since other failures have them, too.
REFUSING = (400, 404, 422, 500, 501)
# Fields that no request can do without.
NEEDED = ("model", "messages", "prompt", "text", "stream", "sampling_params")
# Failures that every request of a load would have.
HOPELESS = ("http_401", "http_403", "http_404", "http_405", "model_not_found", "not_streamed")


# If a server refuses without naming a field, leave these out in turn, the least needed first.
SIMPLER = (
    ("continuous_usage_stats",),
    ("continuous_usage_stats", "ignore_eos"),
    ("continuous_usage_stats", "stream_options"),
    ("ignore_eos", "stream_options"),
    ("ignore_eos", "stream_options", "temperature"),
    ("ignore_eos", "stream_options", "temperature", "max_tokens"),
)
# Give up on a server that still refuses after this many probes.
MOST_TRIES = 16


def without(
    terms: RequestTerms, field: str, length_field: str = refusals.LENGTHS[0]
) -> RequestTerms:
    """`terms` without a field that the server refuses.

    length_field: replaces the name of the length field, if that is the one refused
    """
    match field:
        case "continuous_usage_stats":
            return replace(terms, continuous_usage=False)
        case "include_usage" | "stream_options":
            return replace(terms, include_usage=False, continuous_usage=False)
        case "ignore_eos":
            return replace(terms, ignore_eos=False)
        case "temperature":
            return replace(terms, temperature=None)
        case terms.length_field:
            return replace(terms, length_field=length_field)
    return replace(terms, extra={k: v for k, v in terms.extra.items() if k != field})


def explain_changes(wanted: RequestTerms, terms: RequestTerms) -> Iterator[str]:
    """Yield a sentence for each consequence of sending other fields than wanted."""
    if terms.answers_as:
        yield (
            f"requested {terms.model}, but the answers name {terms.answers_as}: the name "
            "behind a gateway's alias, or not the model that you meant to measure"
        )
    if wanted.ignore_eos and not terms.ignore_eos:
        yield "the server does not accept ignore_eos: answers may end before --output-len"
    if wanted.include_usage and not terms.include_usage:
        yield "the server does not accept stream_options: it returns no token counts"
    if wanted.temperature is not None and terms.temperature is None:
        yield f"the server refuses temperature {wanted.temperature:g}: it uses its own"
    if wanted.length_field != terms.length_field:
        yield f"the server does not accept {wanted.length_field}: {terms.length_field} was sent"
    if lacking := [name for name in wanted.extra if name not in terms.extra]:
        yield f"the server refuses {', '.join(lacking)} of --extra-body: left out"


@dataclass(frozen=True)
class Agreement:
    """How requests to this server are built.

    usage: it returns token counts, so a response without them is a failure
    overhead: tokens that its chat template adds
    """

    dialect: Dialect
    terms: RequestTerms
    envelope: Envelope
    usage: bool = True
    overhead: Overhead = Overhead()  # noqa: RUF009 - frozen
    notes: tuple[str, ...] = ()


def negotiate(options: RunOptions, server: ReachedServer, tokens: Tokens) -> Agreement:
    """Send the probes, dropping optional fields until the server accepts.

    Raises Unreachable if no load could succeed (no such path, key or model). A server that fails in
    any other way is sent its load all the same: its failures are the result.
    """
    api = dialect(options.server.endpoint)
    request = server.http.build_request("POST", api.path)
    envelope = Envelope(request, server.recorder.target)
    terms = RequestTerms(
        model=server.model,
        ignore_eos=options.server.ignore_eos,
        continuous_usage=options.measure.count_tokens != "off",
        temperature=options.server.temperature,
        extra=options.server.extra_body,
    )
    prompts = probe_prompts(tokens, options.load.seed, options.prompts.turns)
    timeout = options.load.timeout
    agreement, first = _settle(server, Agreement(api, terms, envelope), prompts[0], timeout)
    # A server that lists no model may require one in the request.
    unnamed = "model" in first.detail.lower() and first.failure.startswith(("http_4", "model_"))
    if unnamed and not agreement.terms.model:
        raise errors.Unreachable(
            f"{server.url}{api.path}: {first.detail}: /v1/models lists none, so give the model's "
            "name with --model"
        )
    if first.failure in HOPELESS:
        cure = failures.cure(first.failure)
        raise errors.Unreachable(f"{server.url}{api.path}: {first.detail}: {cure}")
    rest = [_send_one(server, agreement, prompt, timeout)[0] for prompt in prompts[1:]]
    learned = _learn(agreement, prompts, [first, *rest])
    if tokens.exact and not learned.overhead.steady:
        note = (
            f"the server counts some texts differently than {tokens.name}, so prompts may differ "
            "in length from the requested one: give the served model's with --tokenizer"
        )
        return dataclasses.replace(learned, notes=(*learned.notes, note))
    return learned


def _send_one(
    server: ReachedServer, agreement: Agreement, prompt: record.Prompt, timeout: float
) -> tuple[record.Request, bytes]:
    """Send a single request.

    Returns it with the body of an answer that is not a stream, or with the error in a stream.
    """
    job = record.Job(
        0,
        agreement.envelope(agreement.dialect.body(prompt, agreement.terms)),
        record.Timing(),
        prompt,
    )
    most = agreement.dialect.most_bytes(prompt.output_tokens)
    exchange = server.recorder.exchange(job.wire, timeout, most)
    request = reading.read_exchange(
        exchange, job, agreement.dialect, agreement.terms, usage_expected=False
    )
    request.detail = server.hidden(request.detail)
    body = content.parse_response(exchange, most).body if request.failure else b""
    return request, body or request.detail.encode()


def _settle(
    server: ReachedServer, agreement: Agreement, prompt: record.Prompt, timeout: float
) -> tuple[Agreement, record.Request]:
    """Find an agreement that the server accepts.

    Returns it and the response to it. If leaving out fields does not help, returns the agreement
    unchanged and the first response.
    """
    first, body = _send_one(server, agreement, prompt, timeout)
    wanted, last = agreement.terms, first
    bodies = {agreement.dialect.body(prompt, wanted)}
    simpler, fallbacks = agreement, iter(SIMPLER)
    while len(bodies) < MOST_TRIES:
        # Some servers refuse a field with status 500, or with 200 and an error in the stream.
        says = last.status in REFUSING or last.failure == failures.Failure.STREAM_ERROR
        if last.failure not in REFUSED and not (says and refusals.is_unknown(body)):
            break
        terms = _without_named(simpler.terms, body, simpler.dialect.body(prompt, simpler.terms))
        if terms is None and last.failure == failures.Failure.STREAM_ERROR:
            break  # an error in a stream that names no field is not a refusal
        while terms is None or agreement.dialect.body(prompt, terms) in bodies:
            if (fields := next(fallbacks, None)) is None:
                return agreement, first
            terms = reduce(without, fields, simpler.terms)
        simpler = dataclasses.replace(simpler, terms=terms)
        bodies.add(simpler.dialect.body(prompt, terms))
        last, body = _send_one(server, simpler, prompt, timeout)
    if last.failure in REFUSED or last.failure == failures.Failure.STREAM_ERROR:
        return agreement, first
    if last.failure == failures.Failure.WRONG_MODEL and not server.lists_apart(last.model):
        simpler = dataclasses.replace(simpler, terms=replace(simpler.terms, answers_as=last.model))
        last = _send_one(server, simpler, prompt, timeout)[0]
    return dataclasses.replace(simpler, notes=tuple(explain_changes(wanted, simpler.terms))), last


def _without_named(terms: RequestTerms, body: bytes, sent: bytes) -> RequestTerms | None:
    """`terms` without the fields that a refusal names; None if none of them can be left out."""
    fields = [name for name in msgspec.json.decode(sent) if name not in NEEDED]
    named = refusals.refused_fields(body, ["continuous_usage_stats", "include_usage", *fields])
    if "continuous_usage_stats" in named and terms.continuous_usage:
        named = [name for name in named if name not in ("stream_options", "include_usage")]
    if terms.length_field in named and not refusals.is_unknown(body):
        named.remove(terms.length_field)  # too large or too small: another name would not help
    changed = reduce(lambda a, name: without(a, name, refusals.other_length(body)), named, terms)
    return changed if named else None


def _learn(
    agreement: Agreement, prompts: list[record.Prompt], answers: list[record.Request]
) -> Agreement:
    terms = replace(agreement.terms, continuous_usage=False)
    counted = [(p, r) for p, r in zip(prompts, answers, strict=True) if r.ok and r.usage]
    if not counted:
        answered = any(r.ok for r in answers)
        note = (
            "the server returns no token counts: they are the tokenizer's, or the number of events"
            if answered
            else f"the requests before the run failed ({answers[0].failure}: {answers[0].detail})"
        )
        notes = (*agreement.notes, note)
        return dataclasses.replace(agreement, terms=terms, usage=not answered, notes=notes)
    extra = overhead([p for p, _ in counted], [r.prompt_tokens for _, r in counted])
    # Ask for counts with each event if the server sends them, even if all events of the probes were
    # single tokens: most answers of a real server have an event of several tokens, or of half a
    # character.
    each = agreement.terms.continuous_usage and any(r.counted_by == "usage" for _, r in counted)
    return dataclasses.replace(
        agreement, terms=replace(terms, continuous_usage=each), overhead=extra
    )
