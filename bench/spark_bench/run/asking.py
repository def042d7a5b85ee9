"""What this server understands, found out with a few short requests before the clock starts.

They tell which optional fields it takes, whether it tells token counts, whether its events are
tokens, and what its chat template adds to a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import NamedTuple

from msgspec.structs import replace

from spark_bench.api import failures
from spark_bench.api.dialects import Asking, Dialect, dialect
from spark_bench.api.reading import read
from spark_bench.cli.options import RunOptions
from spark_bench.errors import Unreachable
from spark_bench.prompts.calibrate import Overhead
from spark_bench.prompts.probe import overhead, probes
from spark_bench.prompts.tokens import Tokens
from spark_bench.record import Job, Prompt, Request, Timing
from spark_bench.run.reach import Reached
from spark_bench.wire.target import Envelope

# Statuses with which servers refuse a field that they don't know.
REFUSED = ("http_400", "http_422")
# Nothing that a load would change.
HOPELESS = ("http_401", "http_403", "http_404", "http_405", "model_not_found", "not_streamed")


class Without(NamedTuple):
    """Optional parts of a request, left out, and what that means."""

    continuous_usage: bool = False
    ignore_eos: bool = True
    include_usage: bool = True

    def of(self, asking: Asking) -> Asking:
        """The same without what is left out here."""
        kept = {part: there and getattr(asking, part) for part, there in self._asdict().items()}
        return replace(asking, **kept)

    @property
    def meaning(self) -> tuple[str, ...]:
        eos = "the server takes no ignore_eos: answers may end before --output-len"
        usage = "the server takes no stream_options: it tells no token counts"
        return (*([] if self.ignore_eos else [eos]), *([] if self.include_usage else [usage]))


# In this order they are tried while the server refuses: the least is given up first.
SIMPLER = (
    Without(),
    Without(ignore_eos=False),
    Without(include_usage=False),
    Without(ignore_eos=False, include_usage=False),
)


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
    if first.failure in HOPELESS:
        place = f"{reached.url}{spoken.path}"
        raise Unreachable(f"{place}: {first.detail}: {failures.cure(first.failure)}")
    rest = [ask(reached, agreed, prompt, options.timeout) for prompt in prompts[1:]]
    learned = _learn(agreed, prompts, [first, *rest])
    if tokens.exact and not learned.overhead.steady:
        other = f"the server counts some texts otherwise than {tokens.name}, so prompts may differ "
        cure = "in length from what was asked: give the served model's with --tokenizer"
        return replaced(learned, notes=(*learned.notes, other + cure))
    return learned


def ask(reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float) -> Request:
    """One request on its own."""
    job = Job(0, agreed.envelope(agreed.dialect.body(prompt, agreed.asking)), Timing(), prompt)
    most = agreed.dialect.most_bytes(prompt.output_tokens)
    exchange = reached.recorder.exchange(job.wire, timeout, most)
    request = read(exchange, job, agreed.dialect, agreed.asking, usage_expected=False)
    request.detail = reached.hidden(request.detail)
    return request


def _settle(
    reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float
) -> tuple[Agreed, Request]:
    first = ask(reached, agreed, prompt, timeout)
    if first.failure not in REFUSED:
        return agreed, first
    asked = {agreed.dialect.body(prompt, agreed.asking)}
    for without in SIMPLER:
        simpler = replaced(agreed, asking=without.of(agreed.asking), notes=without.meaning)
        if (body := agreed.dialect.body(prompt, simpler.asking)) in asked:
            continue
        asked.add(body)
        found = ask(reached, simpler, prompt, timeout)
        if found.failure not in REFUSED:
            return simpler, found
    # It was not for a field that the server refused: the whole request is as good as a part.
    return agreed, first


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
        return "the server tells no token counts: they are the tokenizer's, or the events'"
    first = answers[0]
    return f"the requests before the run failed ({first.failure}: {first.detail})"
