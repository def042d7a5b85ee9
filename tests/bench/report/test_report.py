"""What the report says: which run is the best, which make a curve, what is left out."""

from __future__ import annotations

import doctest
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace
from report_samples import LOADS, SLOTS, a_provenance, bounds, result, save, several, variants
from simulated_engine import Engine, Load, simulate
from spark_bench.client.audit import Audit, Spread
from spark_bench.errors import BadInput
from spark_bench.formats import digits
from spark_bench.load.sweep import knee
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.queues import queue
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.times import TimedRequests
from spark_bench.report.charts.load_curves import families
from spark_bench.report.charts.over_time import choose_timeline_run, read_timeline, thin_line
from spark_bench.report.charts.pareto import pareto_front, thin_dots
from spark_bench.report.charts.plot import fitting_axis, spread_labels
from spark_bench.report.figure_tables import all_runs_table, best_runs, waits_table
from spark_bench.report.gather import Gathered, gather_runs
from spark_bench.report.named_runs import NamedRun, name_runs
from spark_bench.report.page import collect_remarks, exactness_text, origins
from spark_bench.report.page_table import number_cells
from spark_bench.report.report_run import report_run
from spark_bench.results.schema import Result


def named(*results: Result) -> tuple[NamedRun, ...]:
    runs = tuple(report_run(each, Path(f"{each.id}.json")) for each in results)
    return name_runs(Gathered(runs))[0]


def test_the_best_run_of_each_model_is_its_fastest_complete_one() -> None:
    result = best_runs(named(*several()))
    assert [each.model for each in result] == [
        "gpt-oss-120b",
        "Qwen2.5-72B-Instruct-AWQ",
        "Llama-3.3-70B-Instruct",
        "DeepSeek-R1",
    ]
    throughputs = [each.run.value("output_throughput") for each in named(*several())]
    assert result[0].run.value("output_throughput") == max(filter(None, throughputs))


def test_a_partial_run_is_used_only_if_its_model_has_no_other() -> None:
    fast = replace(result(1, concurrency=8), status="partial", reason="Ctrl-C")
    slow = result(0, concurrency=1)
    assert best_runs(named(fast, slow))[0].run.entry.id == slow.id
    assert best_runs(named(fast))[0].run.entry.id == fast.id


def test_a_fully_failed_run_is_a_row_with_its_failure_kinds() -> None:
    table = all_runs_table(named(result(failure="http_503"), result(1)))
    heads = [column.head for column in table.columns]
    row = next(row for row in table.rows if row[heads.index("Failed")].value)
    assert row[heads.index("Failed")].text == "16 of 16"
    assert row[heads.index("Failed")].detail == "16 http_503"
    assert {row[heads.index(head)].text for head in ("Output", "TTFT p50", "ITL p99")} == {"-"}


def test_every_run_is_in_the_matrix_once_and_can_be_linked_to() -> None:
    runs = named(*several(), *several())
    table = all_runs_table(runs)
    assert len(table.rows) == len(runs) == len(set(table.anchors))


def test_queues_and_prompts_have_a_table() -> None:
    streams = [
        simulate(engine, Load(30, closed=6, tokens=(30, 60))).requests
        for engine in (Engine(slots=2), Engine(prefill_ms=1))
    ]
    timed = list(map(TimedRequests, streams))
    runs = [replace(result(n), queue=queue(t), stalls=stalls(t)) for n, t in enumerate(timed)]
    table = waits_table(named(*runs))
    assert table
    heads = [column.head for column in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows]
    assert [row["Slots"].text for row in rows] == ["2", "no limit"]
    assert [row["In flight"].text for row in rows] == ["6", "6"]
    assert rows[0]["Queue"].value and not rows[1]["Queue"].value
    assert waits_table(named(replace(result(), stalls=None))) is None


def test_a_figure_is_shown_with_its_interval() -> None:
    within = Interval(estimate=100.0, low=96.0, high=104.0, n=5, method="student-t", median=100.0)
    run = result(intervals={"output_throughput": within})
    assert "± 4" in [cell.detail for cell in all_runs_table(named(run)).rows[0]]


def test_a_figure_is_shown_with_what_its_digits_do_not_hold() -> None:
    exact, wide, older = result(0), result(1), result(2)
    exact = replace(exact, bounds=bounds(exact.summary, 0.995))
    wide = replace(wide, bounds=bounds(wide.summary, 0.5))
    runs = named(exact, wide, older)
    heads = [column.head for column in all_runs_table(runs).columns]
    rows = [
        {head: cell.detail for head, cell in zip(heads, row, strict=True)}
        for row in all_runs_table(runs).rows
    ]
    assert exact.summary.p99_ttft_ms
    assert rows[0]["TTFT p99"] == f"≤{digits(0.005 * exact.summary.p99_ttft_ms)} off"
    p99 = wide.summary.p99_ttft_ms
    assert p99 and rows[1]["TTFT p99"] == f"{digits(0.5 * p99)} to {digits(p99)}"
    assert rows[2]["TTFT p99"] == rows[0]["E2E p50"] == ""
    output = rows[1]["Output"]
    assert output.startswith("± ") and output.endswith(
        f" to {digits(wide.summary.output_throughput)}"
    )
    assert "Below a figure, ≤" in exactness_text(runs)
    assert "Below" not in exactness_text(named(older))


