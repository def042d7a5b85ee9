"""A figure over time: which runs count, and how it is drawn."""

from __future__ import annotations

import pytest
from history_samples import BASE, a_run
from msgspec.structs import replace
from spark_bench.history import history_tables as plot
from spark_bench.history.entry import EntryFigure, HistoryEntry, entry_of as of_result
from spark_bench.history.history_tables import Trend, find_trend
from spark_bench.results.schema import Result


def entry_of(result: Result) -> HistoryEntry:
    from pathlib import Path

    return of_result(result, Path("x.json"))


def speed(hours: float, value: float, **more: str) -> HistoryEntry:
    return entry_of(a_run(hours, output_throughput=value, **more))


def values(trend: Trend | None) -> list[float]:
    assert trend
    return [point.value for point in trend.points]


def test_the_oldest_comes_first_with_its_interval() -> None:
    trend = find_trend([speed(0, 180), speed(9, 160), speed(5, 170)], "output_throughput")
    assert values(trend) == [160, 170, 180]
    assert trend and trend.points[-1].when == BASE
    assert (trend.points[0].low, trend.points[0].high) == (169.5, 172.5)
    # 180 over the median of 160 and 170.
    assert trend.change == pytest.approx(180 / 165 - 1)


def test_only_runs_of_one_model_load_and_number_of_nodes_are_in_one_trend() -> None:
    newest = speed(0, 180)
    others = [
        speed(1, 1, model="Qwen/Qwen2.5-7B-Instruct"),
        replace(speed(2, 2), load="10x 128/8 c8"),
        replace(speed(3, 3), nodes=1),
        speed(4, 4, status="partial"),
        replace(speed(5, 5), figures={}),
    ]
    trend = find_trend([*others, speed(6, 170), newest], "output_throughput")
    assert values(trend) == [170, 180]
    assert trend and trend.left_out == 5
    assert values(find_trend([*others, newest], "output_throughput", others[1])) == [2]


def test_the_profile_is_only_a_name() -> None:
    trend = find_trend([speed(0, 180), speed(1, 170, profile="mine")], "output_throughput")
    assert values(trend) == [170, 180]


def test_without_the_figure_there_is_no_trend() -> None:
    assert find_trend([speed(0, 180)], "tokens_per_joule") is None
    assert find_trend([], "output_throughput") is None


def test_one_run_has_no_change_and_no_plot() -> None:
    trend = find_trend([speed(0, 180)], "output_throughput")
    assert trend and trend.change is None
    lines = list(plot.trend_lines(trend))
    assert lines[0] == "output_throughput of gpt-oss-120b on 2 nodes, 10x 128/8 c4 trace:0000"
    assert lines[1] == ""
    assert lines[2].endswith("  180  [170, 172]")
    assert len(lines) == 3


def test_the_plot_fits_80_columns_without_color_and_names_each_value() -> None:
    runs = [speed(24 * day, 170 + day) for day in range(6)]
    trend = find_trend(runs, "output_throughput")
    assert trend
    lines = list(plot.trend_lines(trend))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert sum(line.count("●") for line in lines) == 6
    # The ends of both axes.
    assert "175.0┤" in text and "170.0┤" in text
    assert "11-18" in text and "11-23" in text
    for run in runs:
        output = f"{run.id[-8:]}  {run.figures['output_throughput'].value:.0f}"
        assert output in text
    assert lines[-1] == "the last is -1.7% from the median of the previous 5"


def test_a_second_plot_holds_nothing_of_the_first() -> None:
    first = find_trend([speed(0, 1), speed(5, 2)], "output_throughput")
    assert first
    before = list(plot.trend_lines(first))
    list(plot.trend_lines(replace(first, points=first.points[::-1])))
    assert list(plot.trend_lines(first)) == before


def test_runs_at_one_time_and_of_one_value_can_be_drawn() -> None:
    one = speed(0, 170)
    point = EntryFigure(170)
    same = [replace(one, id=f"{one.id}{n}", figures={"duration": point}) for n in range(2)]
    trend = find_trend(same, "duration")
    assert trend and trend.change == 0
    assert any("●" in line for line in plot.trend_lines(trend))
