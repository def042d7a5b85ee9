"""Results in one local store, to list, filter and follow over time.

A result file stays the truth. The store (place.py, schema.py, store.py) is an index over such
files that can be made again from them (files.py). SQLite, because two runs may end at the same
moment: it lets several processes write, and comes with Python. DuckDB lets one process write, and
is made for many more rows than there will ever be runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spark_bench.results.schema import Result


def remember_result(result: Result, path: Path, store: Path | None = None) -> None:
    """Remember the result in the file at `path`; once more replaces what was known of its id.

    store: default_store() where it is None

    A result that went into a pipe or a device can't be read again, and is not remembered.
    BenchError where the store can't be used, in a sentence that is fit for a note.
    """
    from spark_bench.history.database import HistoryStore, default_store
    from spark_bench.history.entry import entry_of

    if path.exists() and not path.is_file():
        return
    with HistoryStore(store or default_store()) as opened:
        opened.add([entry_of(result, path)])
