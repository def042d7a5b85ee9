"""The history's SQLite file: where it is, its tables, the store that adds, finds and forgets, and
which results a user means: filters, times, beginnings of ids.

Several processes may use it at once.
"""

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from spark_bench import errors, formats
from spark_bench.history.entry import COLUMNS, EntryFigure, HistoryEntry, timestamp

_ADD = (
    f"INSERT INTO results ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS)}"
)


class Filters(Struct, frozen=True, kw_only=True):
    """What an entry must match; "" matches everything.

    model, url, load: a part of it, ignoring case
    since, until: from `parse_moment`; `until` itself is excluded
    """

    model: str = ""
    url: str = ""
    load: str = ""
    profile: str = ""
    status: str = ""
    verdict: str = ""
    since: str = ""
    until: str = ""

    def where(self) -> tuple[str, list[str]]:
        """An SQL condition on the table `results`, and its parameters."""
        conditions = list(self._conditions())
        text = " AND ".join(condition for condition, _ in conditions) or "TRUE"
        return text, [value for _, value in conditions]

    def _conditions(self) -> Iterator[tuple[str, str]]:
        for name in ("model", "url", "load"):
            if part := getattr(self, name):
                yield f"instr(lower({name}), lower(?)) > 0", part
        for name in ("profile", "status", "verdict"):
            if whole := getattr(self, name):
                yield f"{name} = ?", whole
        if self.since:
            yield "created >= ?", self.since
        if self.until:
            yield "created < ?", self.until


class HistoryStore:
    """An open store; a context manager. BenchError or BadInput if the file can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, entries: Iterable[HistoryEntry]) -> None:
        """Add all of them or none, replacing entries with the same ids."""
        with self._writing() as connection:
            for entry in entries:
                connection.execute(_ADD, [getattr(entry, name) for name in COLUMNS])
                connection.execute("DELETE FROM figures WHERE result = ?", (entry.id,))
                connection.executemany(
                    "INSERT INTO figures VALUES (?, ?, ?, ?, ?)",
                    ((entry.id, n, f.value, f.low, f.high) for n, f in entry.figures.items()),
                )

    def forget(self, ids: Sequence[str]) -> None:
        """Remove entries; result files stay."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM results WHERE id = ?", ((id,) for id in ids))

    def ids(self) -> list[str]:
        """All ids, newest last."""
        with explain_errors(self.path):
            return [row["id"] for row in self._connection.execute("SELECT id FROM results")]

    def entries(
        self,
        filters: Filters = Filters(),  # noqa: B008  (it is frozen)
        *,
        limit: int | None = None,
        figures: Sequence[str] | None = (),
    ) -> list[HistoryEntry]:
        """Entries that pass the filters, newest first.

        figures: keys of the figures to read; None: all
        """
        where, values = filters.where()
        query = f"FROM results WHERE {where} ORDER BY created DESC, id DESC LIMIT {limit or -1}"
        return self._read(query, values, figures)

    def entry(self, id: str) -> HistoryEntry:
        """The entry with exactly this id, with all its figures."""
        return self._read("FROM results WHERE id = ?", [id], None)[0]

    def _read(
        self, query: str, values: list[str], wanted: Sequence[str] | None
    ) -> list[HistoryEntry]:
        with explain_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                rows = self._connection.execute(f"SELECT * {query}", values).fetchall()
                figures = self._figures(query, values, wanted) if wanted != () else {}
            finally:
                self._connection.execute("ROLLBACK")
        return [HistoryEntry(**dict(row), figures=figures.get(row["id"], {})) for row in rows]

    def _figures(
        self, query: str, values: list[str], wanted: Sequence[str] | None
    ) -> dict[str, dict[str, EntryFigure]]:
        names = "" if wanted is None else f"AND name IN ({', '.join('?' * len(wanted))})"
        by_result: dict[str, dict[str, EntryFigure]] = {}
        for row in self._connection.execute(
            f"SELECT * FROM figures WHERE result IN (SELECT id {query}) {names}",
            [*values, *(wanted or ())],
        ):
            figure = EntryFigure(row["value"], row["low"], row["high"])
            by_result.setdefault(row["result"], {})[row["name"]] = figure
        return by_result

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with explain_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has already rolled it back.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


