"""Limits: how they are read, and how they are held against runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from compare_samples import a_run, with_bounds
from spark_bench.compare.comparison import gate_error, verdict_line
from spark_bench.compare.gates import (
    GateFailed,
    GateUnjudged,
    GateVerdict,
    decides,
    judge_gates,
    parse_gates,
)
from spark_bench.compare.runs import ComparedRun
from spark_bench.errors import BadInput

BASE = [100.0, 100.2, 99.8, 100.1, 99.9]


def scaled(factor: float, values: Sequence[float] = BASE) -> list[float]:
    return [value * factor for value in values]


def held(gate: str, *runs: ComparedRun) -> list[GateVerdict]:
    return judge_gates(parse_gates(gate), runs)


@pytest.mark.parametrize(
    ("text", "name", "limit", "unit"),
    [
        pytest.param("output_throughput=-3%", "output_throughput", 3.0, "%", id="a key"),
        pytest.param("throughput=-0.5%", "output_throughput", 0.5, "%", id="short"),
        pytest.param("ttft_p99=+5%", "p99_ttft_ms", 5.0, "%", id="p99"),
        pytest.param("p99_ttft=+5%", "p99_ttft_ms", 5.0, "%", id="the other way round"),
        pytest.param("itl_p50=+20 ms", "median_itl_ms", 20.0, "ms", id="p50, ms"),
        pytest.param("e2e=+150%", "median_e2e_latency_ms", 150.0, "%", id="more than double"),
        pytest.param("steady.output_throughput=-3%", "steady.output_throughput", 3.0, "%", id="."),
        pytest.param("tokens_per_joule=-3%", "tokens_per_joule", 3.0, "%", id="power"),
        pytest.param("Duration = +2%", "duration", 2.0, "%", id="spaces, capitals"),
    ],
)
def test_gates_are_read(text: str, name: str, limit: float, unit: str) -> None:
    [gate] = parse_gates(text)
    assert (gate.name, gate.limit, gate.unit) == (name, limit, unit)


def test_a_limit_alone_is_one_of_the_steadiest_figures_each() -> None:
    gates = parse_gates("2.5%, ttft=+20%")
    assert [gate.text for gate in gates] == [
        "output_throughput=-2.5%",
        "steady.output_throughput=-2.5%",
        "median_itl_ms=+2.5%",
        "median_tpot_ms=+2.5%",
        "ttft=+20%",
    ]
    assert [gate.group for gate in gates] == ["2.5%"] * 4 + [""]


WIDE = [80.0, 120.0, 110.0, 95.0, 100.0]


@pytest.mark.parametrize(
    ("itl", "steady", "error"),
    [
        pytest.param(BASE, BASE, None, id="all hold"),
        pytest.param(BASE, WIDE, None, id="one holds, one can't be judged"),
        pytest.param(WIDE, WIDE, GateUnjudged, id="none can be judged"),
        pytest.param([each * 1.03 for each in BASE], WIDE, GateFailed, id="one fails"),
    ],
)
def test_a_group_fails_with_one_and_is_unjudged_with_all(
    itl: list[float], steady: list[float], error: type[Exception] | None
) -> None:
    def run(letter: str, itl: list[float]) -> ComparedRun:
        figures = {"steady.output_throughput": steady, "median_itl_ms": itl}
        return a_run(letter, **figures)

    verdicts = held("3%", run("A", BASE if itl != WIDE else WIDE), run("B", itl))
    assert len(verdicts) == 4  # two figures are missing
    assert type(gate_error(verdicts)) is (error or type(None))
    outcomes = {verdict.outcome: decides(verdict, verdicts) for verdict in verdicts}
    assert outcomes["unjudged"] is (error is GateUnjudged)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is not a gate: give 3% for the steadiest figures", id="empty"),
        pytest.param("ttft", "'ttft' is not a gate", id="no limit"),
        pytest.param("=-3%", "is not a gate", id="no name"),
        pytest.param("ttft=+5%,", "'' is not a gate", id="a comma at the end"),
        pytest.param("tfft_p99=+5%", "did you mean ttft_p99", id="unknown"),
        pytest.param("ttft=5%", "'5%' is not a limit", id="no sign"),
        pytest.param("ttft=+five%", "'+five%' is not a limit", id="no number"),
        pytest.param("ttft=+5s", "'+5s' is not a limit", id="another unit"),
        pytest.param("ttft=-5%", "how far it may rise, such as +5%", id="wrong way, latency"),
        pytest.param("throughput=+3%", "may fall, such as -3%", id="wrong way, throughput"),
        pytest.param("throughput=-3ms", "its unit is ms; give %", id="no time"),
        pytest.param("ttft=+5", "its unit is missing; give % or ms", id="no unit"),
        pytest.param("throughput=-5", "its unit is missing; give %", id="no unit, rate"),
        pytest.param("ttft=+0%", "must be above 0", id="nothing"),
        pytest.param("throughput=-100%", "below 100%", id="all"),
        pytest.param("concurrency=-3%", "has no better direction", id="no direction"),
        pytest.param("ttft=+5%,ttft_p50=+6%", "two limits for median_ttft_ms", id="twice"),
    ],
)
def test_an_invalid_gate_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_gates(text)
    assert message in caught.value.format_message()
    assert "--gate" in caught.value.format_message()


@pytest.mark.parametrize(
    ("gate", "figure", "factor", "outcome"),
    [
        pytest.param("throughput=-3%", "output_throughput", 1.0, "holds", id="the same"),
        pytest.param("throughput=-3%", "output_throughput", 0.98, "holds", id="worse, within"),
        pytest.param("throughput=-3%", "output_throughput", 0.97, "failed", id="at the limit"),
        pytest.param("throughput=-3%", "output_throughput", 0.9, "failed", id="far beyond"),
        pytest.param("throughput=-3%", "output_throughput", 1.2, "holds", id="better"),
        pytest.param("ttft=+5%", "median_ttft_ms", 1.05, "failed", id="latency, at the limit"),
        pytest.param("ttft=+5%", "median_ttft_ms", 1.03, "holds", id="latency, within"),
        pytest.param("ttft=+5%", "median_ttft_ms", 0.5, "holds", id="latency, better"),
        pytest.param("ttft=+5ms", "median_ttft_ms", 1.05, "failed", id="ms, at the limit"),
        pytest.param("ttft=+5ms", "median_ttft_ms", 1.04, "holds", id="ms, within"),
    ],
)
def test_a_regression_as_large_as_the_limit_fails(
    gate: str, figure: str, factor: float, outcome: str
) -> None:
    runs = a_run("A", **{figure: BASE}), a_run("B", **{figure: scaled(factor)})
    [verdict] = held(gate, *runs)
    assert verdict.outcome == outcome


def test_a_spread_too_wide_is_no_verdict_but_an_error_with_its_cure() -> None:
    wide = [80.0, 95.0, 100.0, 110.0, 120.0]
    other = [95.0, 120.0, 80.0, 110.0, 100.0]
    first, second = a_run("A", output_throughput=wide), a_run("B", output_throughput=other)
    [verdict] = held("throughput=-3%", first, second)
    assert verdict.outcome == "unjudged"
    assert "too wide for 5 repeats" in verdict.why
    assert "--repeat" in verdict.why
    assert isinstance(gate_error([verdict]), GateUnjudged)


def test_a_larger_regression_fails_in_spite_of_such_a_spread() -> None:
    wide = [90.0, 95.0, 100.0, 110.0, 120.0]
    runs = a_run("A", output_throughput=wide), a_run("B", output_throughput=scaled(0.4, wide))
    [verdict] = held("throughput=-3%", *runs)
    assert verdict.outcome == "failed"


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        pytest.param(BASE, [100.0], "B has 1 repeat", id="one repeat"),
        pytest.param([100.0], BASE, "A has 1 repeat", id="one repeat of the baseline"),
        pytest.param(BASE, [], "B has no output_throughput", id="missing"),
        pytest.param(BASE, [0.0, 1.0], "which has no percentage", id="zero"),
    ],
)
def test_an_unjudged_gate_says_why(first: list[float], second: list[float], why: str) -> None:
    runs = a_run("A", output_throughput=first), a_run("B", output_throughput=second)
    [verdict] = held("throughput=-3%", *runs)
    assert verdict.outcome == "unjudged"
    assert why in verdict.why
    assert why in str(gate_error([verdict]))


def test_two_repeats_can_be_judged() -> None:
    runs = a_run("A", output_throughput=BASE[:2]), a_run("B", output_throughput=scaled(0.5)[:2])
    assert held("throughput=-5%", *runs)[0].outcome == "failed"


def test_each_run_is_compared_with_the_first_and_one_failure_fails() -> None:
    runs = [
        a_run(letter, output_throughput=scaled(by))
        for letter, by in (("A", 1), ("B", 1), ("C", 0.9))
    ]
    verdicts = held("throughput=-3%", *runs)
    assert [(v.run, v.outcome) for v in verdicts] == [("B", "holds"), ("C", "failed")]
    error = gate_error(verdicts)
    assert isinstance(error, GateFailed)
    assert error.exit_code == 1
    assert "gate throughput=-3% failed for C: -10.0 % (99%: -10." in error.message
    assert "for B" not in error.message


def test_a_failure_is_listed_before_an_unjudged_gate() -> None:
    runs = [a_run("A", output_throughput=BASE), a_run("B", output_throughput=scaled(0.5))]
    assert isinstance(gate_error(held("ttft=+5%,throughput=-3%", *runs)), GateFailed)
    assert gate_error(held("throughput=-60%", *runs)) is None


def test_a_line_has_the_change_as_the_figure_changed_and_the_power() -> None:
    runs = a_run("A", median_ttft_ms=BASE), a_run("B", median_ttft_ms=scaled(1.02))
    [verdict] = held("ttft=+5ms", *runs)
    assert verdict_line(verdict).startswith("gate ttft=+5ms holds for B: +2.0 ms (99%: +1.")
    assert "95% of comparisons like this find a regression of" in verdict_line(verdict)


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.03], ids=["fine", "middling", "coarse"])
def test_errors_are_as_rare_as_stated_whatever_the_spread(spread: float) -> None:
    """Normal repeats: identical runs fail in <= 1 %, a regression at the limit passes in <= 1 %."""
    rng = np.random.default_rng(13)
    trials = 1500

    def outcomes(factor: float) -> list[str]:
        verdicts: list[str] = []
        for _ in range(trials):
            first, second = np.exp(rng.normal(3, spread, (2, 5)))
            runs = a_run("A", output_throughput=first.tolist())
            other = a_run("B", output_throughput=(second * factor).tolist())
            verdicts.append(held("throughput=-3%", runs, other)[0].outcome)
        return verdicts

    # 1 % of 1500, and three standard errors.
    assert outcomes(1.0).count("failed") <= 26
    assert outcomes(0.97).count("holds") <= 26


def test_the_stated_detectable_regression_is_found() -> None:
    rng = np.random.default_rng(17)

    def verdict(factor: float) -> GateVerdict:
        first, second = np.exp(rng.normal(3, 0.01, (2, 5)))
        runs = a_run("A", output_throughput=first.tolist())
        other = a_run("B", output_throughput=(second * factor).tolist())
        return held("throughput=-3%", runs, other)[0]

    detectable = float(np.median([verdict(1.0).detectable or 0.0 for _ in range(500)]))
    failures = [verdict(1 - detectable / 100).outcome == "failed" for _ in range(1000)]
    assert 0.9 < np.mean(failures) < 0.99


@pytest.mark.parametrize(
    ("gate", "factor", "less", "more", "outcome"),
    [
        pytest.param("throughput=-3%", 0.98, 0.0, 0.0, "holds", id="exact, 2 % lower"),
        pytest.param("throughput=-3%", 0.98, 0.005, 0.0, "holds", id="it may be 2.5 % lower"),
        pytest.param("throughput=-3%", 0.98, 0.02, 0.0, "failed", id="lower, perhaps by 4 %"),
        pytest.param("throughput=-3%", 0.95, 0.0, 0.01, "failed", id="at least 4 % lower"),
        pytest.param("throughput=-3%", 0.95, 0.0, 0.06, "unjudged", id="or not lower at all"),
        pytest.param("ttft=+3%", 1.02, 0.0, 0.005, "holds", id="2.5 % longer at most"),
        pytest.param("ttft=+3%", 1.02, 0.0, 0.02, "failed", id="longer, perhaps by 4 %"),
        pytest.param("ttft=+3%", 1.05, 0.01, 0.0, "failed", id="at least 4 % longer"),
        pytest.param("ttft=+3%", 1.05, 0.06, 0.0, "unjudged", id="or not longer at all"),
        pytest.param("ttft=+3ms", 1.02, 0.0, 0.005, "holds", id="2.5 ms longer at most"),
        pytest.param("ttft=+3ms", 1.02, 0.0, 0.02, "failed", id="longer, perhaps by 4 ms"),
    ],
)
def test_what_the_bounds_leave_open_is_not_judged(
    gate: str, factor: float, less: float, more: float, outcome: str
) -> None:
    figures = {"output_throughput": BASE, "median_ttft_ms": BASE}
    base = a_run("A", **figures)
    other = a_run("B", **{name: scaled(factor) for name in figures})
    [verdict] = held(gate, base, with_bounds(other, less, more))
    assert verdict.outcome == outcome
    # The same of the baseline: what it may be more is what the other may be less.
    [mirrored] = held(gate, with_bounds(base, more, less), other)
    assert mirrored.outcome == outcome
    if outcome == "unjudged":
        assert "measure on an otherwise idle client" in verdict.why
