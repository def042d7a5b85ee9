"""When each request is due: in an open loop whatever became of those before it, in a
conversation once the turn before has been answered.

Arrivals are drawn in operational time, where one request is due per unit, and then put on the
clock through the inverse of the integrated rate (Lewis and Shedler 1979; Cinlar 1975, "time
change"). So a ramp has the same burstiness as a constant rate, and no arrival is thrown away.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from random import Random

from spark_bench.errors import BadInput
from spark_bench.load.ramp import Ramp
from spark_bench.record import Prompt, Timing


def arrival_timings(
    count: int, rate: float | Ramp, *, burstiness: float = 1.0, seed: int
) -> list[Timing]:
    """When each of `count` requests is due, in order, the first at 0.

    rate: requests per second, or how the rate changes over the run
    burstiness: the shape of the gamma distribution of the gaps, whose coefficient of variation is
        1 / sqrt(burstiness): 1 is Poisson, less is burstier, infinity is evenly spaced. As
        vllm 0.33 (benchmarks/serve.py, --burstiness) defines it; sglang 0.5.23
        (benchmark/serving.py) knows Poisson alone.
    seed: the same seed gives the same times

    The gaps are scaled so that their mean is exactly 1 / rate. Unscaled, a few hundred of them
    would miss the rate that was asked for by several per cent, another way with each seed; vllm
    scales too, we have no gap before the first request. For burstiness 1 this is still a Poisson
    process: one of which the number of arrivals in the run is given.

    Raises BadInput for a rate or burstiness that isn't above 0.
    """
    ramp = rate if isinstance(rate, Ramp) else Ramp.constant(rate)
    if not burstiness > 0:
        raise BadInput(
            f"--burstiness: {burstiness} is not allowed; it must be a number above 0:"
            " 1 for Poisson, less for bursts, inf for evenly spaced"
        )
    return [Timing(at=at) for at in ramp.clock(_operational(count, burstiness, seed))]


def _operational(count: int, burstiness: float, seed: int) -> list[float]:
    """Arrivals in operational time: from 0 to count - 1, with a mean gap of 1."""
    if burstiness == math.inf:
        return [float(index) for index in range(count)]
    # Of its own, lest the arrivals follow from the prompts, which come of the same seed.
    random = Random(f"arrivals {seed}")
    # A tiny shape underflows to gaps of 0, which can't be scaled to anything.
    gaps = (max(random.gammavariate(burstiness, 1.0), sys.float_info.min) for _ in range(count - 1))
    sums = [0.0, *accumulate(gaps)][:count]
    return [(count - 1) * (at / sums[-1]) if at else 0.0 for at in sums]


def conversation_timings(
    prompts: Sequence[Prompt], *, starts: Sequence[Timing] = (), pause: float = 0.0
) -> list[Timing]:
    """When each prompt is due, by index: a first turn by its start, a later one after the last.

    prompts: in any order; the turns of a conversation are put in the order of their numbers
    starts: when the conversations begin, in the order in which they first appear in `prompts`
        (`arrival_timings` of as many as there are conversations); empty: all at 0
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
