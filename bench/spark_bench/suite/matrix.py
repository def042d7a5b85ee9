"""Models against variants, as a pandas table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spark_bench.display.figures import digits
from spark_bench.printable import printable
from spark_bench.suite.rows import COLUMNS, Row

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Every row, under the columns of results.csv."""
    import pandas as pd

    return pd.DataFrame([{name: getattr(row, name) for name in COLUMNS} for row in rows])


def throughput(rows: Sequence[Row]) -> str:
    """Output tokens/s: a line a variant, a column a model, "-" where there is none."""
    found = frame(rows).pivot(index="variant", columns="model_short", values="output_throughput")
    variants = list(dict.fromkeys(row.variant for row in rows))
    models = list(dict.fromkeys(row.model_short for row in rows))
    found = found.reindex(index=variants, columns=models).astype(float)
    shown = found.map(digits)
    shown.index.name = shown.columns.name = None
    return printable(str(shown.to_string()), lines=True)
