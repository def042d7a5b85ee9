"""The matrix: a row per figure, a column per run, and differences from the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spark_bench.arrays import Floats
from spark_bench.compare import metric_names, stats
from spark_bench.compare.runs import ComparedRun

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05  # over all differences of a table together


@dataclass(frozen=True)
class Matrix:
    """All arrays have the shape (figures, runs); NaN where unknown.

    values: geometric mean over repeats, trimmed from 10 on; the arithmetic one for figures that
        can be 0
    n: repeats that have the figure
    percent, low, high: difference from the first run and its 95% interval
    p, holm: two-sided p-values, single and Holm-adjusted over the table
    error, freedom: of the differences between logarithms, for `detectable`
    """

    names: tuple[str, ...]
    runs: tuple[ComparedRun, ...]
    values: Floats
    n: Floats
    percent: Floats
    low: Floats
    high: Floats
    p: Floats
    holm: Floats
    error: Floats
    freedom: Floats

    def detectable(self, figure: int) -> Floats:
        """By run, the smallest difference in percent that 95% of such comparisons would find, at 5%
        two-sided, without adjustment."""
        apart = stats.Contrast(self.error[figure], self.error[figure], self.freedom[figure])
        return np.asarray(100 * np.expm1(apart.detectable(ALPHA / 2)), np.float64)

    def verdict(self, figure: int, run: int) -> str:
        """ "better", "worse", "differs" (no direction is better), "unclear" (may be chance),
        "1 repeat" (no spread to judge by), or "" for the first run and missing figures."""
        percent = self.percent[figure, run]
        if run == 0 or np.isnan(percent):
            return ""
        if np.isnan(self.p[figure, run]):
            return "1 repeat"
        if self.holm[figure, run] >= ALPHA or percent == 0:
            return "unclear"
        good = metric_names.better(self.names[figure])
        return ("better" if (percent > 0) == (good == "higher") else "worse") if good else "differs"


def build_matrix(runs: Sequence[ComparedRun], names: Sequence[str]) -> Matrix:
    """The matrix of these figures, without those that no run has."""
    samples = {name: [run.values(name) for run in runs] for name in names}
    present = tuple(name for name, columns in samples.items() if any(columns))
    rows = [_row(samples[name], [run.ends(name) for run in runs]) for name in present]
    columns = np.array(rows, np.float64).reshape(len(rows), 8, len(runs)).swapaxes(0, 1)
    values, n, percent, low, high, p, error, freedom = columns
    adjusted = stats.holm(p)
    return Matrix(present, tuple(runs), values, n, percent, low, high, p, adjusted, error, freedom)


def _row(
    columns: Sequence[Sequence[float]], ends: Sequence[tuple[Sequence[float], Sequence[float]]]
) -> Floats:
    """(values, n, percent, low, high, p, error, freedom) of one figure.

    ends: by run, the lowest and the highest value of each repeat
    """
    positive = all(value > 0 for column in columns for value in column)
    if positive:
        locations = stats.locations([np.log(column).tolist() for column in columns])
    else:
        locations = stats.locations(columns, finest=0.0)
    less, more = stats.slack(locations, ends, logarithms=positive)
    apart = stats.contrast(locations.of_first(), locations)
    low, high = apart.interval()
    less, more = less + more[:1], more + less[:1]
    changes = (apart.difference, low - less, high + more)
    # What the bounds leave open can't be a difference.
    apart = apart.nearer_zero(less, more)
    if positive:
        with np.errstate(over="ignore"):
            ratios = [100 * np.expm1(each) for each in changes]
        values, spread, p = np.exp(locations.centre), (apart.error, apart.freedom), apart.p()
    else:
        # A figure that can be 0, such as a count, is in percent of the first run's value, without
        # intervals where that is 0.
        values, base = locations.centre, locations.centre[0]
        same, scale = values == base, 100 / base if base > 0 else np.nan
        ratios = [np.where(same, 0.0, each * scale) for each in changes]
        with np.errstate(invalid="ignore"):
            p = np.where(apart.error > 0, apart.p(), np.where(same, 1.0, np.nan))
        spread = (np.full_like(p, np.nan), np.full_like(p, np.nan))
    row = np.stack([values, locations.n, *ratios, p, *spread])
    row[2:, 0] = np.nan  # the first run is not compared with itself
    return row


def matrix_frame(matrix: Matrix) -> pd.DataFrame:
    """A row per figure: the runs' values, then each run's difference from the first."""
    import pandas as pd

    letters = [run.letter for run in matrix.runs]
    columns: dict[str, object] = {
        "better": [metric_names.better(name) for name in matrix.names],
        **{letter: matrix.values[:, index] for index, letter in enumerate(letters)},
        f"{letters[0]} repeats": matrix.n[:, 0].astype(int),
    }
    for index, letter in list(enumerate(letters))[1:]:
        columns |= {
            f"{letter} repeats": matrix.n[:, index].astype(int),
            f"{letter} %": matrix.percent[:, index],
            f"{letter} low %": matrix.low[:, index],
            f"{letter} high %": matrix.high[:, index],
            f"{letter} p": matrix.p[:, index],
            f"{letter} p (Holm)": matrix.holm[:, index],
            f"{letter} verdict": [matrix.verdict(row, index) for row in range(len(matrix.names))],
        }
    return pd.DataFrame(columns, index=pd.Index(matrix.names, name="figure"))
