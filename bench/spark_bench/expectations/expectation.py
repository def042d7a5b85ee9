"""What a judgement is."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

About = Literal["roofline", "published"]
Verdict = Literal["healthy", "slow", "far below", "impossible", "bound", "beside", "unknown"]


class Expectation(Struct, frozen=True, kw_only=True):
    """A result beside what it could be, or beside what others have measured.

    about: the decode roofline, or a published figure
    verdict: "healthy", "slow", "far below" and "impossible" judge it; "bound": only a bound is
        known; "beside": set side by side without a verdict; "unknown": nothing is known, and
        `text` says why
    text: all of it as one sentence
    metric: what is measured: "decode" (tokens a second of one stream), or a key of the summary
    measured, expected: in the metric's unit
    setting: what `expected` is of
    source: where it comes from
    """

    about: About
    verdict: Verdict
    text: str
    metric: str = ""
    measured: float | None = None
    expected: float | None = None
    setting: str = ""
    source: str = ""

    @property
    def share(self) -> float | None:
        """Measured, as a share of what was expected."""
        if self.measured is None or not self.expected:
            return None
        return self.measured / self.expected
