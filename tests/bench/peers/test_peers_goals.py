"""Verdicts: a goal is reached by the median, and what was not measured is missed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest
from peers.__main__ import rotated
from peers.goals import Middle, PeerComparison, at_least, at_most, goals, paced_rate, within
from peers.processes import ProcessUsage, process_cpu_seconds, resident, tree
from peers.report import plain_table, verdict_table
from peers.scoring import KEYS


def stamp(error_ms: float, case: str = "256 streams") -> dict[str, Any]:
    """As stamps.py gives it, with every figure off by the same."""
    return {
        "case": case,
        "errors": dict.fromkeys(KEYS, error_ms),
        "truths": dict.fromkeys(KEYS, 10.0) | {"ttft_mean": 200.0},
        "stamp_us": {"p50": 3.0, "p99": 60.0, "max": 99.0},
    }


def compared(*stamps: dict[str, Any]) -> PeerComparison:
    return PeerComparison([], stamps, [], [], {})


def step(
    offered: int, *, number: int = 0, shared: float = 0.0, itl: float = 10.0
) -> dict[str, Any]:
    return {
        "round": number,
        "offered": offered,
        "shared": shared,
        "true_itl_p50": itl,
        "errors": {"itl_p50": 0.0},
    }


def test_a_goal_is_judged_by_the_median() -> None:
    middle = Middle.of([1.0, 2.0, 9.0])
    assert middle == Middle(2.0, 1.0, 9.0, 3)
    assert at_most("n", middle, 2.0, "x", "{:.0f}").reached
    assert not at_most("n", middle, 1.9, "x", "{:.0f}").reached
    assert at_least("n", middle, 2.0, "x", "{:.0f}").reached
    assert not at_least("n", middle, 2.1, "x", "{:.0f}").reached
    assert middle.text("{:.0f}") == "2 (1..9)"


def test_an_unmeasured_goal_is_missed() -> None:
    judged = goals(compared(), ["256 streams"], "256 streams")
    assert {goal.verdict for goal in judged} == {"MISSED"}
    assert "not measured" in verdict_table(judged)


@pytest.mark.parametrize(
    ("errors", "reached"),
    [
        pytest.param((0.09, -0.09, 0.09), True, id="below 100 us"),
        pytest.param((0.09, 0.09, 5.0), True, id="one disturbed round of three"),
        pytest.param((0.2, 0.2, 0.0), False, id="0.2 ms of 10 ms"),
        pytest.param((-0.2, -0.2, 0.0), False, id="too low is as wrong"),
    ],
)
def test_accuracy_allows_100_us_or_half_a_percent(errors: tuple[float, ...], reached: bool) -> None:
    assert within(compared(*map(stamp, errors)), "256 streams").reached is reached


def test_half_a_percent_of_200_ms_is_a_millisecond() -> None:
    disturbed = stamp(0.0)
    disturbed["errors"]["ttft_mean"] = 0.9
    assert within(compared(disturbed), "256 streams").reached
    disturbed["errors"]["ttft_mean"] = 1.1
    assert not within(compared(disturbed), "256 streams").reached


def test_a_ladder_ends_where_the_client_falls_behind() -> None:
    first = [step(30_000), step(40_000), step(50_000, shared=0.02), step(60_000)]
    second = [step(30_000, number=1), step(40_000, number=1, itl=11.0)]
    assert paced_rate(first) == Middle.of([40_000])
    assert paced_rate([*first, *second]) == Middle.of([40_000, 30_000])
    assert paced_rate([]) is None


def test_each_round_another_client_begins() -> None:
    names: list[Any] = ["a", "b", "c"]
    assert [rotated(names, n)[0] for n in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rotated(names, 2)) == names


def test_the_cpu_of_a_tree_is_sampled_while_it_runs() -> None:
    busy = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\n"
    usage = ProcessUsage()
    began = time.monotonic_ns()
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while process.poll() is None:
            usage.look(process.pid)
            time.sleep(0.002)
    assert usage.between(began, time.monotonic_ns()) > 0.15
    assert usage.peak_rss > 5_000_000
    assert (process_cpu_seconds(process.pid), resident(process.pid)) == (0.0, 0)


def test_a_process_tree_starts_with_its_root() -> None:
    assert next(tree(os.getpid())) == os.getpid()


def test_columns_line_up() -> None:
    lines = plain_table("t", ["a", "bb"], [["long", "1"], ["x", "22"]]).splitlines()
    assert lines[1:] == ["t", "a     bb", "--------", "long   1", "x     22"]
