"""The store's file: its tables, and what is refused in place of being guessed at."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spark_bench.errors import BadInput, BenchError
from spark_bench.history.place import VARIABLE

# Grows with every change of the tables below.
VERSION = 1
# "SpkB": so that `file` and we can tell whose SQLite file it is.
APPLICATION = 0x53706B42
# Seconds to wait for another run that writes: each write takes milliseconds.
PATIENCE = 30.0

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS results (
    id TEXT PRIMARY KEY, created TEXT NOT NULL, path TEXT NOT NULL,
    status TEXT NOT NULL, verdict TEXT NOT NULL,
    model TEXT NOT NULL, profile TEXT NOT NULL, load TEXT NOT NULL,
    url TEXT NOT NULL, endpoint TEXT NOT NULL,
    engine TEXT NOT NULL, engine_version TEXT NOT NULL, nodes INTEGER,
    num_prompts INTEGER NOT NULL, input_len INTEGER, output_len INTEGER,
    max_concurrency INTEGER, request_rate REAL, repeats INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_created ON results (created);
CREATE TABLE IF NOT EXISTS figures (
    result TEXT NOT NULL REFERENCES results ON DELETE CASCADE,
    name TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL,
    PRIMARY KEY (result, name)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """The store at `path`, made where there is none; BenchError or BadInput where it can't be."""
    with told(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        try:
            _hold_to_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _hold_to_schema(connection: sqlite3.Connection, path: Path) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    application, version = (_pragma(connection, n) for n in ("application_id", "user_version"))
    if application == APPLICATION and version == VERSION:
        return
    if application == APPLICATION:
        raise BadInput(
            f"{path}: the history has version {version}, this spark-bench reads {VERSION}: "
            f"install the spark-bench that wrote it, or name another with --store or ${VARIABLE}"
        )
    # Only another run that makes it in the same moment can have put tables there.
    if version or _pragma(connection, "schema_version"):
        if _pragma(connection, "application_id") == APPLICATION:
            return
        raise BadInput(
            f"{path}: this SQLite file is no history of spark-bench: "
            f"name another with --store or ${VARIABLE}"
        )
    connection.executescript(_TABLES)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What SQLite and the system refuse, in a sentence with its cure."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BenchError(
            f"the history {path} can't be used: {why}; name another with --store or ${VARIABLE}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise BadInput(
            f"the history {path} is damaged ({error}): move it away, and make it again from the "
            "result files: spark-bench history add benchmark_results"
        ) from error
