"""Scores on the page: whose they are, which runs they mark, what is shown of wrong answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from quality_samples import a_quality, a_quality_file
from report_samples import HOSTILE, save, variants
from spark_bench.cli import main
from spark_bench.report.charts.pareto import pareto_front
from spark_bench.report.figure_tables import best_runs
from spark_bench.report.gather import gather_runs
from spark_bench.report.named_runs import NamedRun, name_runs
from spark_bench.report.quality_section import QualitySection, quality_section, server_key
from spark_bench.results.codec import encode_result
from spark_bench.results.schema import Result
from spark_bench.results.suite_results import SuiteLoad, SuiteResults, encode_results
from suite_samples import a_row

GOOD, FAIR, POOR = "1" * 280 + "0" * 20, "1" * 275 + "0" * 25, "1" * 200 + "0" * 100


def report(folder: Path, *words: str) -> str:
    """Type `spark-bench report`; what it wrote."""
    target = folder / "page.html"
    done = CliRunner().invoke(main, ["report", *words, "-o", str(target)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return target.read_text()


def scored(folder: Path, one: str, two: str, **changes: Any) -> list[Result]:
    """A model with one node and with two, the faster, with a score of each."""
    runs = variants()
    save(runs, folder)
    servers = {server_key(r.provenance, r.config.url, r.config.model): r for r in runs}
    assert len(servers) == 2
    for number, (run, outcomes) in enumerate(zip(servers.values(), (one, two), strict=True)):
        same = {"provenance": run.provenance, "model": run.config.model, "url": run.config.url}
        a_quality_file(folder, f"q{number}", outcomes, **same | changes)
    return runs


def gathered(folder: Path) -> tuple[tuple[NamedRun, ...], QualitySection | None]:
    results = gather_runs([str(folder)])
    runs, labels = name_runs(results)
    wrong = {named.run.server: named.wrong for named in runs if named.wrong}
    warned = {named.run.server: named.warned for named in runs if named.warned}
    return runs, quality_section(results.scores, labels, wrong, warned)


def test_a_run_has_the_scores_of_what_served_it(tmp_path: Path) -> None:
    scored(tmp_path, GOOD, FAIR)
    runs, section = gathered(tmp_path)
    assert {(n.variant, n.scores["arith"].score.right, n.wrong) for n in runs} == {
        ("tp=1", 280, ""),
        ("tp=2", 275, ""),
    }
    assert section
    assert [row[2].text for row in section.table.rows] == ["93.3", "91.7"]
    assert [row[4].text for row in section.table.rows] == ["-", "-1.7"]
    assert best_runs(runs)[0].variant == "tp=2"


def test_a_variant_with_wrong_answers_is_never_first(tmp_path: Path) -> None:
    scored(tmp_path, GOOD, POOR)
    runs, section = gathered(tmp_path)
    assert {named.variant for named in runs if named.wrong} == {"tp=2"}
    assert best_runs(runs)[0].variant == "tp=1"
    assert {dot.named.variant for dot in pareto_front(runs) if dot.front} == {"tp=1"}
    assert section
    assert section.examples[0].wrong.startswith("arith: 26.7 points below gpt-oss-120b tp=1")


def test_no_right_answer_is_wrong_even_without_a_variant_to_compare(tmp_path: Path) -> None:
    [first, *_] = variants()
    save([first], tmp_path)
    same = {"provenance": first.provenance, "model": first.config.model, "url": first.config.url}
    a_quality_file(tmp_path, "q", "0" * 40, **same)
    [named], _ = gathered(tmp_path)
    assert named.wrong == "arith: none of 40 answers is right"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"url": "http://elsewhere:30000"}, id="same launch, other URL"),
        pytest.param({"concurrency": 1}, id="other concurrency"),
    ],
)
def test_what_decides_no_answer_ties_scores_to_no_other_server(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    scored(tmp_path, GOOD, FAIR, **changes)
    assert all(named.scores for named in gathered(tmp_path)[0])


def test_another_model_has_none_of_these_scores(tmp_path: Path) -> None:
    scored(tmp_path, GOOD, POOR, model="org/other")
    assert not any(named.scores or named.wrong for named in gathered(tmp_path)[0])


def test_the_newest_complete_score_of_a_task_counts(tmp_path: Path) -> None:
    names = {"q1": "1" * 10, "q2": "1" * 9 + "0", "q3": "0" * 10}
    for name, outcomes in names.items():
        created = a_quality().created.replace(minute=int(name[1]))
        status = "partial" if name == "q3" else "complete"
        a_quality_file(tmp_path, name, outcomes, created=created, status=status, reason="Ctrl-C")
    _, section = gathered(tmp_path)
    assert section
    [row] = section.table.rows
    assert row[3].text == "9 of 10"
    assert section.notes == ("2 older or incomplete results of the same are left out.",)


def a_suite(folder: Path, **judgment: str) -> None:
    """A run's result, and that of the suite that it is from, which judges its answers."""
    [first, *_] = variants()
    save([first], folder)
    [file] = folder.glob("bench_*.json")
    row = a_row("a", 9.0, 1.0, file=file.name, **judgment)
    load = SuiteLoad(profile="short", num_prompts=1, input_len=1, output_len=1)
    suite = SuiteResults(
        timestamp="", config=load, total_time_seconds=1, models_tested=1, results=(row,)
    )
    (folder / "results.json").write_bytes(encode_results(suite))


def test_what_a_suite_found_wrong_is_marked(tmp_path: Path) -> None:
    a_suite(tmp_path, status="WRONG_ANSWERS", diagnosis="why")
    [named], _ = gathered(tmp_path)
    assert named.wrong == "why"


def test_what_the_probes_of_a_suite_doubt_is_marked(tmp_path: Path) -> None:
    a_suite(tmp_path / "results", warned="spark-1: the probe tools failed")
    html = report(tmp_path, str(tmp_path / "results"))
    for words in ("warned by the probes", "the probe tools failed", "spark-bench quality"):
        assert words in html, words


def test_a_page_of_scores_alone(tmp_path: Path) -> None:
    a_quality_file(tmp_path / "results", "q")
    html = report(tmp_path, str(tmp_path / "results"))
    assert 'id="quality"' in html
    for absent in ('id="best"', 'id="matrix"', 'id="pareto"', "exactly measured"):
        assert absent not in html


def test_the_page_shows_scores_with_their_runs_and_is_as_before_without_any(tmp_path: Path) -> None:
    scored(tmp_path / "results", GOOD, POOR)
    html = report(tmp_path, str(tmp_path / "results"))
    for words in (
        "93.3",
        "89.9 to 95.6",
        "<b>12</b><span>runs",
        "-26.7",
        "6 runs with wrong answers",
    ):
        assert words in html, words
    save(variants(), tmp_path / "plain")
    assert 'id="quality"' not in report(tmp_path, str(tmp_path / "plain"))


def test_hostile_answers_are_text(tmp_path: Path) -> None:
    result = a_quality("0" * 12)
    items = tuple(
        replace(item, id=f"{HOSTILE}{number}", answer=HOSTILE, read=HOSTILE, expected=HOSTILE)
        for number, item in enumerate(result.items)
    )
    config = replace(result.config, task=HOSTILE, model=HOSTILE)
    (tmp_path / "q.json").write_bytes(encode_result(replace(result, items=items, config=config)))
    html = report(tmp_path, str(tmp_path / "q.json"))
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert" in html