# Incremented with every change of the tables below.
VERSION = 1
# "SpkB": identifies the SQLite file, also to `file`.
APPLICATION = 0x53706B42
# Seconds to wait for another run's write, which takes milliseconds.
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


def open_database(path: Path) -> sqlite3.Connection:
    """Open the store at `path`, creating it if needed; BenchError or BadInput if that fails."""
    with explain_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        try:
            _require_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file; BadInput for a file with other tables."""
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    application, version = (_pragma(connection, n) for n in ("application_id", "user_version"))
    if application == APPLICATION and version == VERSION:
        return
    if application == APPLICATION:
        raise errors.BadInput(
            f"{path}: the history has version {version}, this spark-bench reads {VERSION}: "
            f"install the spark-bench that wrote it, or name another with --store or ${VARIABLE}"
        )
    # If there are tables, another run may have created them just now.
    if version or _pragma(connection, "schema_version"):
        if _pragma(connection, "application_id") == APPLICATION:
            return
        raise errors.BadInput(
            f"{path}: this SQLite file is not a spark-bench history: "
            f"name another with --store or ${VARIABLE}"
        )
    connection.executescript(_TABLES)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and the system into a sentence with a cure."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise errors.BenchError(
            f"the history {path} can't be used: {why}; name another with --store or ${VARIABLE}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise errors.BadInput(
            f"the history {path} is damaged ({error}): move it away and rebuild it from the result "
            "files: spark-bench history add benchmark_results"
        ) from error


VARIABLE = "SPARK_BENCH_HISTORY"


def default_store() -> Path:
    """$SPARK_BENCH_HISTORY, else spark-bench/history.sqlite3 in the user's data folder.

    That is $XDG_DATA_HOME if it is an absolute path, else ~/.local/share.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    home = configured if configured.is_absolute() else Path("~/.local/share").expanduser()
    return home / "spark-bench" / "history.sqlite3"


_TIME_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, option: str, now: datetime) -> str:
    """A typed time in the store's format: "7d" before `now`, a date, or a local time.

    BadInput names `option`.

    >>> from datetime import UTC
    >>> parse_moment("36h", "--since", datetime(2026, 11, 23, 12, tzinfo=UTC))
    '2026-11-22T00:00:00.000000Z'
    """
    try:
        if ago := re.fullmatch(r"([0-9]+)([mhdw])", text.strip()):
            return timestamp(now - timedelta(**{_TIME_UNITS[ago[2]]: int(ago[1])}))
        return timestamp(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise errors.BadInput(
            f"{option}: {text!r} is not a time; use 36h, 7d, 2w, 2026-11-23 or 2026-11-23T14:30"
        ) from None


# Most ids that a message names.
SHOWN = 3


def short_run_id(id: str) -> str:
    """The part of an id that `history list` shows: the random part.

    >>> short_run_id("20261123T133805250Z-0a1b2c3d")
    '0a1b2c3d'
    """
    return id.rpartition("-")[2]


def resolve_id(word: str, ids: Sequence[str]) -> str:
    """The id that starts with `word`, or whose random part does; BadInput for none or several."""
    if word in ids:
        return word
    matches = (
        [id for id in ids if id.startswith(word) or short_run_id(id).startswith(word)]
        if word
        else []
    )
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(matches[:SHOWN]) + (", …" if len(matches) > SHOWN else "")
        raise errors.BadInput(
            f"id {word!r} matches {len(matches)} results ({some}): give more characters"
        )
    if not ids:
        raise errors.BadInput(f"id {word!r} is not in the history, which is empty")
    names = [name for id in ids for name in (id, short_run_id(id))]
    hint = formats.did_you_mean(word, names, SHOWN, cutoff=0.5) or ": see spark-bench history list"
    raise errors.BadInput(f"id {word!r} is not in the history{hint}")