def test_curves_are_of_runs_that_differ_in_their_load_alone() -> None:
    other = result(50, concurrency=2)
    other = replace(other, config=replace(other.config, input_len=4096))
    (group,) = families(named(*several(), other))
    by_label = {series.label: series for series in group.series}
    assert by_label["gpt-oss-120b"].loads == tuple(map(float, LOADS))
    assert all(each.run.config.input_len == 128 for each in by_label["gpt-oss-120b"].runs)


def test_a_rate_makes_curves_too() -> None:
    runs = []
    for index, rate in enumerate((1.0, 2.0, 4.0)):
        each = result(index)
        config = replace(each.config, request_rate=rate, concurrency=None)
        runs.append(replace(each, config=config))
    (group,) = families(named(*runs))
    assert (group.over, group.series[0].loads) == ("request_rate", (1.0, 2.0, 4.0))


def test_the_knee_is_that_of_a_sweep() -> None:
    (group,) = families(named(*several()))
    for series in group.series[:2]:
        points = [each.run.at(load) for load, each in zip(series.loads, series.runs, strict=True)]
        wanted = knee(points)
        assert wanted and series.knee == wanted.value == SLOTS


def test_the_newest_run_at_each_load_is_drawn() -> None:
    old, new, other = result(0), result(1), result(2, concurrency=8)
    (group,) = families(named(new, old, other))
    assert [each.run.entry.id for each in group.series[0].runs] == [new.id, other.id]
    assert group.series[0].older == 1


def test_failed_and_partial_runs_are_not_in_curves_nor_on_the_front() -> None:
    failed = result(0, concurrency=1, failure="cut")
    partial = replace(result(1, concurrency=2), status="partial")
    assert not families(named(failed, partial))
    assert not pareto_front(named(failed, partial))


def test_variants_of_a_model_are_distinguished_by_what_differs() -> None:
    (group,) = families(named(*variants()))
    assert [series.label for series in group.series] == ["gpt-oss-120b tp=1", "gpt-oss-120b tp=2"]


_figures = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1, max_size=30)


@given(_figures)
def test_the_pareto_front_has_unbeaten_runs(figures: list[tuple[float, float]]) -> None:
    base = result()
    runs = named(
        *(
            replace(
                base,
                id=f"{index:04}",
                summary=_with(base, median_ttft_ms=ttft, output_throughput=throughput),
            )
            for index, (ttft, throughput) in enumerate(figures)
        )
    )
    for dot in pareto_front(runs):
        beaten = any(
            ttft <= dot.ttft_ms
            and throughput >= dot.throughput
            and (ttft, throughput) != (dot.ttft_ms, dot.throughput)
            for ttft, throughput in figures
        )
        assert not (dot.front and beaten)
        twins = [
            d
            for d in pareto_front(runs)
            if (d.ttft_ms, d.throughput) == (dot.ttft_ms, dot.throughput)
        ]
        assert beaten or any(twin.front for twin in twins)


def test_thinning_keeps_the_front() -> None:
    base = result()
    runs = named(
        *(
            replace(
                base,
                id=f"{index:04}",
                summary=_with(base, median_ttft_ms=10.0 + index, output_throughput=1000.0 - index),
            )
            for index in range(700)
        )
    )
    dots = pareto_front(runs)
    thinned = thin_dots(dots)
    assert [dot for dot in dots if dot.front] == [dot for dot in thinned if dot.front]
    assert len(thinned) <= 251


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=3000), st.integers(2, 500))
def test_a_thinned_line_keeps_its_peaks(values: list[float], most: int) -> None:
    line = tuple((float(index), value) for index, value in enumerate(values))
    thinned = thin_line(line, most)
    assert len(thinned) <= most or len(thinned) == len(line)
    assert set(thinned) <= set(line)
    assert list(thinned) == sorted(thinned)
    assert max(y for _, y in thinned) == max(values)
    assert min(y for _, y in thinned) == min(values)


def test_the_timeline_is_of_the_newest_run_with_samples_or_of_the_one_wanted() -> None:
    untimed = replace(result(3), server=None, nodes=None)
    runs = named(result(0), result(1), untimed)
    newest = choose_timeline_run(runs, None)
    assert newest and newest.run.entry.id == result(1).id
    wanted = choose_timeline_run(runs, result(0).id[:15])
    assert wanted and wanted.run.entry.id == result(0).id
    for word, words in (("x", "not one of these"), ("2026", "several"), (untimed.id, "no samples")):
        with pytest.raises(BadInput, match=words):
            choose_timeline_run(runs, word)
    assert choose_timeline_run(named(untimed), None) is None


