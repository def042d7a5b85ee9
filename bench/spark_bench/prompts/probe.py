"""The requests that tell what the server's chat template adds."""

from __future__ import annotations

from collections.abc import Sequence

from spark_bench.prompts.calibrate import Overhead, calibrate
from spark_bench.prompts.compose import Shape, compose
from spark_bench.prompts.tokens import Tokens
from spark_bench.record import Prompt

LENGTHS = (24, 57)  # two, far enough apart that a wrong tokenizer counts them differently
ANSWER = 7


def probes(tokens: Tokens, seed: int, turns: int = 1) -> list[Prompt]:
    """Two prompts of one question; two of two questions more, if conversations shall have turns.

    They are composed with no overhead: `input_tokens` is their content's.
    """
    found = [
        prompt
        for length in LENGTHS
        for prompt in compose(Shape(1, length, ANSWER, turns=min(turns, 2)), tokens, seed + length)
    ]
    return sorted(found, key=lambda prompt: prompt.turn)


def overhead(prompts: Sequence[Prompt], counted: Sequence[int]) -> Overhead:
    """What the template adds, by the `usage.prompt_tokens` of each of the probes."""
    pairs = [
        (prompt.turn, (prompt.input_tokens or 0, count))
        for prompt, count in zip(prompts, counted, strict=True)
    ]
    first = [pair for turn, pair in pairs if turn == 0]
    return calibrate(first, [pair for turn, pair in pairs if turn == 1])
