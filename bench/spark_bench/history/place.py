"""Where the store is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SPARK_BENCH_HISTORY"


def default_store() -> Path:
    """$SPARK_BENCH_HISTORY, else history.sqlite3 in the user's data.

    The XDG base directory specification: $XDG_DATA_HOME if it is an absolute path.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    home = configured if configured.is_absolute() else Path("~/.local/share").expanduser()
    return home / "spark-bench" / "history.sqlite3"
