"""From arguments to runs: what is read, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest
from compare_samples import a_file
from result_samples import a_result
from spark_bench.compare.runs import flatten, letters, load_runs, result_part
from spark_bench.errors import BadInput
from spark_bench.metrics.bounds import Bound


def test_a_file_is_one_run_with_a_value_per_repeat(tmp_path: Path) -> None:
    runs = load_runs([str(a_file(tmp_path, "a", 100.0, 102.0)), str(a_file(tmp_path, "b", 90.0))])
    assert [(run.letter, run.repeats) for run in runs] == [("A", 2), ("B", 1)]
    assert runs[0].values("output_throughput") == [100.0, 102.0]
    assert runs[1].values("p99_ttft_ms") == [pytest.approx(1e5 / 90.0)]
    assert runs[1].values("max_icl_ms") == [pytest.approx(12.0)]
    assert runs[0].values("tokens_per_joule") == []


@pytest.mark.parametrize("pattern", ["", "/*.json", "/**/*.json"], ids=["folder", "glob", "deep"])
def test_files_of_one_argument_are_one_run(tmp_path: Path, pattern: str) -> None:
    group = tmp_path / "group"
    group.mkdir()
    a_file(group, "z", 3.0)
    a_file(group, "b", 1.0, 2.0)
    (group / "results.json").write_text('{"kind": "all"}')
    (group / "b.requests.jsonl").write_text("{}")
    other = a_file(tmp_path, "other", 9.0)
    _, run = load_runs([str(other), f"{group}{pattern}"])
    assert run.values("output_throughput") == [1.0, 2.0, 3.0]
    assert run.left_out == 1


def test_a_single_folder_gives_a_run_per_result_oldest_first(tmp_path: Path) -> None:
    for name in ("2026-2", "2026-1", "2026-3"):
        a_file(tmp_path, name, 1.0)
    runs = load_runs([str(tmp_path)])
    assert [Path(run.name).stem for run in runs] == ["2026-1", "2026-2", "2026-3"]


def test_a_result_counts_once_however_often_it_is_there(tmp_path: Path) -> None:
    a_file(tmp_path, "same", 1.0).rename(tmp_path / "copy.json")
    a_file(tmp_path, "same", 1.0)
    a_file(tmp_path, "other", 1.0)
    assert len(load_runs([str(tmp_path)])) == 2


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "[1]"
    folder.mkdir()
    a, b = a_file(folder, "a", 1.0), a_file(folder, "b", 1.0)
    assert len(load_runs([str(a), str(b)])) == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        pytest.param("none.json", "none.json does not exist: give a result file", id="absent"),
        pytest.param("none*.json", "none*.json matches no file", id="no match"),
        pytest.param(
            "empty", "no results of spark-bench run or quality in empty", id="empty folder"
        ),
        pytest.param("alone.json", "alone.json is a single run; give another", id="one run"),
        pytest.param("text.json", "text.json is not a result of spark-bench run", id="no JSON"),
        pytest.param("newer.json", "its schema version is 99", id="another schema"),
        pytest.param("lacks.json", "key `reason` is missing", id="a key is missing"),
        pytest.param("damaged", "damaged/a.json is not a result", id="damaged, in a folder"),
    ],
)
def test_unreadable_inputs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = a_file(tmp_path, "alone", 1.0).read_text()
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "text.json").write_text("no JSON")
    newer = whole.replace('"schema_version": 1', '"schema_version": 99')
    (tmp_path / "newer.json").write_text(newer)
    (tmp_path / "lacks.json").write_text(whole.replace('"reason": "",', ""))
    (tmp_path / "damaged" / "a.json").write_text(whole[:-100])
    with pytest.raises(BadInput) as caught:
        load_runs([argument])
    assert message in caught.value.format_message()
    assert isinstance(caught.value, click.UsageError)


def test_run_letters_continue_after_z() -> None:
    assert [letters(i) for i in (0, 25, 26, 51, 52, 701, 702)] == [
        *("A", "Z", "AA", "AZ", "BA", "ZZ", "AAA")
    ]


def test_flat_keeps_lists_of_plain_values() -> None:
    assert flatten({"a": {"b": [1, 2]}, "c": [{"d": 1}, {"d": 2}], "e": {}, "f": []}) == {
        "a.b": [1, 2],
        "c[0].d": 1,
        "c[1].d": 2,
    }


def test_the_throughput_with_all_slots_busy_may_be_higher_by_the_share_that_stood_idle() -> None:
    value = Bound(99.0, 100.0)
    names = ("request_throughput", "steady.output_throughput", "median_itl_ms")
    result = a_result()
    audit = msgspec.structs.replace(result.audit, idle_slots=0.2)
    bounds = dict.fromkeys(names, value)
    part = result_part(
        Path("a.json"), msgspec.structs.replace(result, repeats=(), audit=audit, bounds=bounds)
    )
    assert part.bounds == (dict(zip(names, (Bound(99.0, 125.0),) * 2 + (value,), strict=True)),)
