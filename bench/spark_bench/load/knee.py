"""Where more load stops paying: the knee of throughput against latency."""

import math
from collections.abc import Sequence

import msgspec

# Power within this of the best is as good as the best: three or so per cent of noise in
# throughput and in latency make about four in their ratio.
_NOISE = 0.05
# Power down to this share of the best is past the knee. Far enough from 1 for noise not to get
# there, near enough for the next doubling to: on a server that is full, each halves the power.
_PAST = 0.8


class MeasuredPoint(msgspec.Struct, frozen=True):
    """What one run at one load gave.

    value: the load, requests in flight or requests per second
    output_throughput: output tokens a second
    request_throughput: requests completed a second
    ttft_ms, e2e_ms: mean time to the first token, and to the last; NaN if none came
    goodput: requests per second that met every objective; None if there are none
    failed: share of the requests that failed, 0 to 1
    """

    value: float
    output_throughput: float
    request_throughput: float
    ttft_ms: float
    e2e_ms: float
    goodput: float | None = None
    failed: float = 0.0

    @property
    def attainment(self) -> float | None:
        """Share of all requests, failed ones among them, that met every objective."""
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


def past_knee(measured: Sequence[MeasuredPoint]) -> bool:
    """The highest load measured is beyond the knee, and clearly so."""
    best = max(map(power, measured), default=0.0)
    highest = max(measured, key=lambda each: each.value, default=None)
    return highest is not None and best > 0 and power(highest) < _PAST * best


def from_below(measured: Sequence[MeasuredPoint]) -> bool:
    """The lowest load measured is clearly below the knee."""
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
    that scales the curve to the range that was measured: its knee moves when a sweep goes on,
    while power compares two loads whatever the others are, and so can end a sweep.

    At the knee power is flat, so noise moves its highest point easily. Hence we take all loads
    whose power is within the noise of the best, and of them the one in the middle: on a scale of
    ratios, on which the curve of power is symmetric in both of the cases above.
    """
    if not past_knee(measured):
        return None
    best = max(map(power, measured))
    ordered = sorted(measured, key=lambda each: each.value)
    top = [each for each in ordered if power(each) >= (1 - _NOISE) * best]
    middle = math.sqrt(top[0].value * top[-1].value)
    # Rounded, for of two as near we want the lower.
    return min(top, key=lambda each: round(abs(math.log(each.value / middle)), 9))
