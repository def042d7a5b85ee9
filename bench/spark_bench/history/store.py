"""The store itself: add, look up, forget. Several processes may use it at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from spark_bench.history.entry import COLUMNS, Entry, Figure
from spark_bench.history.filters import Filters
from spark_bench.history.schema import connect, told

_ADD = (
    f"INSERT INTO results ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS)}"
)


class Store:
    """An open store; a context manager. BenchError and BadInput for what can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """All of them, or none; what was known under their ids is replaced."""
        with self._writing() as connection:
            for entry in entries:
                connection.execute(_ADD, [getattr(entry, name) for name in COLUMNS])
                connection.execute("DELETE FROM figures WHERE result = ?", (entry.id,))
                connection.executemany(
                    "INSERT INTO figures VALUES (?, ?, ?, ?, ?)",
                    ((entry.id, n, f.value, f.low, f.high) for n, f in entry.figures.items()),
                )

    def forget(self, ids: Sequence[str]) -> None:
        """No file is touched."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM results WHERE id = ?", ((id,) for id in ids))

    def ids(self) -> list[str]:
        """All of them, the newest last."""
        with told(self.path):
            return [row["id"] for row in self._connection.execute("SELECT id FROM results")]

    def entries(
        self,
        filters: Filters = Filters(),  # noqa: B008  (it is frozen)
        *,
        limit: int | None = None,
        figures: Sequence[str] | None = (),
    ) -> list[Entry]:
        """Those that pass, the newest first.

        figures: which ones are wanted with them; None: all
        """
        where, values = filters.where()
        query = f"FROM results WHERE {where} ORDER BY created DESC, id DESC LIMIT {limit or -1}"
        return self._read(query, values, figures)

    def entry(self, id: str) -> Entry:
        """The one with that very id, with all its figures."""
        return self._read("FROM results WHERE id = ?", [id], None)[0]

    def _read(self, query: str, values: list[str], wanted: Sequence[str] | None) -> list[Entry]:
        with told(self.path):
            self._connection.execute("BEGIN")
            try:
                rows = self._connection.execute(f"SELECT * {query}", values).fetchall()
                figures = self._figures(query, values, wanted) if wanted != () else {}
            finally:
                self._connection.execute("ROLLBACK")
        return [Entry(**dict(row), figures=figures.get(row["id"], {})) for row in rows]

    def _figures(
        self, query: str, values: list[str], wanted: Sequence[str] | None
    ) -> dict[str, dict[str, Figure]]:
        names = "" if wanted is None else f"AND name IN ({', '.join('?' * len(wanted))})"
        found: dict[str, dict[str, Figure]] = {}
        for row in self._connection.execute(
            f"SELECT * FROM figures WHERE result IN (SELECT id {query}) {names}",
            [*values, *(wanted or ())],
        ):
            figure = Figure(row["value"], row["low"], row["high"])
            found.setdefault(row["result"], {})[row["name"]] = figure
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has rolled it back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
