"""A request rate that changes over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spark_bench.errors import BadInput


@dataclass(frozen=True, slots=True)
class Ramp:
    """The rate at the start and at the end of the run, in requests per second.

    shape: "linear", the rate grows by as much each second; "exponential", by the same factor.
        Either is over time. (vllm 0.33 ramps over the request's number, so most of its run is
        spent at the low rates.)

    Raises BadInput for a rate that isn't a finite number above 0.
    """

    start: float
    end: float
    shape: Literal["linear", "exponential"] = "linear"

    def __post_init__(self) -> None:
        for rate in (self.start, self.end):
            if not 0 < rate < math.inf:
                raise BadInput(
                    f"request rate {rate} is not allowed; it must be a number of requests"
                    " per second"
                    " above 0: leave the option out for as fast as possible"
                )

    @classmethod
    def constant(cls, rate: float) -> Ramp:
        """No ramp: one rate for the whole run."""
        return cls(rate, rate)

    @classmethod
    def parse(cls, text: str) -> Ramp:
        """As an option has it: START:END or START:END:SHAPE.

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
        """How long the run lasts in which so many requests come due."""
        if self.start == self.end:
            return requests / self.start
        if self.shape == "linear":
            return 2 * requests / (self.start + self.end)
        return requests * math.log(self.end / self.start) / (self.end - self.start)

    def clock(self, operational: Sequence[float]) -> list[float]:
        """Seconds after the start at which so many requests have come due, for each.

        operational: from 0, ascending; the last one is the end of the run
        """
        if not operational or not operational[-1]:
            return [0.0] * len(operational)
        if self.start == self.end:
            return [done / self.start for done in operational]
        invert = self._linear if self.shape == "linear" else self._exponential
        return [invert(done, operational[-1]) for done in operational]

    def _linear(self, done: float, total: float) -> float:
        """Solves start t + (end - start) t² / 2T = done, in the form that doesn't cancel."""
        growth = (self.end - self.start) / self.seconds(total)
        # At the end of a steep descent, rounding might leave a trace below 0.
        return 2 * done / (self.start + math.sqrt(max(0.0, self.start**2 + 2 * growth * done)))

    def _exponential(self, done: float, total: float) -> float:
        """Solves start T ((end / start)^(t / T) - 1) / ln(end / start) = done."""
        ratio = self.end / self.start
        return self.seconds(total) * math.log1p((ratio - 1) * done / total) / math.log(ratio)
