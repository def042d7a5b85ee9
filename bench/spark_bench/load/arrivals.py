"""When each request is due: in an open loop at its time, whatever became of those before it; in a
conversation once the turn before has been answered; in a closed loop once a slot is free.

Arrivals are drawn in operational time, where one request is due per unit, and then mapped to the
clock by the inverse of the integrated rate (Lewis and Shedler 1979; Cinlar 1975, "time change").
So a ramp has the same burstiness as a constant rate, and no arrival is drawn and then rejected.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Literal

from spark_bench.errors import BadInput
from spark_bench.record import Prompt, SlotStep, Timing


@dataclass(frozen=True, slots=True)
class Ramp:
    """A request rate that changes over the run: its start and its end, in requests per second.

    shape: each second the rate changes by the same amount ("linear") or by the same factor
        ("exponential"). Both are functions of time. (vllm 0.33 ramps over the request's number, so
        most of its run is spent at the low rates.)

    Raises BadInput for a rate that isn't a finite number above 0.
    """

    start: float
    end: float
    shape: Literal["linear", "exponential"] = "linear"

    def __post_init__(self) -> None:
        for rate in (self.start, self.end):
            if not 0 < rate < math.inf:
                raise BadInput(
                    f"request rate {rate} is not allowed; it must be a number of requests per"
                    " second above 0: leave the option out for as fast as possible"
                )

    @classmethod
    def constant(cls, rate: float) -> Ramp:
        """No ramp: one rate for the whole run."""
        return cls(rate, rate)

    @classmethod
    def parse(cls, text: str) -> Ramp:
        """Parse an option's value, START:END or START:END:SHAPE; BadInput for anything else.

        >>> Ramp.parse("1:10")
        Ramp(start=1.0, end=10.0, shape='linear')
        """
        start, colon, rest = text.partition(":")
        end, _, shape = rest.partition(":")
        shape = shape or "linear"
        try:
            if shape not in ("linear", "exponential") or not colon:
                raise ValueError
            rates = float(start), float(end)
            if not all(0 < rate < math.inf for rate in rates):
                raise ValueError
        except ValueError:
            raise BadInput(
                f"--ramp: {text!r} is not a ramp; write START:END in requests per second above 0,"
                " such as 1:10, or with a shape, 1:10:linear or 1:10:exponential"
            ) from None
        return cls(*rates, shape)  # type: ignore[arg-type]

    def seconds(self, requests: float) -> float:
        """Seconds that a run of this many requests lasts: the number divided by the mean rate
        (arithmetic for a linear ramp, logarithmic for an exponential one)."""
        if self.start == self.end:
            return requests / self.start
        if self.shape == "linear":
            return 2 * requests / (self.start + self.end)
        return requests * math.log(self.end / self.start) / (self.end - self.start)

    def clock(self, operational: Sequence[float]) -> list[float]:
        """Map operational times to seconds after the start: when that many requests have come due.

        operational: from 0, ascending; the last one is the end of the run
        """
        if not operational or not operational[-1]:
            return [0.0] * len(operational)
        if self.start == self.end:
            return [done / self.start for done in operational]
        invert = self._linear if self.shape == "linear" else self._exponential
        return [invert(done, operational[-1]) for done in operational]

    def _linear(self, done: float, total: float) -> float:
        """Solve start t + (end - start) t² / 2T = done for t, in the form without cancellation."""
        growth = (self.end - self.start) / self.seconds(total)
        # At the end of a steep descent, rounding might leave slightly less than 0.
        return 2 * done / (self.start + math.sqrt(max(0.0, self.start**2 + 2 * growth * done)))

    def _exponential(self, done: float, total: float) -> float:
        """Solve start T ((end / start)^(t / T) - 1) / ln(end / start) = done for t."""
        ratio = self.end / self.start
        return self.seconds(total) * math.log1p((ratio - 1) * done / total) / math.log(ratio)


def arrival_timings(
    count: int, rate: float | Ramp, *, burstiness: float = 1.0, seed: int
) -> list[Timing]:
    """When each of `count` requests is due, in order, the first at 0.

    rate: requests per second, or how the rate changes over the run
    burstiness: the shape of the gamma distribution of the gaps, whose coefficient of variation is
        1 / sqrt(burstiness): 1 is Poisson, less is burstier, infinity is evenly spaced. As
        vllm 0.33 (benchmarks/serve.py, --burstiness) defines it; sglang 0.5.23
        (benchmark/serving.py) has only Poisson.
    seed: the same seed gives the same times

    The gaps are scaled so that their mean is exactly 1 / rate. Unscaled, a few hundred of them
    would miss the requested rate by several percent, differently with each seed. vllm scales too,
    but has a gap before the first request. For burstiness 1 this is still a Poisson process,
    conditioned on the number of arrivals in the run.

    Raises BadInput for a rate or burstiness that isn't above 0.
    """
    ramp = rate if isinstance(rate, Ramp) else Ramp.constant(rate)
    if not burstiness > 0:
        raise BadInput(
            f"--burstiness: {burstiness} is not allowed; it must be a number above 0:"
            " 1 for Poisson, less for bursts, inf for evenly spaced"
        )
    # In operational time: from 0 to count - 1, with a mean gap of 1.
    if burstiness == math.inf:
        arrivals = [float(index) for index in range(count)]
    else:
        # Its own generator, so that arrivals don't depend on the prompts, which have the same seed.
        random = Random(f"arrivals {seed}")
        # A tiny shape underflows to gaps of 0, which can't be scaled to anything.
        drawn = (random.gammavariate(burstiness, 1.0) for _ in range(count - 1))
        gaps = (max(gap, sys.float_info.min) for gap in drawn)
        sums = [0.0, *accumulate(gaps)][:count]
        arrivals = [(count - 1) * (at / sums[-1]) if at else 0.0 for at in sums]
    return [Timing(at=at) for at in ramp.clock(arrivals)]


def conversation_timings(
    prompts: Sequence[Prompt], *, starts: Sequence[Timing] = (), pause: float = 0.0
) -> list[Timing]:
    """When each prompt is due, by index: a first turn at its conversation's start, a later one
    after the turn before.

    prompts: in any order; the turns of a conversation are put in the order of their numbers
    starts: when the conversations begin, in the order in which they first appear in `prompts`
        (`arrival_timings` of as many as there are conversations); empty: all at 0
    pause: seconds from an answer's end to the next question, for which the user thinks
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


def steps(concurrency: int | None, ramp_seconds: float = 0.0) -> tuple[SlotStep, ...]:
    """The limits on requests in flight in a closed loop: all `concurrency` slots at once, or opened
    one after another.

    ramp_seconds: when the last slot opens; the first opens at 0, the others evenly between, so
        that a server doesn't get all its prompts to prefill in one batch
    concurrency None: no limit, no steps

    Raises BadInput for a ramp that isn't a number of seconds, or that has no slots to open.
    """
    if not 0 <= ramp_seconds < math.inf:
        raise BadInput(
            f"--ramp-slots: {ramp_seconds} is not allowed; it must be a number of"
            " seconds, 0 or more"
        )
    if concurrency is None:
        if ramp_seconds:
            raise BadInput(
                f"--ramp-slots: {ramp_seconds:g} s have no slots to open without a limit on"
                " requests in flight; give --concurrency as well"
            )
        return ()
    if not ramp_seconds or concurrency == 1:
        return (SlotStep(0.0, concurrency),)
    pace = ramp_seconds / (concurrency - 1)
    return tuple(SlotStep(pace * opened, opened + 1) for opened in range(concurrency))
