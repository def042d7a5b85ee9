"""The store as one table, for other programs: a row a result, a column a figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TextIO

import msgspec

from spark_bench.history.entry import COLUMNS, Entry
from spark_bench.printable import cell


def as_json(entries: Sequence[Entry]) -> bytes:
    """A list of objects; all have the same keys, a figure that one lacks is null."""
    names = columns(entries)
    rows = [{name: row.get(name) for name in names} for row in (e.plain() for e in entries)]
    return msgspec.json.format(msgspec.json.encode(rows))


def write_csv(entries: Sequence[Entry], file: TextIO) -> None:
    """With a header; a figure that one lacks is empty, and no text is a formula."""
    names = columns(entries)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(cell, names))
    for row in (entry.plain() for entry in entries):
        writer.writerow(cell(row.get(name, "")) for name in names)


def columns(entries: Sequence[Entry]) -> list[str]:
    """What is known of every result, then the figures that any has, in the alphabet's order."""
    return [*COLUMNS, *sorted({name for entry in entries for name in entry.figures} - {*COLUMNS})]
