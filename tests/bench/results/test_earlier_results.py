"""Files and histories that earlier versions wrote stay readable by every command that reads any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from spark_bench.cli import main
from spark_bench.results.codec import encode_result, read_requests, read_result

EARLIER = Path(__file__).parent / "earlier"
DAYS = sorted(folder.name for folder in EARLIER.iterdir() if folder.is_dir())
EACH = pytest.mark.parametrize("day", DAYS)


def typed(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with a history of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "new.sqlite3"))
    return tmp_path


@EACH
def test_a_result_is_read_and_written_byte_for_byte(day: str) -> None:
    file = EARLIER / day / "run.json"
    assert encode_result(read_result(file)) == file.read_bytes()


@EACH
def test_the_requests_beside_it_agree_with_its_figures(day: str) -> None:
    summary = read_result(EARLIER / day / "run.json").summary
    requests = list(read_requests(EARLIER / day / "run.requests.jsonl"))
    assert sum(request.ok for request in requests) == summary.completed
    assert sum(request.output_tokens for request in requests) == summary.total_output_tokens


@EACH
def test_earlier_history_lists_exports_and_finds_results(day: str, here: Path) -> None:
    store = here / "earlier.sqlite3"
    shutil.copy(EARLIER / day / "history.sqlite3", store)
    result = read_result(EARLIER / day / "run.json")
    assert result.id[-8:] in typed("history", "list", "--store", store).stdout
    (entry,) = json.loads(typed("history", "export", "--json", "--store", store).stdout)
    assert entry["id"] == result.id
    assert entry["output_throughput"] == result.summary.output_throughput
    assert "output_throughput" in typed("history", "trend", "--store", store).stdout


@EACH
def test_earlier_history_takes_new_results_and_shows_old_ones(day: str, here: Path) -> None:
    store = here / "earlier.sqlite3"
    shutil.copy(EARLIER / day / "history.sqlite3", store)
    added = typed("history", "add", EARLIER, "--store", store).stdout
    assert added.startswith(f"{len(DAYS)} results added")
    id = read_result(EARLIER / day / "run.json").id
    assert id in typed("history", "show", id, "--store", store).stdout


def test_all_earlier_results_are_compared_and_rendered_together(here: Path) -> None:
    files = [EARLIER / day / "run.json" for day in DAYS]
    assert "output_throughput" in typed("compare", "--anyway", *files).stdout
    reported = typed("report", *files, "-o", here / "page.html")
    assert f": {len(DAYS)} runs, " in reported.stdout
    assert "left out" not in reported.output
