"""What the chat template adds.

An input length of N means that the server counts N: `usage.prompt_tokens == N`, the chat template
and a beginning-of-text token included. What those add is not known before the server was asked
once, so a probe goes first: prompts composed with no overhead, whose `input_tokens` therefore is
their content alone, against the `usage.prompt_tokens` that came back.
"""

from collections.abc import Sequence
from statistics import median_low

import msgspec

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
