"""Whether two sets of repeats differ, on the logarithms of their figures.

Repeats are the unit: requests of one repeat share its disturbances, so their number proves nothing.

Up to 9 repeats none is trimmed: of five, trimming would leave three. The first repeat is a block of
its own, as in an analysis of variance: it is often slower than the others (caches, clocks, a server
that just started), in both runs, which neither fakes a difference nor hides one. The spread is that
of the other repeats, each run's by itself (Welch), and how unlike the two first repeats are: up to
7 degrees of freedom for 5 and 5. From 10 repeats on it is Yuen's test (1974): Welch's with trimmed
means and winsorized variances, so that repeats that another program disturbed count less.

Pairs (`paired`) are differences between the same repeats of two runs: a t-test on their means, one
a repeat. It holds with few repeats of unequal spread too (Ibragimov and Müller, J. Business and
Economic Statistics 28, 2010), where a bootstrap over clusters needs dozens (Cameron and Miller,
J. Human Resources 50, 2015).

`tests/support/paired_trials.py` simulates what is found and what is wrongly found. Logarithms make
the difference a ratio, the same forwards and backwards. A permutation test would not do: 5 + 5
repeats have 252 arrangements, too few for one false alarm in a hundred over several figures.

scipy's `ttest_ind(trim=0.2, equal_var=False)` gives the same p-values from 10 repeats on (a test
compares them) but can't replace this: it has no blocks, trusts the spread of repeats that are equal
to the last digit, keeps Welch's degrees of freedom for 2 against 50 repeats, and computes neither
the smallest difference that would be found nor how many repeats are enough. scipy has no Holm
adjustment. The distributions (t, noncentral t, chi squared) are scipy's.

Arrays are of any shape; NaN stands for what is unknown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from spark_bench.arrays import Floats

LEVEL = 0.95
TRIM = 0.2  # at each end, as Wilcox and Yuen recommend
FEW = 10  # with fewer repeats, none is trimmed
# Smallest relative spread that is believed: clocks and schedulers vary at least this much.
FINEST = 1e-4


@dataclass(frozen=True)
class Location:
    """Where the repeats of a figure lie, on their own scale.

    error2: squared standard error of `centre`; NaN with fewer than two repeats
    freedom: its degrees of freedom
    n: repeats
    rest2: variance of the repeats after the first; NaN with fewer than three repeats
    start: the first repeat less the mean of the others
    """

    centre: Floats
    error2: Floats
    freedom: Floats
    n: Floats
    rest2: Floats
    start: Floats

    def of_first(self) -> "Location":
        """That of the first sample alone."""
        return Location(*(getattr(self, each.name)[:1] for each in fields(self)))


@dataclass(frozen=True)
class Contrast:
    """Second minus first, with its standard error and Welch's degrees of freedom."""

    difference: Floats
    error: Floats
    freedom: Floats

    def interval(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Both ends of the confidence interval."""
        half = quantile((1 + level) / 2, self.freedom) * self.error
        return self.difference - half, self.difference + half

    def nearer_zero(self, less: Floats, more: Floats) -> "Contrast":
        """The same for the difference nearest to zero among those that are possible.

        less, more: by how much the difference may be smaller and larger
        """
        nearest = np.where(
            self.difference > 0,
            np.maximum(self.difference - less, 0.0),
            np.minimum(self.difference + more, 0.0),
        )
        return Contrast(nearest, self.error, self.freedom)

    def p(self) -> Floats:
        """The two-sided p-value."""
        from scipy.special import stdtr

        with np.errstate(invalid="ignore"):
            p_value = 2.0 * stdtr(self.freedom, -np.abs(self.difference) / self.error)
        return np.asarray(p_value, np.float64)

    def detectable(self, alpha: float, power: float = 0.95) -> Floats:
        """The smallest difference that a one-sided test at `alpha` finds with this power."""
        return self.certain(1 - power, quantile(1 - alpha, self.freedom))

    def certain(self, p: float, bound: Floats) -> Floats:
        """The true difference that shows as less than `bound` standard errors with probability p.

        By the noncentral t distribution, with the error taken as its median.
        """
        from scipy.special import chdtri, nctdtrinc

        typical = np.sqrt(chdtri(self.freedom, 0.5) / self.freedom)
        return np.asarray(nctdtrinc(self.freedom, p, bound) * self.error / typical, np.float64)


def quantile(p: float, freedom: Floats) -> Floats:
    """Student's t quantile."""
    from scipy.special import stdtrit  # scipy.stats takes 0.7 s and 70 MB for it

    return np.asarray(stdtrit(freedom, p), np.float64)


def trimmed_off(n: int) -> int:
    """How many of n values are trimmed at each end."""
    return int(TRIM * n + 1e-9)


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean of all but the lowest and the highest fifth."""
    cut = trimmed_off(len(values))
    return math.fsum(sorted(values)[cut : len(values) - cut]) / (len(values) - 2 * cut)


def locate(values: Sequence[float], finest: float) -> tuple[float, float, float, int, float, float]:
    """Return a `Location`'s fields for repeats in their order; finest: the smallest believed
    spread."""
    n = len(values)
    if n < 2:
        return (values[0] if n else math.nan), math.nan, math.nan, n, math.nan, math.nan
    ordered = sorted(values)
    cut = trimmed_off(n) if n >= FEW else 0
    trimmed = ordered[cut : n - cut]
    centre = math.fsum(trimmed) / len(trimmed)
    winsorized = [trimmed[0]] * cut + trimmed + [trimmed[-1]] * cut
    middle = math.fsum(winsorized) / n
    squares = math.fsum((value - middle) ** 2 for value in winsorized)
    squares = max(squares, finest**2 * (n - 1))
    h = len(trimmed)
    rest2 = start = math.nan
    if n > 2:
        others = math.fsum(values[1:]) / (n - 1)
        start = values[0] - others
        rest2 = math.fsum((value - others) ** 2 for value in values[1:]) / (n - 2)
        rest2 = max(rest2, finest**2)
    return centre, squares / (h * (h - 1)), h - 1, n, rest2, start


def locations(samples: Sequence[Sequence[float]], finest: float = FINEST) -> Location:
    """`locate` for each sample, as arrays."""
    columns = np.array([locate(sample, finest) for sample in samples], np.float64).reshape(-1, 6).T
    return Location(*columns)


def slack(
    located: Location,
    ends: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    logarithms: bool,
) -> tuple[Floats, Floats]:
    """By how much each location may be too high, and too low, on its own scale.

    ends: for each, the lowest and the highest value that each of its repeats can have
    logarithms: the locations are those of logarithms
    """
    least = 1e-9 if logarithms else -math.inf
    scale = np.log if logarithms else np.asarray
    centres = [
        [locate([float(scale(max(value, least))) for value in side], 0.0)[0] for side in pair]
        for pair in ends
    ]
    lows, highs = np.array(centres, np.float64).reshape(-1, 2).T
    return np.maximum(located.centre - lows, 0.0), np.maximum(highs - located.centre, 0.0)


def contrast(first: Location, second: Location) -> Contrast:
    """Second minus first; NaN where either has fewer than two repeats.

    Degrees of freedom are Welch's. If one side has more than twice as many repeats as the other,
    they are the lower of the two sides': a few repeats that happen to be alike would be trusted too
    much (2 against 50 identical repeats: 8 false alarms in a hundred at 1%).
    """
    total = first.error2 + second.error2
    fewer, more = np.minimum(first.n, second.n), np.maximum(first.n, second.n)
    blocked = (fewer > 2) & (more < FEW) & (more <= 2 * fewer)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = first.error2**2 / first.freedom + second.error2**2 / second.freedom
        careful = np.minimum(first.freedom, second.freedom)
        freedom = np.where(more > 2 * fewer, careful, total**2 / parts)
        plain = Contrast(second.centre - first.centre, np.sqrt(total), freedom)
        apart = _first_apart(first, second)
    return Contrast(
        np.where(blocked, apart.difference, plain.difference),
        np.where(blocked, apart.error, plain.error),
        np.where(blocked, apart.freedom, plain.freedom),
    )


def _first_apart(first: Location, second: Location) -> Contrast:
    """The contrast with the first repeats as a block: least squares for a run's mean and what is
    common to first repeats, with variances as Welch's."""
    (n, m), (f, g) = (first.n, second.n), (first.n - 2, second.n - 2)
    weights = (n - 1) / n, (m - 1) / m  # of `start`: one over its variance
    both = weights[0] + weights[1]
    common = (weights[0] * first.start + weights[1] * second.start) / both
    unlike = (second.start - first.start) ** 2 / (1 / weights[0] + 1 / weights[1])
    share = 1 / n - 1 / m  # of the common part that the means do not have alike
    pooled = (f * first.rest2 + g * second.rest2 + unlike) / (f + g + 1)
    sides = first.rest2 / n, second.rest2 / m
    within = sides[0] + sides[1]
    error2 = ((f + g) * within + unlike * (1 / n + 1 / m)) / (f + g + 1) + pooled * share**2 / both
    freedom = within**2 / (sides[0] ** 2 / f + sides[1] ** 2 / g) + 1
    difference = second.centre - first.centre + share * common
    return Contrast(difference, np.sqrt(error2), freedom)


def paired(differences: Sequence[float], finest: float = FINEST) -> Contrast:
    """The mean of differences, one a repeat; NaN errors with fewer than two."""
    n = len(differences)
    mean = math.fsum(differences) / n
    squares = math.fsum((each - mean) ** 2 for each in differences)
    error = math.nan if n < 2 else math.sqrt(max(squares / (n - 1), 2 * finest**2) / n)
    freedom = n - 1 if n > 1 else math.nan
    return Contrast(np.array([mean]), np.array([error]), np.array([freedom], np.float64))


def holm(p: Floats) -> Floats:
    """Holm-adjusted p-values over all of them; NaN stays NaN and doesn't count."""
    adjusted = np.full(p.size, np.nan)
    finite = np.flatnonzero(~np.isnan(p.ravel()))
    order = finite[np.argsort(p.ravel()[finite], kind="stable")]
    scaled = p.ravel()[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.reshape(p.shape)


def enough(contrast: Contrast, n: float, margin: float, alpha: float, miss: float) -> int | None:
    """Repeats per side that would decide `margin` with this spread; None if over a thousand.

    contrast: a single one
    n: its repeats on the side that has fewer
    margin: the difference to decide, on the contrast's scale
    alpha, miss: probabilities of a false alarm and of a missed difference
    """
    per_repeat = float(contrast.error[0]) * math.sqrt(n)
    for wanted in range(max(2, int(n) + 1), 1001):
        trimmed = 2.0 * (wanted - 1 - 2 * trimmed_off(wanted))
        freedom = np.array(2.0 * wanted - 3 if wanted < FEW else trimmed)
        width = float(quantile(1 - alpha, freedom) + quantile(1 - miss, freedom))
        if width * per_repeat / math.sqrt(wanted) <= margin:
            return wanted
    return None
