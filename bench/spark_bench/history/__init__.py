"""All results on this machine, to list, filter and plot over time.

A result file stays the truth; the store (database.py) is an index over such files and can be
rebuilt from them (entry.py). SQLite, because two runs may end at the same moment: it lets several
processes write and comes with Python. DuckDB lets one process write and is for far more rows.
"""

from pathlib import Path

from spark_bench.results.quality_schema import QualityResult
from spark_bench.results.schema import Result


def remember_result(result: Result | QualityResult, path: Path, store: Path | None = None) -> None:
    """Add the result in the file at `path`, replacing any entry with its id.

    store: None means default_store()

    A result written to a pipe or a device can't be read again and is not added. Raises BenchError,
    with a sentence that can serve as a note, if the store can't be used.
    """
    from spark_bench.history.database import HistoryStore, default_store
    from spark_bench.history.entry import entry_of

    if path.exists() and not path.is_file():
        return
    with HistoryStore(store or default_store()) as opened:
        opened.add([entry_of(result, path)])
