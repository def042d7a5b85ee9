"""The matrix: a row a figure, a column a run, and the differences to the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spark_bench.compare import stats
from spark_bench.compare.metric_names import better
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.stats import Floats

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05  # over all differences of a table together


@dataclass(frozen=True)
class Matrix:
    """All arrays are (figures, runs); NaN where there is nothing to say.

    values: the geometric mean over the repeats, trimmed; the plain one of figures that can be 0
    n: repeats that have the figure
    percent, low, high: the difference to the first run, and its 95 % interval
    p, holm: two-sided, for each alone and adjusted for all
    error, freedom: of the logarithms' differences, for `detectable`
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
        """In per cent, by run: the smallest difference found in 95 % of such comparisons, at 5 %
        two-sided, looked at alone."""
        apart = stats.Contrast(self.error[figure], self.error[figure], self.freedom[figure])
        return np.asarray(100 * np.expm1(apart.detectable(ALPHA / 2)), np.float64)

    def verdict(self, figure: int, run: int) -> str:
        """ "better", "worse", "differs" (neither way is better), "unclear" (may be chance),
        "1 repeat" (no spread to judge by), or "" for the first run and for missing figures."""
        percent = self.percent[figure, run]
        if run == 0 or np.isnan(percent):
            return ""
        if np.isnan(self.p[figure, run]):
            return "1 repeat"
        if self.holm[figure, run] >= ALPHA or percent == 0:
            return "unclear"
        good = better(self.names[figure])
        return ("better" if (percent > 0) == (good == "higher") else "worse") if good else "differs"


def build_matrix(runs: Sequence[ComparedRun], names: Sequence[str]) -> Matrix:
    """Of these figures, those that any run has."""
    samples = {name: [run.values(name) for run in runs] for name in names}
    present = tuple(name for name, columns in samples.items() if any(columns))
    rows = [_row(samples[name]) for name in present]
    columns = np.array(rows, np.float64).reshape(len(rows), 8, len(runs)).swapaxes(0, 1)
    values, n, percent, low, high, p, error, freedom = columns
    adjusted = stats.holm(p)
    return Matrix(present, tuple(runs), values, n, percent, low, high, p, adjusted, error, freedom)


def _row(columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """(values, n, percent, low, high, p, error, freedom) of one figure."""
    if any(value <= 0 for column in columns for value in column):
        return _plain(columns)
    found = stats.locations([np.log(column).tolist() for column in columns])
    apart = stats.contrast(_first(found), found)
    low, high = apart.interval()
    with np.errstate(over="ignore"):
        ratios = [100 * np.expm1(each) for each in (apart.difference, low, high)]
    spread = (apart.error, apart.freedom)
    return _without_first(np.exp(found.centre), found.n, *ratios, apart.p(), *spread)


def _plain(columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Of a figure that can be 0, such as a count: per cent of the first run's, without intervals
    where that is 0."""
    found = stats.locations(columns, finest=0.0)
    base = found.centre[0]
    scale = 100 / base if base > 0 else np.nan
    apart = stats.contrast(_first(found), found)
    same = found.centre == base
    low, high = apart.interval()
    ratios = [np.where(same, 0.0, each * scale) for each in (apart.difference, low, high)]
    with np.errstate(invalid="ignore"):
        p = np.where(apart.error > 0, apart.p(), np.where(same, 1.0, np.nan))
    unknown = np.full_like(p, np.nan)
    return _without_first(found.centre, found.n, *ratios, p, unknown, unknown)


def _first(found: stats.Location) -> stats.Location:
    return stats.Location(found.centre[:1], found.error2[:1], found.freedom[:1], found.n[:1])


def _without_first(values: Floats, n: Floats, *others: Floats) -> NDArray[np.float64]:
    stacked = np.stack([values, n, *others])
    stacked[2:, 0] = np.nan
    return stacked


def matrix_frame(found: Matrix) -> pd.DataFrame:
    """A row a figure: first the runs' values, then each run's difference to the first."""
    import pandas as pd

    letters = [run.letter for run in found.runs]
    columns: dict[str, object] = {
        "better": [better(name) for name in found.names],
        **{letter: found.values[:, index] for index, letter in enumerate(letters)},
        f"{letters[0]} repeats": found.n[:, 0].astype(int),
    }
    for index, letter in list(enumerate(letters))[1:]:
        columns |= {
            f"{letter} repeats": found.n[:, index].astype(int),
            f"{letter} %": found.percent[:, index],
            f"{letter} low %": found.low[:, index],
            f"{letter} high %": found.high[:, index],
            f"{letter} p": found.p[:, index],
            f"{letter} p (Holm)": found.holm[:, index],
            f"{letter} verdict": [found.verdict(row, index) for row in range(len(found.names))],
        }
    return pd.DataFrame(columns, index=pd.Index(found.names, name="figure"))
