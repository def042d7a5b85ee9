"""What this server understands, found out with a few short requests before the clock starts.

They tell which optional fields it takes, whether it tells token counts, whether its events are
tokens, and what its chat template adds to a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """An optional part of a request: how to leave it out, and what that means."""

    changes: dict[str, bool]
    meaning: str


# In the order in which they are given up.
OPTIONAL = (
    Without({"continuous_usage": False}, ""),
    Without(
        {"ignore_eos": False},
        "the server takes no ignore_eos: answers may end before --output-len",
    ),
    Without(
        {"include_usage": False},
        "the server takes no stream_options: it tells no token counts",
    ),
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
    """Ask the probes, giving up one optional field after the other while the server refuses.

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
    agreed = Agreed(spoken, asking, envelope)
    prompts = probes(tokens, options.seed, options.turns)
    agreed, first = _settle(reached, agreed, prompts[0], options.timeout)
    if not first.ok:
        return _failing(reached, agreed, first)
    rest = [ask(reached, agreed, prompt, options.timeout) for prompt in prompts[1:]]
    return _learn(agreed, prompts, [first, *rest], options)


def ask(reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float) -> Request:
    """One request on its own."""
    job = Job(0, agreed.envelope(agreed.dialect.body(prompt, agreed.asking)), Timing(), prompt)
    exchange = reached.recorder.exchange(job.wire, timeout)
    return read(exchange, job, agreed.dialect, agreed.asking, usage_expected=False)


def _settle(
    reached: Reached, agreed: Agreed, prompt: Prompt, timeout: float
) -> tuple[Agreed, Request]:
    first = found = ask(reached, agreed, prompt, timeout)
    simpler = agreed
    for without in OPTIONAL:
        if found.failure not in REFUSED:
            return simpler, found
        notes = (*simpler.notes, *filter(None, [without.meaning]))
        asking = replace(simpler.asking, **without.changes)
        simpler = _with(simpler, asking=asking, notes=notes)
        found = ask(reached, simpler, prompt, timeout)
    # It was not for a field that the server refused: the whole request is as good as a part.
    return (simpler, found) if found.failure not in REFUSED else (agreed, first)


def _failing(reached: Reached, agreed: Agreed, first: Request) -> Agreed:
    if first.failure in HOPELESS:
        place = f"{reached.url}{agreed.dialect.path}"
        raise Unreachable(f"{place}: {first.detail}: {failures.cure(first.failure)}")
    note = f"the request before the run failed ({first.failure}: {first.detail})"
    asking = replace(agreed.asking, continuous_usage=False)
    return _with(agreed, asking=asking, notes=(*agreed.notes, note))


def _learn(
    agreed: Agreed, prompts: list[Prompt], answers: list[Request], options: RunOptions
) -> Agreed:
    good = [(p, r) for p, r in zip(prompts, answers, strict=True) if r.ok and r.usage]
    if not good:
        note = "the server tells no token counts: they are the tokenizer's, or the events'"
        asking = replace(agreed.asking, continuous_usage=False)
        return _with(agreed, asking=asking, usage=False, notes=(*agreed.notes, note))
    extra = overhead([p for p, _ in good], [r.prompt_tokens for _, r in good])
    each = agreed.asking.continuous_usage and _worth_it(options, [r for _, r in good])
    return _with(agreed, asking=replace(agreed.asking, continuous_usage=each), overhead=extra)


def _worth_it(options: RunOptions, answers: list[Request]) -> bool:
    """Are counts with each event needed? They make events a third larger; where each event is one
    token, they tell nothing new."""
    told = all(r.counted_by == "usage" for r in answers)
    plain = all(not r.hidden_tokens and (r.token_counts == 1).all() for r in answers)
    return told and (options.count_tokens == "usage" or not plain)


def _with(agreed: Agreed, **changes: object) -> Agreed:
    from dataclasses import replace as changed

    return changed(agreed, **changes)  # type: ignore[arg-type]
