"""A run is remembered unless the user says otherwise; a store that can't be used is a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from spark_bench.cli import main
from spark_bench.reference_server.launcher import ReferenceServer


def run(reference: ReferenceServer, folder: Path, *words: str) -> Result:
    reference.configure(ttft_us=1000, itl_us=500)
    shape = ("-n", "2", "-i", "8", "-o", "4", "--no-metrics", "--output", str(folder / "run.json"))
    return CliRunner().invoke(main, ["run", "--url", reference.url, *shape, *words])


def remembered(store: Path) -> list[str]:
    result = CliRunner().invoke(main, ["history", "export", "--json", "--store", str(store)])
    assert result.exit_code == 0, result.output
    return [entry["id"] for entry in json.loads(result.stdout)]


def test_a_run_is_in_the_history(
    reference: ReferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "history.sqlite3"
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(store))
    assert run(reference, tmp_path).exit_code == 0
    assert remembered(store) == [json.loads((tmp_path / "run.json").read_text())["id"]]
    assert run(reference, tmp_path, "--no-history").exit_code == 0
    assert len(remembered(store)) == 1


def test_an_invalid_store_is_a_note(
    reference: ReferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "history.sqlite3"
    store.write_text("not a store\n" * 100)
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(store))
    result = run(reference, tmp_path)
    assert result.exit_code == 0, result.output
    assert "not in the history" in result.output