def test_a_timeline_has_queue_running_throughput_and_the_power_of_each_node(
    tmp_path: Path,
) -> None:
    save([result(concurrency=32)], tmp_path)
    ((only,), _) = name_runs(gather_runs([str(tmp_path)]))
    timeline = read_timeline(only)
    lines = {(panel.title, line) for panel in timeline.panels for line, _ in panel.lines}
    assert lines == {
        ("Requests", "running"),
        ("Requests", "queued"),
        ("Generated", ""),
        ("GPU power", "spark-1"),
        ("GPU power", "spark-2"),
    }


def test_shared_remarks_are_merged_worst_first() -> None:
    note = ("The clock was set.",)
    runs = named(*(result(i, notes=note) for i in range(3)), result(9, failure="timeout"))
    remarks = collect_remarks(runs)
    assert [(each.about, len(each.runs)) for each in remarks] == [
        ("Failed requests", 1),
        ("Note", 3),
    ]
    assert remarks[0].cure


def test_exactness_is_the_worst_of_all_runs() -> None:
    audit = Audit(
        clock="process", lag_us=Spread(10.0, 4000.0, 5000.0), late_us=Spread(1.0, 2.0, 3.0)
    )
    output = exactness_text(named(result(0), result(1, audit=audit)))
    assert "come from the kernel in 1 of 2 runs" in output
    assert "at most 4,000 µs later and sent at most 2.00 µs late" in output
    assert "32 of 32 prompts" in output


def test_an_unknown_kind_of_failure_is_still_reported() -> None:
    odd = result(failure="cut")
    odd = replace(odd, summary=_with(odd, failures={"moonshine": 16}))
    assert "moonshine" in collect_remarks(named(odd))[0].text


def test_runs_with_the_same_provenance_share_it() -> None:
    other = replace(a_provenance(), deployment=None)
    shared = origins(named(result(0), result(1), result(2, provenance=other)))
    assert [len(about.runs) for _, about in shared] == [2, 1]


def test_folders_files_and_globs_give_each_result_once(tmp_path: Path) -> None:
    folder = save(several()[:4], tmp_path / "some" / "deeper")
    (tmp_path / "other.json").write_text('{"not": "ours"}')
    file = next(iter(folder.iterdir()))
    words = [str(tmp_path), str(file), f"{folder}/*.json"]
    assert len(gather_runs(words).runs) == 4


def test_a_damaged_file_is_noted_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    folder = save(several()[:2], tmp_path)
    broken = sorted(folder.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-100])
    gathered = gather_runs([str(folder)])
    assert len(gathered.runs) == 1
    assert broken.name in gathered.damaged[0]
    with pytest.raises(BadInput, match=broken.name):
        gather_runs([str(broken)])


@pytest.mark.parametrize("words", [(), ("nowhere",), (".",)], ids=["default", "missing", "empty"])
def test_no_result_is_an_error_with_a_cure(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"spark-bench run|result file"):
        gather_runs(words)


@given(st.lists(st.floats(0, 200), max_size=9), st.floats(8, 16))
def test_labels_are_moved_apart_and_stay_inside(wanted: list[float], gap: float) -> None:
    places = spread_labels(wanted, gap, 0, 200)
    ordered = sorted(places)
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(ordered))
    assert all(-1e-6 <= place <= 200 + 1e-6 for place in places)


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=50))
def test_an_axis_holds_its_values_and_has_ticks(values: list[float]) -> None:
    axis = fitting_axis(values)
    assert axis.low <= min(values) and max(values) <= axis.high * (1 + 1e-9)
    assert 2 <= len(axis.ticks) <= 12
    assert all(axis.low <= tick <= axis.high * (1 + 1e-9) for tick in axis.ticks)


def test_an_interval_is_rounded_to_two_digits() -> None:
    runs = named(result())
    half = runs[0].run.value("output_throughput") or 0.0
    detail = next(
        cell.detail for cell in all_runs_table(runs).rows[0] if cell.detail.startswith("±")
    )
    assert float(detail[2:]) == pytest.approx(0.02 * half, rel=0.05)


def test_figures_of_a_column_have_as_many_decimals() -> None:
    assert [cell.text for cell in number_cells([1234.5, None, 98.76])] == ["1,234", "-", "99"]


@pytest.mark.parametrize("module", ["named_runs", "page_table", "charts.over_time", "charts.plot"])
def test_examples_in_docstrings_hold(module: str) -> None:
    outcome = doctest.testmod(import_module(f"spark_bench.report.{module}"))
    assert outcome.attempted and not outcome.failed


def _with(run: Result, **changes: object) -> object:
    return replace(run.summary, **changes)
