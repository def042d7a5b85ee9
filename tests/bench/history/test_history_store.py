"""The store: what it holds, who may use it at once, what it refuses."""

from __future__ import annotations

import doctest
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from history_samples import BASE, a_run, written
from spark_bench.errors import BadInput, BenchError
from spark_bench.history import database, entry, history_tables, remember_result
from spark_bench.history.database import (
    APPLICATION,
    VERSION,
    Filters,
    HistoryStore,
    default_store,
    parse_moment,
    resolve_id,
)
from spark_bench.history.entry import COLUMNS, EntryFigure, entry_of, load_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "history.sqlite3"


def stored(path: Path, *wanted: Filters) -> list[str]:
    with HistoryStore(path) as store:
        return [entry.id for entry in store.entries(*wanted)]


def test_a_result_is_remembered_with_its_figures(path: Path, tmp_path: Path) -> None:
    result = a_run(output_throughput=171.5)
    remember_result(result, tmp_path / "result.json", path)
    with HistoryStore(path) as store:
        (entry,) = store.entries(figures=None)
    assert entry == entry_of(result, tmp_path / "result.json")
    assert (entry.model, entry.nodes, entry.status) == ("openai/gpt-oss-120b", 2, "complete")
    assert entry.figures["output_throughput"] == EntryFigure(171.5, 169.5, 172.5)
    assert entry.figures["median_ttft_ms"].value == pytest.approx(200.0)
    assert entry.when == BASE


def test_the_table_columns_match_the_entry_fields(path: Path) -> None:
    remember_result(a_run(), Path("x.json"), path)
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name FROM pragma_table_info('results')").fetchall()
    assert tuple(name for (name,) in rows) == COLUMNS


def test_a_result_added_again_is_listed_once_at_its_new_path(path: Path) -> None:
    result = a_run()
    remember_result(result, Path("/before.json"), path)
    remember_result(result, Path("/after.json"), path)
    with HistoryStore(path) as store:
        assert [entry.path for entry in store.entries()] == ["/after.json"]


def test_a_result_written_to_a_device_is_not_remembered(path: Path) -> None:
    remember_result(a_run(), Path("/dev/null"), path)
    assert not path.exists()


def test_the_newest_come_first_and_as_many_as_wanted(path: Path) -> None:
    runs = [a_run(hours=hours) for hours in (5, 0, 9)]
    for run in runs:
        remember_result(run, Path("x.json"), path)
    with HistoryStore(path) as store:
        assert [e.id for e in store.entries(limit=2)] == [runs[1].id, runs[0].id]


@pytest.mark.parametrize(
    "wanted, hours",
    [
        pytest.param(Filters(), [0, 1, 2], id="all"),
        pytest.param(Filters(model="QWEN"), [1], id="part-of-the-model-in-any-case"),
        pytest.param(Filters(model="%"), [], id="no-wildcards"),
        pytest.param(Filters(profile="quick"), [0, 1], id="profile"),
        pytest.param(Filters(profile="qui"), [], id="profile-as-a-whole"),
        pytest.param(Filters(status="partial"), [2], id="status"),
        pytest.param(Filters(load="c4"), [0, 1, 2], id="load"),
        pytest.param(Filters(url="SPARK-1"), [0, 1, 2], id="url"),
        pytest.param(Filters(verdict="approximate"), [], id="verdict"),
        pytest.param(
            Filters(since=parse_moment("90m", "--since", BASE)), [0, 1], id="since-90-minutes-ago"
        ),
        pytest.param(
            Filters(until=parse_moment("2026-11-23T12:38:05.250+00:00", "--until", BASE)),
            [2],
            id="until-leaves-the-end-out",
        ),
        pytest.param(Filters(model="qwen", profile="long"), [], id="all-must-hold"),
    ],
)
def test_filters(wanted: Filters, hours: list[int], path: Path) -> None:
    runs = [
        a_run(),
        a_run(hours=1, model="Qwen/Qwen2.5-7B-Instruct"),
        a_run(hours=2, profile="long", status="partial"),
    ]
    for run in runs:
        remember_result(run, Path("x.json"), path)
    assert stored(path, wanted) == [runs[hour].id for hour in hours]


def test_only_the_requested_figures_are_read(path: Path) -> None:
    remember_result(a_run(), Path("x.json"), path)
    with HistoryStore(path) as store:
        assert store.entries()[0].figures == {}
        assert set(store.entries(figures=["duration", "no_such"])[0].figures) == {"duration"}


def test_forgetting_a_result_removes_its_figures(path: Path) -> None:
    one, other = a_run(), a_run(hours=1)
    for run in (one, other):
        remember_result(run, Path("x.json"), path)
    with HistoryStore(path) as store:
        store.forget([one.id])
    assert stored(path) == [other.id]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT DISTINCT result FROM figures").fetchall() == [(other.id,)]


def test_one_invalid_entry_rolls_back_the_whole_batch(path: Path) -> None:
    good = entry_of(a_run(), Path("x.json"))
    with pytest.raises(AttributeError), HistoryStore(path) as store:
        store.add([good, None])  # type: ignore[list-item]
    assert stored(path) == []


ADDER = """
import sys
from pathlib import Path
from history_samples import a_run
from spark_bench.history import remember_result
first = int(sys.argv[2])
sys.stdin.read(1)
for hours in range(first, first + 20):
    remember_result(a_run(hours=hours), Path(f"{hours}.json"), Path(sys.argv[1]))
"""


