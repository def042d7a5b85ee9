"""Exactly two arguments are two groups of runs: the first is the baseline of the second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from spark_bench.compare.matrix import Matrix
from spark_bench.compare.story import METHOD, compare
from spark_bench.errors import BadInput, BenchError
from spark_bench.formats import with_sign
from spark_bench.report.table import NONE, Cell, Column, Table, Tone, numbers

_TONES: dict[str, Tone] = {"better": "good", "worse": "bad"}


class Baseline(Struct, frozen=True):
    """table: None where the groups can't be compared; notes then has why."""

    table: Table | None
    notes: tuple[str, ...]


def beside_baseline(words: Sequence[str]) -> Baseline | None:
    """The second group beside the first; None unless there are two."""
    if len(words) != 2:
        return None
    try:
        found = compare(words)
    except (BadInput, BenchError) as error:
        return Baseline(None, (error.message,))
    return Baseline(_table(found.matrix, words), (*found.notes, METHOD))


def _table(found: Matrix, words: Sequence[str]) -> Table:
    columns = (
        Column("Figure", numeric=False),
        Column(f"A: {words[0]}", f"{found.runs[0].repeats} repeats"),
        Column(f"B: {words[1]}", f"{found.runs[1].repeats} repeats"),
        Column("Change"),
        Column("95 %"),
        Column("Verdict", numeric=False),
    )
    return Table(
        f"{words[1]} beside {words[0]}",
        columns,
        tuple(_row(found, index, name) for index, name in enumerate(found.names)),
    )


def _row(found: Matrix, index: int, name: str) -> tuple[Cell, ...]:
    verdict = found.verdict(index, 1)
    percent, low, high = (values[index, 1] for values in (found.percent, found.low, found.high))
    values = [None if np.isnan(value) else float(value) for value in found.values[index]]
    change = NONE if np.isnan(percent) else Cell(f"{with_sign(percent)} %", float(percent))
    interval = NONE if np.isnan(low) else Cell(f"{with_sign(low)} to {with_sign(high)}")
    return (
        Cell(name),
        *numbers(values),
        change,
        interval,
        Cell(verdict, tone=_TONES.get(verdict, "")),
    )
