"""The list of results, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.table import Table

from spark_bench.formats import digits
from spark_bench.history.entry import Entry
from spark_bench.history.ids import tail
from spark_bench.printable import printable

# The figures that it needs.
FIGURES = ("output_throughput", "median_ttft_ms", "median_itl_ms")


def table(entries: Iterable[Entry]) -> Table:
    """Two lines a result, in the order given; times are local."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    made.caption, made.caption_justify = "TTFT and ITL are medians, in milliseconds.", "left"
    made.add_column("when\nid", no_wrap=True)
    made.add_column("model\nfile", overflow="fold", ratio=1)
    made.add_column("profile\nload", overflow="fold")
    for name in ("tok/s", "TTFT", "ITL"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("verdict", overflow="fold")
    for entry in entries:
        made.add_row(*_cells(entry))
    return made


def _cells(entry: Entry) -> list[str]:
    figures = [entry.figures.get(name) for name in FIGURES]
    return [
        f"{entry.when.astimezone():%Y-%m-%d %H:%M}\n{printable(tail(entry.id))}",
        f"{printable(short(entry.model))}\n{printable(place(Path(entry.path)))}",
        f"{printable(entry.profile)}\n{printable(entry.load)}",
        *(digits(figure.value if figure else None) for figure in figures),
        entry.verdict if entry.status == "complete" else f"{entry.verdict}\n{entry.status}",
    ]


def short(model: str) -> str:
    """Without its owner.

    >>> short("openai/gpt-oss-120b")
    'gpt-oss-120b'
    """
    return model.rstrip("/").rpartition("/")[2]


def place(path: Path) -> str:
    """From the current folder or the home, where it is in one of them; marked if it is gone."""
    gone = "" if path.exists() else " (gone)"
    for base, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{name}{path.relative_to(base)}{gone}"
    return f"{path}{gone}"
