"""`spark-bench all --quality`: scores in rows, variants whose answers can't be used, resuming."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_project import FakeProject
from msgspec import UNSET
from msgspec.structs import replace
from quality_samples import a_quality, an_item
from spark_bench.compare.scores import ScorePart, proven_losses, score_part, why_unusable
from spark_bench.history.database import HistoryStore
from spark_bench.results.codec import read_quality
from spark_bench.results.suite_results import CaseRow, SuiteLoad, SuiteResults, SuiteScore
from spark_bench.suite.child import ChildExit
from spark_bench.suite.deploy import DeployFinding, DeployReport, deploy_failure, probe_warnings
from spark_bench.suite.suite_rows import mark_pareto, mark_wrong
from spark_bench.suite.suite_tables import (
    by_throughput,
    by_ttft,
    matrix_head,
    matrix_rows,
    render_summary,
    rows_csv,
)
from suite_samples import a_row

QUALITY = ("--quality", "arith", "--quality-limit", "60")


def part(outcomes: str, **changes: object) -> ScorePart:
    return score_part(Path("q.json"), a_quality(outcomes, **changes))


def row(name: str, throughput: float, variant: str = "", right: int = 9) -> CaseRow:
    score = SuiteScore(right=right, answered=10, score=right / 10, low=0.1, high=0.95, file="f")
    scores = {"arith": score}
    return a_row(name, throughput, 100.0, variant=variant, model="org/m", scores=scores)


# ---- whether answers can be used


@pytest.mark.parametrize(
    ("outcomes", "why"),
    [
        pytest.param("1" * 10, "", id="all right"),
        pytest.param("1" + "0" * 299, "", id="a weak model"),
        pytest.param("0" * 10, "arith: none of 10 answers is right", id="none right"),
        pytest.param("0" * 9, "", id="too few to conclude"),
        pytest.param("1" + "-" * 40, "arith: 40 of 41 answers are empty", id="silent"),
        pytest.param("1" * 20 + "-" * 20, "", id="half are silent"),
    ],
)
def test_answers_that_cannot_be_used(outcomes: str, why: str) -> None:
    assert why_unusable(part(outcomes)).startswith(why)
    assert bool(why_unusable(part(outcomes))) == bool(why)


def test_answers_that_a_limit_cut_off_are_not_wrong() -> None:
    items = tuple(replace(an_item(n, "-"), finish_reason="length") for n in range(50))
    assert why_unusable(part("-" * 50, items=items)) == ""


def test_a_right_answer_without_anything_to_read_is_not_silent() -> None:
    items = tuple(replace(an_item(n, "1"), read=None) for n in range(50))
    assert why_unusable(part("1" * 50, items=items)) == ""


@pytest.mark.parametrize(
    ("best", "other", "proven"),
    [
        pytest.param("1" * 190 + "0" * 10, "1" * 190 + "0" * 10, False, id="equal"),
        pytest.param("1" * 190 + "0" * 10, "1" * 180 + "0" * 20, False, id="5 points, by chance"),
        pytest.param("1" * 190 + "0" * 10, "1" * 150 + "0" * 50, True, id="20 points"),
        pytest.param("1" * 10, "0" * 5 + "1" * 5, False, id="50 points of ten items"),
    ],
)
def test_a_loss_against_the_best_variant_must_be_proven(
    best: str, other: str, proven: bool
) -> None:
    losses = proven_losses({"eagle": [part(best)], "dspark": [part(other)]})
    assert set(losses) == ({"dspark"} if proven else set())
    if proven:
        assert losses["dspark"].startswith("arith: 20.0 points below eagle, at least ")


def test_scores_of_other_items_are_not_set_against_each_other() -> None:
    losses = proven_losses({"a": [part("1" * 200)], "b": [part("0" * 200, sha256="3" * 64)]})
    assert losses == {}


# ---- rows


def test_wrong_answers_are_marked_and_ranked_last_and_off_the_front() -> None:
    rows = [row("a", 100.0, "x"), row("b", 900.0, "y"), row("c", 50.0, "z")]
    answers = {("a", "arith"): part("1" * 200), ("b", "arith"): part("0" * 200)}
    judged = mark_wrong(rows, answers | {("c", "arith"): part("1" * 199 + "0")}, 5.0)
    assert [each.status for each in judged] == ["OK", "WRONG_ANSWERS", "OK"]
    assert "none of 200 answers is right; arith: 100.0 points below x" in judged[1].diagnosis
    assert [each.name for each in by_throughput(judged)] == ["a", "c", "b"]
    assert [each.name for each in by_ttft(judged)][-1] == "b"
    assert [each.pareto for each in mark_pareto(judged)] == [True, None, False]


def test_a_judgment_is_taken_back_if_the_rows_no_longer_show_it() -> None:
    wrong = replace(row("a", 1.0), status="WRONG_ANSWERS", diagnosis="old")
    [judged] = mark_wrong([wrong], {("a", "arith"): part("1" * 20)}, 5.0)
    assert (judged.status, judged.diagnosis) == ("OK", "")


def test_rows_that_were_not_measured_stay_as_they_are() -> None:
    rows = [a_row("a", None, None), a_row("b", 1.0, 1.0), a_row("c", None, None, status="SKIPPED")]
    assert mark_wrong(rows, {}, 5.0) == rows


def test_scores_have_columns_of_their_own_only_where_there_are_any() -> None:
    plain = [a_row("a", 1.0, 1.0)]
    assert "arith" not in rows_csv(plain)
    assert matrix_head(plain)[-1] == "Status"
    rows = [*plain, row("b", 2.0)]
    assert matrix_head(rows)[-2:] == ("arith %", "Status")
    assert [cells[-2] for cells in matrix_rows(rows)] == ["-", "90.0 (10..95)"]
    first, second = csv.DictReader(io.StringIO(rows_csv(rows)))
    assert (first["arith_score"], second["arith_score"]) == ("", "0.9")
    assert (second["arith_low"], second["arith_high"]) == ("0.1", "0.95")


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("probe-arithmetic", "WRONG_ANSWERS"),
        ("probe-unread", "STARTUP_FAILED"),
        ("gpu-memory", "STARTUP_FAILED"),
    ],
)
def test_a_deploy_that_a_probe_ended_has_wrong_answers(key: str, status: str) -> None:
    finding = DeployFinding("the probe is answered wrong", key=key)
    report = DeployReport(1, "failed", "switch", (finding,))
    failure = deploy_failure(ChildExit(1, ["it failed"], 1.0), report, 900.0)
    assert failure
    assert failure.status == status


DOUBT = DeployFinding(
    "the probe tools failed: no call", level="warning", key="probe-tools", where="spark-1"
)


@pytest.mark.parametrize(
    ("findings", "sentence"),
    [
        ((), ""),
        ((DOUBT, DOUBT), "spark-1: the probe tools failed: no call"),
        ((DeployFinding("3 right", level="warning", key="memory"),), ""),
        ((DeployFinding("probes = 'off'", level="warning", key="probes-off"),), "probes = 'off'"),
    ],
)
def test_what_the_probes_of_a_deploy_doubt(
    findings: tuple[DeployFinding, ...], sentence: str
) -> None:
    assert probe_warnings(DeployReport(1, "changed", "end", findings)) == sentence
    assert probe_warnings(None) == ""


def test_a_warned_row_is_marked_wherever_it_stands() -> None:
    rows = [row("a", 100.0, "x"), replace(row("b", 90.0, "y"), warned="the probe tools failed")]
    assert [cells[-1] for cells in matrix_rows(rows)] == ["OK", "OK, warned"]
    first, second = csv.DictReader(io.StringIO(rows_csv(rows)))
    assert (first["warned"], second["warned"]) == ("", "the probe tools failed")
    assert "warned" not in rows_csv(rows[:1])
    load = SuiteLoad(profile="short", num_prompts=1, input_len=1, output_len=1)
    suite = SuiteResults(
        timestamp="", config=load, total_time_seconds=1, models_tested=2, results=tuple(rows)
    )
    summary = render_summary(suite)
    assert summary.count("b y  ") == 3 and summary.count("  warned by the probes\n") == 2
    assert "Warned by the deploy's probes, and why\n\nb y: the probe tools failed" in summary
    answers = {(name, "arith"): part("1" * 200) for name in "ab"}
    assert mark_wrong(rows, answers, 5.0)[1].warned == "the probe tools failed"


# ---- as typed


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProject]:
    with FakeProject(tmp_path / "project") as project:
        yield project


def test_every_model_is_scored_and_a_resume_sends_nothing_again(
    fake: FakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "history.sqlite3"))
    fake.fails(a="doubted", b="wrong")
    done = fake.all("--yes", "--models", "a,b", *QUALITY)
    assert done.code == 1
    assert fake.statuses == {"a": "OK", "b": "WRONG_ANSWERS"}
    assert "b: WRONG_ANSWERS: arith: none of 60 answers is right" in done.out
    assert "arith %" in (fake.out / "summary.txt").read_text()
    rows = {each.name: each for each in fake.results.results}
    assert rows["a"].by_task["arith"].right == 60
    assert rows["a"].warned == "fake-1: the probe tools failed"
    assert rows["b"].warned is UNSET
    result = read_quality(fake.out / rows["b"].by_task["arith"].file)
    assert (result.score.right, result.config.items.limit) == (0, 60)
    assert result.config.model == "org/b"
    with HistoryStore(tmp_path / "history.sqlite3") as store:
        entries = store.entries()
    assert sorted(entry.profile for entry in entries) == ["arith", "arith", "quick", "quick"]
    assert all(Path(entry.path).parent == fake.out for entry in entries)
    again = fake.all("--yes", "--resume", "out")
    assert again.code == 1
    assert "done already" in again.err
    assert len(fake.deploys) == 2
    (fake.out / rows["a"].by_task["arith"].file).write_text("{")
    assert fake.all("--yes", "--resume", "out").code == 1
    assert [deploy["model"] for deploy in fake.deploys] == ["org/a", "org/b", "org/a"]
    assert fake.statuses == {"a": "OK", "b": "WRONG_ANSWERS"}


def test_a_suite_with_other_scores_is_another_suite(fake: FakeProject) -> None:
    assert fake.all("--yes", "--models", "a").code == 0
    done = fake.all("--yes", "--resume", "out", "--quality", "arith")
    assert done.code == 2
    assert "quality" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quality", "arit"), "did you mean arith?"),
        (("--quality", ""), "is not one of"),
        (("--quality-limit", "5"), "--quality-limit needs --quality"),
    ],
)
def test_an_unknown_task_is_refused(
    fake: FakeProject, words: tuple[str, ...], message: str
) -> None:
    done = fake.all("--yes", "--models", "a", *words)
    assert done.code == 2
    assert message in done.err
    assert not (fake.folder / "calls.log").exists()