def test_two_runs_may_end_at_once_even_where_no_store_is_yet(path: Path) -> None:
    words = [sys.executable, "-c", ADDER, str(path)]
    both = [
        subprocess.Popen(
            [*words, first],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2] / "support",
        )
        for first in ("0", "100")
    ]
    for process in both:
        assert process.stdin
        process.stdin.write(b"!")
        process.stdin.flush()
    for process in both:
        _, output = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, b"")
    assert len(stored(path)) == 40


def test_a_newer_store_is_refused_with_the_cure(path: Path) -> None:
    remember_result(a_run(), Path("x.json"), path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(BadInput, match=rf"version {VERSION + 1}, .* reads {VERSION}: install"):
        stored(path)


def test_a_file_that_is_not_a_store_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    with pytest.raises(BadInput, match=r"damaged .* move it away and rebuild it"):
        remember_result(a_run(), Path("x.json"), path)
    assert path.read_text() == "dear diary " * 100


def test_a_corrupt_store_is_refused_with_a_fix(path: Path) -> None:
    with HistoryStore(path) as store:
        store.add([entry_of(a_run(hours=hours), Path("x.json")) for hours in range(30)])
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"damaged .* spark-bench history add"):
        stored(path)


def test_a_foreign_sqlite_file_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(BadInput, match="not a spark-bench history: name another with --store"):
        remember_result(a_run(), Path("x.json"), path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


def test_an_impossible_store_path_is_one_error_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"can't be used: .*; name another with --store"):
        remember_result(a_run(), Path("x.json"), tmp_path / "file" / "history.sqlite3")


def test_a_locked_store_is_waited_for_then_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_result(a_run(), Path("x.json"), path)
    monkeypatch.setattr("spark_bench.history.database.PATIENCE", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(BenchError, match="database is locked"):
            remember_result(a_run(hours=1), Path("x.json"), path)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert len(stored(path)) == 1


def test_the_store_has_an_application_id(path: Path) -> None:
    remember_result(a_run(), Path("x.json"), path)
    # The SQLite file format: the application id is at 68, big endian.
    assert path.read_bytes()[68:72] == APPLICATION.to_bytes(4, "big") == b"SpkB"


@pytest.mark.parametrize(
    "named, data, place",
    [
        pytest.param("/x/h.db", "/data", "/x/h.db", id="named"),
        pytest.param("~/h.db", "", "/home/me/h.db", id="named-in-the-home"),
        pytest.param("", "/data", "/data/spark-bench/history.sqlite3", id="xdg"),
        pytest.param(
            "", "data", "/home/me/.local/share/spark-bench/history.sqlite3", id="relative"
        ),
        pytest.param("", "", "/home/me/.local/share/spark-bench/history.sqlite3", id="default"),
    ],
)
def test_the_stores_default_path(
    named: str, data: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SPARK_BENCH_HISTORY", named)
    monkeypatch.setenv("XDG_DATA_HOME", data)
    assert default_store() == Path(place)


IDS = [
    "20261123T133805250Z-0a1b2c3d",
    "20261123T140000000Z-0affffff",
    "20261124T000000000Z-99999999",
]


@pytest.mark.parametrize(
    "word, id",
    [
        pytest.param(IDS[0], IDS[0], id="whole"),
        pytest.param("20261123T13", IDS[0], id="beginning"),
        pytest.param("0aff", IDS[1], id="beginning-of-the-tail"),
    ],
)
def test_an_id_by_its_beginning(word: str, id: str) -> None:
    assert resolve_id(word, IDS) == id


@pytest.mark.parametrize(
    "word, ids, message",
    [
        pytest.param("0a", IDS, "matches 2 results", id="several"),
        pytest.param("0a1b2c3e", IDS, "did you mean 0a1b2c3d", id="nearest"),
        pytest.param("zz", IDS, "see spark-bench history list", id="nothing-near"),
        pytest.param("0a", [], "which is empty", id="empty"),
        pytest.param("", IDS, "is not in the history", id="no-word"),
    ],
)
def test_an_id_that_matches_none(word: str, ids: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        resolve_id(word, ids)


@pytest.mark.parametrize(
    "text, back",
    [
        pytest.param("30m", timedelta(minutes=30), id="minutes"),
        pytest.param("36h", timedelta(hours=36), id="hours"),
        pytest.param("7d", timedelta(days=7), id="days"),
        pytest.param("2w", timedelta(weeks=2), id="weeks"),
        pytest.param("2026-11-23T15:38:05.250+02:00", timedelta(), id="with-its-zone"),
    ],
)
def test_a_time_as_typed(text: str, back: timedelta) -> None:
    assert datetime.fromisoformat(parse_moment(text, "--since", BASE)) == BASE - back


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7y", "-7d", "99999999999d", "2026-13-01"])
def test_an_invalid_time(text: str) -> None:
    with pytest.raises(BadInput, match=r"--since: .* is not a time; use"):
        parse_moment(text, "--since", datetime.now(UTC))


def test_a_load_is_abbreviated(tmp_path: Path) -> None:
    result = written(tmp_path / "x.json", a_run())
    assert load_text(result.config) == "10x 128/8 c4 trace:0000"


def test_the_examples_in_docstrings() -> None:
    for module in (entry, database, history_tables):
        assert doctest.testmod(module).attempted
        assert not doctest.testmod(module).failed
