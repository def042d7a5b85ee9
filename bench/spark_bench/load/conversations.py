"""Multi-turn: a question is asked when the answer before it has come, and been thought about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spark_bench.record import Prompt, Timing


def timings(
    prompts: Sequence[Prompt], *, starts: Sequence[Timing] = (), pause: float = 0.0
) -> list[Timing]:
    """When each prompt is due, by index: a first turn by its start, a later one after the last.

    prompts: in any order; the turns of a conversation are put in the order of their numbers
    starts: when the conversations begin, in the order in which they first appear in `prompts`
        (arrivals.timings of as many as there are conversations); empty: all at 0
    pause: seconds that the user thinks between an answer's end and the next question
    """
    turns: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        turns.setdefault(prompt.conversation, []).append(index)
    due = [Timing()] * len(prompts)
    for start, indices in zip(starts or [Timing()] * len(turns), turns.values(), strict=True):
        first, *rest = sorted(indices, key=lambda index: prompts[index].turn)
        due[first] = replace(start, after=None)
        for before, index in zip([first, *rest], rest, strict=False):
            due[index] = Timing(after=before, pause=pause)
    return due
