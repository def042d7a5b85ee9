"""Tables as plain data, for the template and next to charts."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal

from msgspec import Struct

Tone = Literal["", "good", "warn", "bad", "quiet"]


class Cell(Struct, frozen=True):
    """text: what is shown; value: what rows are sorted by; detail: a smaller second line."""

    text: str
    value: float | None = None
    detail: str = ""
    href: str = ""
    tone: Tone = ""


class Column(Struct, frozen=True):
    """head: its name; unit: shown below it; numeric: right-aligned."""

    head: str
    unit: str = ""
    numeric: bool = True


class Table(Struct, frozen=True):
    """Rows of as many cells as there are columns; the first cell names its row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()


NONE = Cell("-", None, tone="quiet")


def number_cells(values: Sequence[float | None]) -> list[Cell]:
    """A column of figures with the same number of decimals, so that they align."""
    places = decimals([value for value in values if value is not None])
    return [NONE if value is None else Cell(f"{value:,.{places}f}", value) for value in values]


def decimals(values: Iterable[float]) -> int:
    """Decimals that give the median three digits; at most 2, and none for counts.

    >>> decimals([812.0, 90.5, 1203.0]), decimals([12.0, 33.3]), decimals([0.02, 4.5])
    (0, 1, 2)
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if all(isinstance(value, int) for value in sizes):
        return 0
    return min(2, max(0, 2 - math.floor(math.log10(median(sizes)))))
