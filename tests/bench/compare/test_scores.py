"""Scores beside each other: what is refused, what is told, what gates say of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from compare_samples import a_file
from msgspec import UNSET
from quality_samples import a_quality, a_quality_file, an_item, quality_files
from spark_bench.compare.compare_export import comparison_csv, comparison_json, comparison_markdown
from spark_bench.compare.compare_tables import agreement_lines, comparison_tables
from spark_bench.compare.comparison import CantCompare, compare_runs, gate_error, verdict_line
from spark_bench.compare.gates import parse_gates
from spark_bench.compare.scores import first_difference, match_answers, score_part
from spark_bench.display.terminal import print_all
from spark_bench.errors import BadInput
from spark_bench.results.quality_schema import AnsweredCall

GOOD, WORSE = "1" * 180 + "0" * 20, "1" * 150 + "0" * 50


def compared(folder: Path, *outcomes: str, gate: str | None = None, **changes: Any) -> Any:
    return compare_runs(quality_files(folder, outcomes, **changes), gate=gate)


def test_two_scores_of_the_same_items_are_paired(tmp_path: Path) -> None:
    [row] = compared(tmp_path, "1111100000", "1100110000").scores
    assert [score.score for score in row.scores] == [0.5, 0.4]
    apart = row.differences[1]
    assert (apart.items, apart.lost, apart.won) == (10, 2, 1)
    assert apart.difference == pytest.approx(-0.1)
    assert apart.low < -0.1 < 0 < apart.high
    assert apart.verdict == "unclear"


@pytest.mark.parametrize(
    ("second", "verdict"),
    [(WORSE, "worse"), (GOOD, "unclear"), ("1" * 200, "better")],
)
def test_a_difference_beyond_chance_is_called_so(tmp_path: Path, second: str, verdict: str) -> None:
    [row] = compared(tmp_path, GOOD, second).scores
    assert row.differences[1].verdict == verdict


def test_several_results_of_a_task_count_by_their_mean(tmp_path: Path) -> None:
    for name, outcomes in (("a/1", "1100"), ("a/2", "1000"), ("b/3", "1111")):
        a_quality_file((tmp_path / name).parent, Path(name).name, outcomes)
    comparison = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")])
    [row] = comparison.scores
    assert [(score.right, score.answers) for score in row.scores if score] == [(3, 8), (4, 4)]
    apart = row.differences[1]
    assert apart
    assert (apart.items, apart.lost, apart.won) == (4, 0, 2.5)
    assert "A: 2 results of arith, whose answers count as one's mean" in comparison.notes


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"sha256": "1" * 64}, "arith: items", id="other items"),
        pytest.param({"thinking": "on"}, "arith: thinking", id="thinking"),
        pytest.param({"endpoint": "completions"}, "arith: endpoint", id="endpoint"),
        pytest.param({"temperature": 1.0}, "arith: temperature", id="temperature"),
        pytest.param({"max_tokens": 64}, "arith: max_tokens", id="limit"),
        pytest.param({"extra_body": {"top_p": 0.1}}, "arith: extra_body", id="more fields"),
        pytest.param({"status": "partial"}, "arith: status", id="partial"),
    ],
)
def test_scores_of_other_items_or_protocols_are_refused(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    files = [str(a_quality_file(tmp_path, "a")), str(a_quality_file(tmp_path, "b", **changes))]
    with pytest.raises(CantCompare) as caught:
        compare_runs(files)
    assert field in caught.value.message
    anyway = compare_runs(files, anyway=True)
    assert any(field in note for note in anyway.notes)


@pytest.mark.parametrize("changes", [{"concurrency": 1}, {"timeout": 9.0}, {"command": ("x",)}])
def test_what_decides_no_answer_may_differ(tmp_path: Path, changes: dict[str, Any]) -> None:
    files = [str(a_quality_file(tmp_path, "a")), str(a_quality_file(tmp_path, "b", **changes))]
    assert compare_runs(files).forbidding == ()


def test_partial_scores_are_refused_even_if_all_are(tmp_path: Path) -> None:
    with pytest.raises(CantCompare) as caught:
        compared(tmp_path, "11", "11", status="partial")
    assert "arith: status: partial (A, B)" in caught.value.message


def test_speed_and_scores_are_compared_together(tmp_path: Path) -> None:
    for name, outcomes, factor in (("a", GOOD, 1.0), ("b", WORSE, 0.5)):
        (tmp_path / name).mkdir()
        a_file(tmp_path / name, f"run-{name}", *(100 * factor + step for step in range(5)))
        a_quality_file(tmp_path / name, f"score-{name}", outcomes)
    comparison = compare_runs(
        [str(tmp_path / "a"), str(tmp_path / "b")], gate="arith=-2pts,output_throughput=-3%"
    )
    assert [(v.gate.name, v.outcome) for v in comparison.verdicts] == [
        ("arith", "failed"),
        ("output_throughput", "failed"),
    ]
    row = comparison.matrix.names.index("output_throughput")
    assert (
        comparison.matrix.verdict(row, 1) == comparison.scores[0].differences[1].verdict == "worse"
    )


def test_of_one_folder_with_both_only_the_runs_are_compared(tmp_path: Path) -> None:
    a_file(tmp_path, "a", 1.0, 1.1)
    a_file(tmp_path, "b", 1.0, 1.1)
    a_quality_file(tmp_path, "c")
    comparison = compare_runs([str(tmp_path)])
    assert len(comparison.matrix.runs) == 2
    assert comparison.scores == ()
    assert any("left out 1 files" in note for note in comparison.notes)


def test_of_one_folder_of_scores_each_is_a_run(tmp_path: Path) -> None:
    quality_files(tmp_path, ["11", "10", "00"])
    [row] = compare_runs([str(tmp_path)]).scores
    assert [score.score for score in row.scores if score] == [1.0, 0.5, 0.0]


# ---- answers


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ("It is 42.", "It is 43.", 3),
        ("It is 42.", "It  is\n42. Done.", 4),
        ("", "It", 1),
        ("It is", "", 1),
        ("!!!!!", "It is", 1),
    ],
)
def test_the_place_of_the_first_word_that_differs(first: str, second: str, place: int) -> None:
    assert first_difference(first.split(), second.split()) == place


def test_answers_agree_by_value_and_word_for_word() -> None:
    one = a_quality("1111")
    items = list(one.items)
    other = a_quality("1100")
    changed = (
        items[0],
        # Other words for the same value.
        _with(items[1], answer="It comes to exactly 1."),
        other.items[2],
        # A call more, though the text is the same.
        _with(items[3], calls=(AnsweredCall(name="add", arguments="{}"),), read="3", right=True),
    )
    parts = [score_part(Path("a"), one), score_part(Path("b"), _with(one, items=changed))]
    matched = match_answers(*parts)
    assert (matched.answers, matched.same_value, matched.same_text) == (4, 3, 1)
    assert (matched.median_place, matched.earliest_place) == (4, 1)


def test_tokens_give_the_place_only_if_all_differing_answers_have_them() -> None:
    one = a_quality("11")
    tokens = [_with(item, tokens=("a", "b", item.id)) for item in one.items]
    ends = [_with(item, answer="else", tokens=("a", "b")) for item in one.items]
    before, after = _with(one, items=tuple(tokens)), _with(one, items=tuple(ends))
    # Where the kept tokens of one end, the place is the one after them.
    matched = match_answers(score_part(Path("a"), before), score_part(Path("b"), after))
    assert (matched.places, matched.median_place, matched.earliest_place) == ("token", 3, 3)
    mixed = _with(one, items=(ends[0], _with(ends[1], tokens=UNSET)))
    matched = match_answers(score_part(Path("a"), before), score_part(Path("b"), mixed))
    assert (matched.places, matched.earliest_place) == (UNSET, 1)


def _with(struct: Any, **changes: Any) -> Any:
    from msgspec.structs import replace

    return replace(struct, **changes)


def test_without_answers_values_still_agree() -> None:
    one = score_part(Path("a"), a_quality("1110"))
    other = score_part(Path("b"), a_quality("1110", answers_kept=False))
    matched = match_answers(one, other)
    assert (matched.same_value, matched.same_text, matched.median_place) == (4, None, None)


def test_two_unreadable_answers_agree_only_if_they_are_the_same() -> None:
    unread = _with(an_item(0, "0"), read=None)
    one = a_quality("0", items=(unread,))
    other = a_quality("0", items=(_with(unread, answer="!!!!"),))
    parts = [score_part(Path(name), each) for name, each in (("a", one), ("b", other))]
    assert match_answers(*parts).same_value == 0
    assert match_answers(parts[0], parts[0]).same_value == 1


# ---- gates


@pytest.mark.parametrize(
    ("text", "limit"), [("arith=-2pts", 2.0), ("Tools = -0.5 pts", 0.5), ("gsm8k=-10pts", 10.0)]
)
def test_gates_on_scores_are_read(text: str, limit: float) -> None:
    [gate] = parse_gates(text)
    assert (gate.limit, gate.unit, gate.higher) == (limit, "pts", True)
    assert gate.name == text.partition("=")[0].strip().lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("arith=+2pts", "how far the score may fall", id="wrong way"),
        pytest.param("arith=-0pts", "above 0 and below 100", id="nothing"),
        pytest.param("arith=-100pts", "above 0 and below 100", id="all"),
        pytest.param("arith=-2%", "for a task's score, arith=-2pts", id="percent"),
        pytest.param("throughput=-2pts", "its unit is pts; give %", id="a figure"),
        pytest.param("ttft=+2pts", "its unit is pts; give % or ms", id="a latency"),
        pytest.param("arith=-2pts,ARITH=-3pts", "two limits for arith", id="twice"),
    ],
)
def test_an_invalid_gate_on_a_score_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_gates(text)
    assert message in caught.value.format_message()


@pytest.mark.parametrize(
    ("second", "gate", "outcome"),
    [
        pytest.param(GOOD, "arith=-5pts", "holds", id="the same"),
        pytest.param(GOOD, "arith=-2pts", "unjudged", id="the same, too few for the limit"),
        pytest.param(WORSE, "arith=-5pts", "failed", id="15 points"),
        pytest.param(WORSE, "arith=-40pts", "holds", id="15 points, and more allowed"),
        pytest.param("1" * 200, "arith=-2pts", "holds", id="better"),
        pytest.param("1" * 178 + "0" * 22, "arith=-2pts", "unjudged", id="within chance"),
    ],
)
def test_a_gate_holds_only_where_the_interval_says_so(
    tmp_path: Path, second: str, gate: str, outcome: str
) -> None:
    [verdict] = compared(tmp_path, GOOD, second, gate=gate).verdicts
    assert verdict.outcome == outcome
    error = gate_error([verdict])
    assert (error is None) == (outcome == "holds")
    if outcome == "unjudged":
        assert error
        assert error.exit_code == 2
        assert "200 items are too few: use about" in error.message


def test_unknown_tasks_are_not_judged(tmp_path: Path) -> None:
    [verdict] = compared(tmp_path, "11", "11", gate="tools=-5pts").verdicts
    assert verdict_line(verdict) == (
        "gate tools=-5pts can't be judged for B: A has no score of tools, only of arith"
    )


def test_items_without_anything_in_common_are_not_judged(tmp_path: Path) -> None:
    moved = tuple(_with(item, id=f"x{item.id}") for item in a_quality("11").items)
    files = [str(a_quality_file(tmp_path, "a", "11"))]
    files.append(str(a_quality_file(tmp_path, "b", "11", items=moved, sha256="2" * 64)))
    comparison = compare_runs(files, gate="arith=-5pts", anyway=True)
    assert "no answered item in common" in verdict_line(comparison.verdicts[0])
    assert comparison.scores[0].differences == (None, None)


# ---- what is shown


def test_every_form_has_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared(tmp_path, GOOD, WORSE)
    print_all(comparison_tables(comparison))
    shown = capsys.readouterr().out
    for words in ("180 of 200", "85.1 to 93.4", "-15.0 pts", "worse", "McNemar's test"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert "| `arith`, % | 90.0 | 75.0 | -15.0 pts (" in comparison_markdown(comparison)
    [row] = csv.DictReader(io.StringIO(comparison_csv(comparison)))
    assert (row["figure"], row["A"], row["B"], row["B pts"]) == (
        "score.arith",
        "90.0",
        "75.0",
        "-15.0",
    )
    [task] = json.loads(comparison_json(comparison))["scores"]
    assert task["runs"][1]["difference"]["lost"] == 30
    [line] = agreement_lines(comparison)
    assert line.startswith("arith: 85.0 % of 200 answers agree in value, 85.0 % word for word; ")
    assert line.endswith("; right only in A: 30, only in B: 0")


def test_a_csv_of_both_keeps_its_figures_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        a_file(tmp_path / name, f"run-{name}", 1.0, 1.1)
        a_quality_file(tmp_path / name, f"score-{name}")
    text = comparison_csv(compare_runs([str(tmp_path / "a"), str(tmp_path / "b")]))
    names = [row["figure"] for row in csv.DictReader(io.StringIO(text))]
    assert names[0] == "output_throughput"
    assert names[-1] == "score.arith"
