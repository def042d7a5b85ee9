"""What this server understands, found out with a few short requests before the clock starts.

They tell which optional fields it takes, whether it tells token counts, whether its events are
tokens, and what its chat template adds to a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import reduce

import msgspec
from msgspec.structs import replace

from spark_bench.client.target import Envelope
from spark_bench.errors import Unreachable
from spark_bench.options import RunOptions
from spark_bench.prompts.calibrate import Overhead
from spark_bench.prompts.probe import overhead, probes
from spark_bench.prompts.tokens import Tokens
from spark_bench.protocol import failures
from spark_bench.protocol.dialects import Asking, Dialect, dialect
from spark_bench.protocol.failures import Failure
from spark_bench.protocol.reading import read
from spark_bench.protocol.refusals import LENGTHS, is_unknown, other_length, refused
from spark_bench.protocol.stream import answer
from spark_bench.protocol.tape import Tape
from spark_bench.record import Job, Prompt, Request, Timing
from spark_bench.run.reach import Reached

# Statuses with which servers refuse a field that they don't know.
REFUSED = ("http_400", "http_422")
# The same where the words say so: a status that other failures have, too.
REFUSING = (400, 404, 422, 500, 501)
# Fields that no request can do without.
NEEDED = ("model", "messages", "prompt", "text", "stream", "sampling_params")
# Nothing that a load would change.
HOPELESS = ("http_401", "http_403", "http_404", "http_405", "model_not_found", "not_streamed")


# Where a server refuses without saying what, these are left out in turn, the least first.
SIMPLER = (
    ("continuous_usage_stats",),
    ("continuous_usage_stats", "ignore_eos"),
    ("continuous_usage_stats", "stream_options"),
    ("ignore_eos", "stream_options"),
    ("ignore_eos", "stream_options", "temperature"),
    ("ignore_eos", "stream_options", "temperature", "max_tokens"),
)
# A server that goes on refusing is asked no more often than this.
MOST_TRIES = 16


def without(asking: Asking, field: str, length_field: str = LENGTHS[0]) -> Asking:
    """The same without a field that the server refuses; the length is asked for in another."""
    match field:
        case "continuous_usage_stats":
            return replace(asking, continuous_usage=False)
        case "include_usage" | "stream_options":
            return replace(asking, include_usage=False, continuous_usage=False)
        case "ignore_eos":
            return replace(asking, ignore_eos=False)
        case "temperature":
            return replace(asking, temperature=None)
        case asking.length_field:
            return replace(asking, length_field=length_field)
    return replace(asking, extra={k: v for k, v in asking.extra.items() if k != field})


def left_out(wanted: Asking, asking: Asking) -> Iterator[str]:
    """What it means that a server is asked otherwise than wanted."""
    if wanted.ignore_eos and not asking.ignore_eos:
        yield "the server does not accept ignore_eos: answers may end before --output-len"
    if wanted.include_usage and not asking.include_usage:
        yield "the server does not accept stream_options: it gives no token counts"
    if wanted.temperature is not None and asking.temperature is None:
        yield f"the server refuses temperature {wanted.temperature:g}: it uses its own"
    if wanted.length_field != asking.length_field:
        yield f"the server does not accept {wanted.length_field}: {asking.length_field} was sent"
    if lacking := [name for name in wanted.extra if name not in asking.extra]:
        yield f"the server refuses {', '.join(lacking)} of --extra-body: left out"


@dataclass(frozen=True)
class Agreed:
    """How this server is asked.

    usage: it tells token counts, so an answer without is a failure
    overhead: what its chat template adds
    """

    dialect: Dialect
    asking: Asking
    envelope: Envelope
    usage: bool = True
    overhead: Overhead = Overhead()  # noqa: RUF009 - frozen
    notes: tuple[str, ...] = ()


def agree(options: RunOptions, reached: Reached, tokens: Tokens) -> Agreed:
    """Ask the probes, giving up optional fields while the server refuses.

    Unreachable where no load could succeed (no such path, no key, no such model); a server that
    merely fails gets its load all the same, and its failures are the result.
    """
    spoken = dialect(options.endpoint)
    request = reached.http.build_request("POST", spoken.path)
    envelope = Envelope(request, reached.recorder.target)
    asking = Asking(
        model=reached.model,
        ignore_eos=options.ignore_eos,
        continuous_usage=options.count_tokens != "off",
        temperature=options.temperature,
        extra=options.extra_body,
    )
    prompts = probes(tokens, options.seed, options.turns)
    agreed, first = _settle(reached, Agreed(spoken, asking, envelope), prompts[0], options.timeout)
    _check_model(reached, agreed, first)
    if first.failure in HOPELESS:
        place = f"{reached.url}{spoken.path}"
        raise Unreachable(f"{place}: {first.detail}: {failures.cure(first.failure)}")
    rest = [ask(reached, agreed, prompt, options.timeout) for prompt in prompts[1:]]
    learned = _learn(agreed, prompts, [first, *rest])
    if tokens.exact and not learned.overhead.steady:
        other = (
            f"the server counts some texts differently than {tokens.name}, so prompts may differ "
        )
        cure = "in length from what was asked: give the served model's with --tokenizer"
        return replaced(learned, notes=(*learned.notes, other + cure))
    return learned


def ask(reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float) -> Request:
    """One request on its own."""
    return _asked(reached, agreed, prompt, timeout)[0]


def _asked(
    reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float
) -> tuple[Request, bytes]:
    """The same, and the body of an answer that is no stream, or what a stream says of an error."""
    job = Job(0, agreed.envelope(agreed.dialect.body(prompt, agreed.asking)), Timing(), prompt)
    most = agreed.dialect.most_bytes(prompt.output_tokens)
    exchange = reached.recorder.exchange(job.wire, timeout, most)
    request = read(exchange, job, agreed.dialect, agreed.asking, usage_expected=False)
    request.detail = reached.hidden(request.detail)
    body = answer(Tape.of(exchange), exchange.ended, most).body if request.failure else b""
    return request, body or request.detail.encode()


def _check_model(reached: Reached, agreed: Agreed, first: Request) -> None:
    """Unreachable where a server that lists no model wants to be told one."""
    wants_one = "model" in first.detail.lower() and first.failure.startswith(("http_4", "model_"))
    if wants_one and not agreed.asking.model:
        raise Unreachable(
            f"{reached.url}{agreed.dialect.path}: {first.detail}: /v1/models lists none, so give "
            "the model's name with --model"
        )


def _settle(
    reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float
) -> tuple[Agreed, Request]:
    """How the server wants to be asked, and its answer to that; the whole as it was wanted, if it
    was not for a field that the server refused."""
    first, body = _asked(reached, agreed, prompt, timeout)
    wanted, last = agreed.asking, first
    bodies = {agreed.dialect.body(prompt, wanted)}
    simpler, fallbacks = agreed, iter(SIMPLER)
    while _refuses(last, body) and len(bodies) < MOST_TRIES:
        asking = _as_told(simpler.asking, body, simpler.dialect.body(prompt, simpler.asking))
        if asking is None and last.failure == Failure.STREAM_ERROR:
            break  # what else goes wrong in a stream is no refusal
        while asking is None or agreed.dialect.body(prompt, asking) in bodies:
            if (fields := next(fallbacks, None)) is None:
                return agreed, first
            asking = reduce(without, fields, simpler.asking)
        simpler = replaced(simpler, asking=asking)
        bodies.add(simpler.dialect.body(prompt, asking))
        last, body = _asked(reached, simpler, prompt, timeout)
    if last.failure in REFUSED or last.failure == Failure.STREAM_ERROR:
        return agreed, first
    if last.failure == Failure.WRONG_MODEL and not reached.lists_apart(last.model):
        simpler = replaced(simpler, asking=replace(simpler.asking, answers_as=last.model))
        last = ask(reached, simpler, prompt, timeout)
    return replaced(
        simpler, notes=(*_other_name(simpler.asking), *left_out(wanted, simpler.asking))
    ), last


def _refuses(request: Request, body: bytes) -> bool:
    """Whether a request was refused for what it asks for; some servers say so with 500, or with
    200 and an error in the stream."""
    if request.failure in REFUSED:
        return True
    says = request.status in REFUSING or request.failure == Failure.STREAM_ERROR
    return says and is_unknown(body)


def _as_told(asking: Asking, body: bytes, sent: bytes) -> Asking | None:
    """Without the fields that the refusal names; None where it names none that can be left out."""
    fields = [name for name in msgspec.json.decode(sent) if name not in NEEDED]
    named = refused(body, ["continuous_usage_stats", "include_usage", *fields])
    if "continuous_usage_stats" in named and asking.continuous_usage:
        named = [name for name in named if name not in ("stream_options", "include_usage")]
    if asking.length_field in named and not is_unknown(body):
        named.remove(asking.length_field)  # it is too large or too small, which no name would mend
    told = reduce(lambda a, name: without(a, name, other_length(body)), named, asking)
    return told if named else None


def _other_name(asking: Asking) -> Iterator[str]:
    if asking.answers_as:
        yield (
            f"asked for {asking.model}, but the answers name {asking.answers_as}: the name "
            "behind a gateway's alias, or not the model that you meant to measure"
        )


def _learn(agreed: Agreed, prompts: list[Prompt], answers: list[Request]) -> Agreed:
    asking = replace(agreed.asking, continuous_usage=False)
    told = [(p, r) for p, r in zip(prompts, answers, strict=True) if r.ok and r.usage]
    if not told:
        usage = not any(r.ok for r in answers)
        return replaced(agreed, asking=asking, usage=usage, notes=(*agreed.notes, _why(answers)))
    extra = overhead([p for p, _ in told], [r.prompt_tokens for _, r in told])
    # Asked for wherever the server does it. On a real server most answers have some event of
    # several tokens, or of a character's first half, however plain the few of the probes look.
    each = agreed.asking.continuous_usage and any(r.counted_by == "usage" for _, r in told)
    return replaced(agreed, asking=replace(asking, continuous_usage=each), overhead=extra)


def _why(answers: list[Request]) -> str:
    """Why the probes taught nothing."""
    if any(r.ok for r in answers):
        return "the server gives no token counts: they are the tokenizer's, or the number of events"
    first = answers[0]
    return f"the requests before the run failed ({first.failure}: {first.detail})"
