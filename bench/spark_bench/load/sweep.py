"""Which loads a sweep measures, one after another, until more load is of no use; and where that
begins: the knee of throughput against latency."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from spark_bench.errors import BadInput

if TYPE_CHECKING:
    from spark_bench.metrics.bounds import Bound

# Power within this share of the best counts as equal to it: noise of about 3 % in both throughput
# and latency makes about 4 % in their ratio.
_NOISE = 0.05
# Power below this share of the best is past the knee: far enough from 1 that noise doesn't get
# there, near enough that the next doubling does (on a full server, each halves the power).
_PAST = 0.8
_MOST_POINTS = 1000
# A search starts at 1 and doubles; one for the rate also halves, to about a request a minute.
_LEAST = {"concurrency": 1.0, "rate": 1 / 64}
_MOST = {"concurrency": 1024.0, "rate": 1024.0}
# A search ends when it knows the knee to about a factor of the square root of 2.
_CLOSE = 1.5
_FORMS = 'write 1..64 (doubling), 1..10:1 (in steps), 1,2,4,8, or "auto"'
_RANGE = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+)(:(?P<step>.+))?")


class MeasuredPoint(msgspec.Struct, frozen=True):
    """The figures of one run at one load.

    value: the load, in requests in flight or requests per second
    output_throughput: output tokens a second
    request_throughput: requests completed a second
    ttft_ms, e2e_ms: mean time to the first token, and to the last; NaN if none came
    goodput: requests per second that met every objective; None if there are none
    failed: share of the requests that failed, 0 to 1
    between: the lowest and the highest power that it can have, by the bounds of its figures; None:
        unknown
    """

    value: float
    output_throughput: float
    request_throughput: float
    ttft_ms: float
    e2e_ms: float
    goodput: float | None = None
    failed: float = 0.0
    between: tuple[float, float] | None = None

    @property
    def attainment(self) -> float | None:
        """Share of all requests, including failed ones, that met every objective."""
        if self.goodput is None:
            return None
        if not self.request_throughput:
            return 0.0
        return (1 - self.failed) * self.goodput / self.request_throughput


def power(measured: MeasuredPoint) -> float:
    """Output tokens a second per second of latency; 0 if nothing was completed."""
    if not measured.e2e_ms > 0 or not math.isfinite(measured.output_throughput):
        return 0.0
    return measured.output_throughput / (measured.e2e_ms / 1000)


def power_between(bounds: Mapping[str, Bound]) -> tuple[float, float] | None:
    """The lowest and the highest power of a run, by the bounds of its figures; None if unknown."""
    output, e2e = bounds.get("output_throughput"), bounds.get("mean_e2e_latency_ms")
    if not output or not e2e or not e2e.low > 0:
        return None
    return output.low / e2e.high * 1000, output.high / e2e.low * 1000


def past_knee(measured: Sequence[MeasuredPoint]) -> bool:
    """Whether the highest load measured is clearly beyond the knee."""
    best = max(map(power, measured), default=0.0)
    highest = max(measured, key=lambda each: each.value, default=None)
    return highest is not None and best > 0 and power(highest) < _PAST * best


def from_below(measured: Sequence[MeasuredPoint]) -> bool:
    """Whether the lowest load measured is clearly below the knee."""
    best = max(map(power, measured), default=0.0)
    lowest = min(measured, key=lambda each: each.value, default=None)
    return lowest is not None and power(lowest) < _PAST * best


def knee(measured: Sequence[MeasuredPoint]) -> MeasuredPoint | None:
    """The measured load nearest to the knee; None if the measurements don't reach beyond it.

    The knee is where power, throughput over latency, is highest (Kleinrock, "Power and
    deterministic rules of thumb for probabilistic problems in computer communications", ICC 1979).
    Below it, more load gives more throughput than it costs latency; above it, less: there a line
    from the origin touches the curve of latency over throughput. For a server that is full at C
    requests in flight it is C; where the step time grows with the batch, as t (1 + n / k), it is k.

    We prefer it to Kneedle (Satopaa et al., "Finding a 'kneedle' in a haystack", 2011) because
    that scales the curve to the measured range: its knee moves as a sweep goes on, while power
    compares two loads regardless of the others, and so can end a sweep.

    At the knee power is flat, so noise moves its highest point easily. Hence we take all loads
    whose power is within the noise of the best, and choose the one in the middle, on a logarithmic
    scale: there the curve of power is symmetric in both of the cases above.
    """
    if not past_knee(measured):
        return None
    best = max(map(power, measured))
    ordered = sorted(measured, key=lambda each: each.value)
    top = [each for each in ordered if power(each) >= (1 - _NOISE) * best]
    middle = math.sqrt(top[0].value * top[-1].value)
    # Rounded, for of two as near we want the lower.
    return min(top, key=lambda each: round(abs(math.log(each.value / middle)), 9))


def knee_between(measured: Sequence[MeasuredPoint]) -> list[float]:
    """The loads at which the knee may be, ascending, by the bounds of each point's power; none if
    it may be nowhere or the bounds are unknown.

    The knee is lowest where the loads up to some point have their highest power and those above
    their lowest, and highest where it is the other way round.
    """
    ordered = sorted(measured, key=lambda each: each.value)
    knees = []
    for cut in range(len(ordered) + 1):
        for end in (0, 1):
            points = []
            for index, each in enumerate(ordered):
                if each.between is None:
                    return []
                own = each.between[end if index < cut else 1 - end]
                points.append(replace(each, output_throughput=own * each.e2e_ms / 1000))
            knees.append(knee(points))
    return sorted({each.value for each in knees if each}) if all(knees) else []


class Sweep(msgspec.Struct, frozen=True):
    """Which loads to measure.

    over: "concurrency", requests in flight, or "rate", requests per second
    points: the loads, ascending; empty: searched for, around the knee
    most: the highest load of a search
    attainment: below this share of requests that met their objectives a load is too high
    failed: above this share of failed requests a load is too high
    """

    over: Literal["concurrency", "rate"]
    points: tuple[float, ...] = ()
    most: float = 1024.0
    attainment: float | None = None
    failed: float = 0.05

    def next_point(self, measured: Sequence[MeasuredPoint]) -> float | None:
        """The load to measure after those; None if the sweep is done."""
        ordered = sorted(measured, key=lambda each: each.value)
        if self.points:
            left = [point for point in self.points if not ordered or point > ordered[-1].value]
            return left[0] if left and not self._enough(ordered) else None
        if not ordered:
            return min(1.0, self.most)
        lowest = ordered[0].value
        if self._starts_too_high(ordered) and lowest > _LEAST[self.over]:
            return max(lowest / 2, _LEAST[self.over])
        if not self._enough(ordered) and ordered[-1].value < self.most:
            return min(2 * ordered[-1].value, self.most)
        return next(filter(None, map(self._between, self._brackets(ordered))), None)

    def ended_by(self, measured: Sequence[MeasuredPoint]) -> str | None:
        """What makes the highest load measured the last one, in words; None if nothing does."""
        if not measured:
            return None
        last = max(measured, key=lambda each: each.value)
        past = f"the knee is below {last.value:g}" if past_knee(measured) else None
        return self._excess(last) or past

    def _excess(self, run: MeasuredPoint) -> str | None:
        """Which limit the run exceeds, in words; None if none."""
        if run.failed > self.failed:
            return f"{run.failed:.1%} of the requests failed at {run.value:g}"
        attained = run.attainment
        if self.attainment is not None and attained is not None and attained < self.attainment:
            return f"only {attained:.1%} of the requests met the objectives at {run.value:g}"
        return None

    def _enough(self, ordered: Sequence[MeasuredPoint]) -> bool:
        return self.ended_by(ordered) is not None

    def _starts_too_high(self, ordered: Sequence[MeasuredPoint]) -> bool:
        """Whether to search lower: the lowest load exceeds a limit, or more gave no more power.

        Far beyond the knee of a rate, power is flat: requests queue for the whole run at any rate.
        """
        beyond = self._excess(ordered[0]) is not None
        return beyond or (len(ordered) > 1 and not from_below(ordered))

    def _brackets(self, ordered: Sequence[MeasuredPoint]) -> list[tuple[float, float]]:
        """The pairs of loads to look between more closely: around the knee, and at the limit."""
        best = max(ordered, key=power) if past_knee(ordered) else None
        return [
            (low.value, high.value)
            for low, high in pairwise(ordered)
            if best in (low, high) or (self._excess(high) and not self._excess(low))
        ]

    def _between(self, bracket: tuple[float, float]) -> float | None:
        """The geometric mean of two loads, rounded; None if they are close to each other."""
        low, high = bracket
        middle = math.sqrt(low * high)
        middle = round(middle) if self.over == "concurrency" else float(f"{middle:.3g}")
        return middle if high / low > _CLOSE and low < middle < high else None


def parse_sweep(
    text: str,
    *,
    most: float | None = None,
    attainment: float | None = None,
    failed: float = 0.05,
) -> Sweep:
    """Parse an option's value: OVER, OVER=auto, OVER=1..64, OVER=1..10:1 or OVER=1,2,4,8.

    most: the highest load that makes sense, such as the number of prompts for the concurrency
    attainment, failed: as of Sweep

    >>> parse_sweep("concurrency=1..6").points
    (1, 2, 4, 6)

    Raises BadInput for a text that is none of these, and for loads that are not allowed.
    """
    over, _, loads = text.partition("=")
    if over not in ("concurrency", "rate"):
        raise BadInput(
            f"--sweep: {over!r} can't be swept over; write concurrency or rate,"
            " alone or with the loads, such as concurrency=1..64"
        )
    points = () if loads in ("", "auto") else tuple(sorted(set(_points(loads))))
    for point in points:
        if over == "concurrency" and (not float(point).is_integer() or point < 1):
            raise BadInput(
                f"--sweep: concurrency {point:g} is not allowed; it must be a whole number, 1 or"
                " more"
            )
        if not 0 < point < math.inf:
            raise BadInput(f"--sweep: rate {point:g} is not allowed; it must be a number above 0")
        if most is not None and point > most:
            raise BadInput(f"--sweep: {over} {point:g} is not allowed; it must be at most {most:g}")
    limits = {"attainment": attainment, "failed": failed}
    return Sweep(over, points, most=_MOST[over] if most is None else most, **limits)  # type: ignore[arg-type]


def _points(loads: str) -> list[float]:
    matched = _RANGE.fullmatch(loads)
    try:
        if not matched:
            return [_number(load) for load in loads.split(",")]
        low, high = _number(matched["low"]), _number(matched["high"])
        step = _number(matched["step"]) if matched["step"] else None
    except ValueError:
        raise BadInput(f"--sweep: {loads!r} is not a list of loads; {_FORMS}") from None
    if not 0 < low <= high < math.inf or (step is not None and not step > 0):
        raise BadInput(f"--sweep: {loads!r} is empty; go from a load above 0 up; {_FORMS}")
    if step is None:
        doubled = []
        while low < high:
            doubled.append(low)
            low *= 2
        return [*doubled, high]
    # Rounded, since 3 x 0.1 is more than 0.3.
    steps = round((high - low) / step, 9)
    if steps >= _MOST_POINTS:
        raise BadInput(
            f"--sweep: from {low:g} to {high:g} in steps of {step:g} are more than {_MOST_POINTS}"
            " loads; take a larger step"
        )
    return [round(low + index * step, 9) for index in range(math.floor(steps) + 1)]


def _number(text: str) -> float:
    """A number, as an int if it is whole: loads are shown, and a concurrency is a count."""
    number = float(text)
    return int(number) if number.is_integer() else number
