"""The history as tables: for the terminal, and as CSV or JSON."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec
from rich import box
from rich.table import Table

from spark_bench.formats import digits
from spark_bench.history.database import short_id
from spark_bench.history.entry import COLUMNS, HistoryEntry
from spark_bench.printable import cell, printable

# The figures in the table.
FIGURES = ("output_throughput", "median_ttft_ms", "median_itl_ms")


def history_table(entries: Iterable[HistoryEntry]) -> Table:
    """Two lines per result, in the order given; times are local."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = "TTFT and ITL are medians in milliseconds.", "left"
    table.add_column("when\nid", no_wrap=True)
    table.add_column("model\nfile", overflow="fold", ratio=1)
    table.add_column("profile\nload", overflow="fold")
    for name in ("tok/s", "TTFT", "ITL"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for entry in entries:
        figures = [entry.figures.get(name) for name in FIGURES]
        table.add_row(
            f"{entry.when.astimezone():%Y-%m-%d %H:%M}\n{printable(short_id(entry.id))}",
            f"{printable(short_model(entry.model))}\n{printable(short_path(Path(entry.path)))}",
            f"{printable(entry.profile)}\n{printable(entry.load)}",
            *(digits(figure.value if figure else None) for figure in figures),
            entry.verdict if entry.status == "complete" else f"{entry.verdict}\n{entry.status}",
        )
    return table


def short_model(model: str) -> str:
    """A model's name without its owner.

    >>> short_model("openai/gpt-oss-120b")
    'gpt-oss-120b'
    """
    return model.rstrip("/").rpartition("/")[2]


def short_path(path: Path) -> str:
    """A path relative to the current or home folder, if inside; marked if it is gone."""
    gone = "" if path.exists() else " (gone)"
    for base, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{name}{path.relative_to(base)}{gone}"
    return f"{path}{gone}"


def as_json(entries: Sequence[HistoryEntry]) -> bytes:
    """A JSON list of objects with the same keys; missing figures are null."""
    names = export_columns(entries)
    rows = [{name: row.get(name) for name in names} for row in (e.plain() for e in entries)]
    return msgspec.json.format(msgspec.json.encode(rows))


def write_csv(entries: Sequence[HistoryEntry], file: TextIO) -> None:
    """CSV with a header; missing figures are empty, and no text is a formula."""
    names = export_columns(entries)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(cell, names))
    for row in (entry.plain() for entry in entries):
        writer.writerow(cell(row.get(name, "")) for name in names)


def export_columns(entries: Sequence[HistoryEntry]) -> list[str]:
    """The columns of every result, then all figures that any of them has, sorted."""
    return [*COLUMNS, *sorted({name for entry in entries for name in entry.figures} - {*COLUMNS})]
