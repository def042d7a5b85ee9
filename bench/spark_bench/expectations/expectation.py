"""The type of a judgment."""

from typing import Literal

from msgspec import Struct

About = Literal["roofline", "published"]
Verdict = Literal["healthy", "slow", "far below", "impossible", "bound", "beside", "unknown"]


class Expectation(Struct, frozen=True, kw_only=True):
    """A result next to what it could be, or to what others have measured.

    about: the decode roofline, or a published figure
    verdict: "healthy", "slow", "far below" and "impossible" judge it; "bound": only a bound is
        known; "beside": compared without a verdict; "unknown": `text` says why
    text: all of it in one sentence
    metric: "decode" (tokens per second of one stream), or a key of the summary
    measured, expected: in the metric's unit
    setting: what `expected` was measured or computed for
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
        """measured / expected; None if either is unknown."""
        if self.measured is None or not self.expected:
            return None
        return self.measured / self.expected
