"""The kinds of arrays that times and figures are in."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def without_nan(values: Floats) -> Floats:
    """The values that are not NaN."""
    return values[~np.isnan(values)]
