"""`spark-bench history`, as it is typed."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from history_samples import a_run, written
from quality_samples import STARTED, a_quality_file
from spark_bench.cli import main
from spark_bench.history.database import HistoryStore
from spark_bench.history.history_tables import score_sentences


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with a store beside it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "history.sqlite3"))
    return folder


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, ["history", *words])


def three() -> list[str]:
    """Three results in a folder, added; their ids, the newest first."""
    runs = [
        a_run(0, output_throughput=180.0),
        a_run(24, output_throughput=170.0),
        a_run(48, model="Qwen/Qwen2.5-7B-Instruct", output_throughput=90.0, status="partial"),
    ]
    for run in runs:
        written(Path("results", f"{run.id}.json"), run)
    assert typed("add", "results").exit_code == 0
    return [run.id for run in runs]


@pytest.mark.parametrize("words", [[], ["list"]], ids=["nothing", "list"])
def test_a_list_has_every_result_the_newest_first(words: list[str]) -> None:
    ids = three()
    result = typed(*words).output
    assert [result.find(id[-8:]) for id in ids] == sorted(result.find(id[-8:]) for id in ids)
    for word in ("gpt-oss-120b", "10x 128/8 c4", "180", "200", "10.0", "exact", "partial"):
        assert word in result
    assert "results/" in result and "(gone)" not in result


def test_options_without_a_command_mean_list() -> None:
    ids = three()
    result = typed("--model", "qwen").output
    assert ids[2][-8:] in result and ids[0][-8:] not in result
    limited = typed("--limit", "1")
    assert ids[0][-8:] in limited.stdout and ids[1][-8:] not in limited.stdout
    assert limited.stderr == "showing the newest 1: --limit N shows more\n"


@pytest.mark.parametrize("words", [["list"], ["trend"]])
def test_an_empty_history_explains_how_to_start(words: list[str]) -> None:
    result = typed(*words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "spark-bench" in result.stderr


def test_a_result_is_shown_from_its_file() -> None:
    ids = three()
    result = typed("show", ids[1][-8:])
    assert result.exit_code == 0
    assert "http://spark-1:30000" in result.output
    assert result.output.endswith(f"{ids[1]}\n{Path.cwd()}/results/{ids[1]}.json\n")
    assert ids[0] in typed("show").output


def test_a_file_that_was_written_over_is_not_shown_as_the_old_result() -> None:
    old, new = a_run(0), a_run(24)
    for run in (old, new):
        written(Path("run.json"), run)
        assert typed("add", "run.json").exit_code == 0
    result = typed("show", old.id)
    assert result.exit_code == 2 and f"run.json holds {new.id} now: {old.id}" in result.stderr
    assert not result.stdout
    assert typed("show", new.id).exit_code == 0


def test_an_unknown_id_names_the_nearest() -> None:
    ids = three()
    wrong = f"{ids[0][:-1]}z"
    result = typed("show", wrong)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: id '{wrong}' is not in the history (did you mean ")
    assert ids[0] in result.stderr


def test_a_missing_file_is_reported_and_can_be_forgotten() -> None:
    ids = three()
    Path("results", f"{ids[0]}.json").unlink()
    assert typed().output.count("gone)") == 1
    result = typed("show", ids[0])
    assert result.exit_code == 2
    assert "history forget --missing" in result.stderr
    assert typed("forget", "--missing").output == "1 result forgotten\n"
    assert ids[0][-8:] not in typed().output


def test_a_forgotten_result_keeps_its_file() -> None:
    ids = three()
    assert typed("forget", ids[0], ids[1][-8:]).output == "2 results forgotten\n"
    assert len(list(Path("results").iterdir())) == 3
    assert ids[2][-8:] in typed().output
    refused = typed("forget")
    assert (refused.exit_code, "--missing" in refused.stderr) == (2, True)


def test_an_unknown_id_among_others_forgets_none() -> None:
    ids = three()
    assert typed("forget", ids[0], "zzzz").exit_code == 2
    assert ids[0][-8:] in typed().output


def test_export_as_csv_has_every_figure() -> None:
    ids = three()
    rows = list(csv.DictReader(io.StringIO(typed("export").output)))
    assert [row["id"] for row in rows] == ids
    assert rows[0]["output_throughput"] == "180.0"
    assert rows[0]["max_concurrency"] == "4"
    assert rows[0]["request_rate"] == ""
    assert float(rows[0]["p99_ttft_ms"]) == pytest.approx(200)


def test_export_as_json_is_filtered_alike() -> None:
    ids = three()
    rows = json.loads(typed("export", "--json", "--status", "partial").output)
    assert [row["id"] for row in rows] == [ids[2]]
    assert rows[0]["output_throughput"] == 90
    assert json.loads(typed("export", "--json", "--model", "none").output) == []


def test_add_takes_files_folders_and_globs_each_once() -> None:
    one, other = a_run(0), a_run(1)
    written(Path("a/one.json"), one)
    written(Path("b/deep/other.json"), other)
    Path("b/settings.json").write_text('{"x": 1}')
    Path("b/one.requests.jsonl").write_text("{}")
    result = typed("add", "a/one.json", "a", "b", "*/one.json")
    assert (result.exit_code, result.output) == (
        0,
        "2 results added, 1 other JSON files left out\n",
    )


def test_a_broken_result_is_reported_and_the_others_are_added() -> None:
    run = a_run()
    good = written(Path("r/good.json"), run)
    text = Path("r/good.json").read_text()
    Path("r/newer.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    Path("typed.json").write_text("[]")
    result = typed("add", "r", "typed.json")
    assert result.exit_code == 1
    assert result.stdout == "1 result added\n"
    newer, not_one = result.stderr.splitlines()
    assert newer.startswith("left out: r/newer.json") and "install a newer" in newer
    assert not_one.startswith("left out: typed.json is not a result")
    assert good.id[-8:] in typed().output


def test_a_name_that_is_no_file_is_an_error() -> None:
    result = typed("add", "no/*.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: no/*.json does not exist")


def test_a_trend_is_of_the_newest_results_model_and_load() -> None:
    three()
    result = typed("trend")
    assert result.exit_code == 0
    assert result.stdout.startswith("output_throughput of gpt-oss-120b on 2 nodes, 10x 128/8 c4")
    assert result.stdout.count("●") == 2
    assert result.stdout.endswith("the last is +5.9% from the median of the previous 1\n")
    assert result.stderr.startswith("1 result left out: partial")


def test_a_trend_takes_short_names_and_an_id() -> None:
    ids = three()
    assert typed("trend", "ttft_p99").output.startswith("p99_ttft_ms of gpt-oss-120b")
    assert typed("trend", "--like", ids[1][-8:]).output.startswith("output_throughput of gpt-oss")
    refused = typed("trend", "ttft_p98")
    assert (refused.exit_code, "did you mean" in refused.stderr) == (2, True)


def test_a_store_can_be_named(tmp_path: Path) -> None:
    ids = three()
    other = str(tmp_path / "other.sqlite3")
    typed("add", f"results/{ids[0]}.json", "--store", other)
    assert len(json.loads(typed("export", "--json", "--store", other).output)) == 1


def test_help_needs_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_BENCH_HISTORY", "/proc/none/x")
    result = typed("--help")
    assert (result.exit_code, "trend" in result.output) == (0, True)
    refused = typed("list")
    assert refused.exit_code == 1
    assert "can't be used" in refused.stderr


def scores() -> None:
    """Three scores of a task and one of another, added."""
    for number, outcomes in enumerate(("1" * 8 + "00", "1" * 9 + "0", "1" * 10)):
        created = STARTED + timedelta(hours=number)
        a_quality_file(Path("results"), f"q{number}", outcomes, created=created)
    a_quality_file(Path("results"), "t", "10", task="tools")
    assert typed("add", "results").exit_code == 0


def test_a_list_has_scores_with_their_intervals() -> None:
    scores()
    three()
    listed = typed().output
    for word in ("80.0 %", "49 to 94", "100.0 %", "arith", "tools", "exact"):
        assert word in listed


def test_a_tasks_score_is_plotted_over_time() -> None:
    scores()
    three()
    done = typed("trend", "arith")
    assert done.exit_code == 0
    assert "score of gpt-oss-120b" in done.stdout
    assert "0.8  [0.49, 0.943]" in done.stdout
    assert "the last is +17.6% from the median of the previous 2" in done.stdout
    assert typed("trend", "output_throughput").stdout.startswith("output_throughput of")
    unknown = typed("trend", "gsm8k")
    assert unknown.exit_code == 2
    assert "unknown figure 'gsm8k'" in unknown.output


def test_a_score_is_shown_as_it_was_printed() -> None:
    scores()
    done = typed("show", "q0")
    assert done.exit_code == 0
    assert "80.0 %" in done.output


def test_a_run_gets_the_newest_scores_of_what_served_it(tmp_path: Path) -> None:
    run = a_run(0)
    same = {"provenance": run.provenance, "model": run.config.model, "url": run.config.url}
    for number, outcomes in enumerate(("1" * 8 + "00", "1" * 9 + "0")):
        created = STARTED + timedelta(hours=number)
        a_quality_file(Path("results"), f"q{number}", outcomes, created=created, **same)
    a_quality_file(Path("results"), "t", "0" * 20, task="tools", **same)
    a_quality_file(Path("results"), "elsewhere", "10", task="needle", model="other")
    assert typed("add", "results").exit_code == 0
    with HistoryStore(tmp_path / "history.sqlite3") as store:
        sentences = list(score_sentences(run, store))
    assert [sentence.partition(",")[0] for sentence in sentences] == [
        "arith 90.0 % (59.6 % to 98.2 %)",
        "tools 0.0 % (0.0 % to 16.1 %)",
    ]
    assert sentences[1].endswith("; WRONG: tools: none of 20 answers is right")
