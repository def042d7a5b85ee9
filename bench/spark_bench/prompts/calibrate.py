"""What the chat template adds, and whether the lengths came out as asked.

An input length of N means that the server counts N: `usage.prompt_tokens == N`, the chat template
and a beginning-of-text token included. What those add is not known before the server was asked
once, so a probe goes first: prompts composed with no overhead, whose `input_tokens` therefore is
their content alone, against the `usage.prompt_tokens` that came back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median_low
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from spark_bench.prompts.tokens import Tokens
    from spark_bench.record import Request

Pair = tuple[int, int]


class Overhead(msgspec.Struct, frozen=True):
    """Tokens that the server counts beyond the contents of the messages.

    first: for a conversation of one question
    turn: more for each further question and the answer before it
    steady: every probe said the same, so lengths can be exact
    """

    first: int = 0
    turn: int = 0
    steady: bool = True


class Lengths(msgspec.Struct, frozen=True):
    """Whether the prompts had the lengths asked for, by the server's own count.

    exact: by a tokenizer, and every request checked was counted as asked (at least one was)
    tokenizer: what counted for us
    checked: finished requests for which the server told its count; the other fields are of these
    asked, counted: input tokens in sum, as asked and as the server counted them
    off_by: {counted - asked: requests}, differences of 0 included
    note: one sentence for people; "" when exact
    """

    exact: bool
    tokenizer: str
    checked: int
    asked: int
    counted: int
    off_by: dict[int, int]
    note: str = ""


def calibrate(first: Sequence[Pair], second: Sequence[Pair] = ()) -> Overhead:
    """The overhead, from probes.

    first: (tokens of the content, usage.prompt_tokens) of prompts of one question
    second: the same of prompts of a question, its answer and another question; without any,
        further turns are taken to add nothing

    Two probes of different lengths tell a template (always the same) from a tokenizer that isn't
    the server's (more, the longer the text): then `steady` is False and the middle one counts.
    """
    once, steady = _extra(first)
    twice, steady_twice = _extra(second)
    further = max(0, twice - once) if second else 0
    return Overhead(max(0, once), further, steady and steady_twice and once >= 0)


def _extra(pairs: Sequence[Pair]) -> tuple[int, bool]:
    """How many tokens the server counts beyond the content, and whether always as many."""
    extra = [counted - content for content, counted in pairs]
    return (median_low(extra), len(set(extra)) == 1) if extra else (0, True)


def check(requests: Iterable[Request], tokens: Tokens) -> Lengths:
    """What the server counted against what was asked, over the requests that tell both."""
    pairs = [
        (r.asked_input, r.prompt_tokens)
        for r in requests
        if r.ok and r.usage and r.asked_input is not None
    ]
    off_by = Counter(counted - asked for asked, counted in pairs)
    note = _note(off_by, tokens)
    return Lengths(
        exact=not note,
        tokenizer=tokens.name,
        checked=len(pairs),
        asked=sum(asked for asked, _ in pairs),
        counted=sum(counted for _, counted in pairs),
        off_by=dict(sorted(off_by.items())),
        note=note,
    )


def _note(off_by: Counter[int], tokens: Tokens) -> str:
    total, wrong = off_by.total(), off_by.total() - off_by[0]
    if not total:
        return "the server told no prompt_tokens, so input lengths are unchecked"
    if not tokens.exact:
        return "without the model's tokenizer input lengths are approximate: give --tokenizer"
    if wrong:
        least, most = min(off_by), max(off_by)
        return (
            f"{wrong} of {total} prompts were not of the length asked: the server counted"
            f" {least:+d} to {most:+d} tokens more than {tokens.name}; is that the served model's?"
        )
    return ""
