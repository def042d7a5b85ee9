"""What gates find, and what they wrongly find, with the spread measured on the reference server.

compare_spread.json has that spread, and the command it was measured with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations, product

import numpy as np
import paired_trials
import pytest
from compare_samples import MEASURED, a_run, pairs
from spark_bench.compare import stats
from spark_bench.compare.gates import decides, judge_gates, parse_gates
from spark_bench.compare.request_pairs import LATENCIES
from spark_bench.compare.runs import ComparedRun

PAIRS = 1000
Runs = Iterator[paired_trials.Sample]


def outcomes(gate: str, exact: bool, **worse: float) -> Counter[str]:
    """How often the gates of five repeats failed, held, or could not be judged."""
    gates = parse_gates(gate)
    counts: Counter[str] = Counter()
    for pair in pairs(PAIRS, 5, exact, worse):
        all_of_them = {verdict.outcome for verdict in judge_gates(gates, pair)}
        counts[next(o for o in ("failed", "unjudged", "holds") if o in all_of_them)] += 1
    return counts


def test_the_fixture_matches_its_description() -> None:
    assert "--repeat 5" in MEASURED["command"]
    runs = len(MEASURED["exact"])
    for values in MEASURED["values"].values():
        assert [len(repeats) for repeats in values] == [5] * runs


@pytest.mark.parametrize(
    ("gate", "figure", "factor"),
    [
        pytest.param("output_throughput=-3%", "output_throughput", 0.97, id="throughput"),
        pytest.param("e2e=+3%", "median_e2e_latency_ms", 1.03, id="e2e"),
    ],
)
@pytest.mark.parametrize(
    ("exact", "share"),
    [
        pytest.param(True, 0.95, id="exact"),
        pytest.param(False, 0.93, id="disturbed, and judged with --anyway alone"),
    ],
)
def test_a_regression_of_three_percent_is_found(
    gate: str, figure: str, factor: float, exact: bool, share: float
) -> None:
    assert outcomes(gate, exact, **{figure: factor})["failed"] >= share * PAIRS


def test_identical_runs_raise_no_alarm() -> None:
    """Neither do they go unjudged."""
    counts = outcomes("output_throughput=-3%", True, output_throughput=1.0)
    assert counts["failed"] <= 0.01 * PAIRS
    assert counts["holds"] >= 0.99 * PAIRS


def test_several_gates_raise_no_alarm_on_identical_runs() -> None:
    """The 99th percentiles of a shared machine are often not judged, and not taken for worse."""
    gate = "output_throughput=-3%,ttft=+5%,ttft_p99=+5%,e2e=+3%"
    names = ("output_throughput", "median_ttft_ms", "p99_ttft_ms", "median_e2e_latency_ms")
    counts = outcomes(gate, True, **dict.fromkeys(names, 1.0))
    assert counts["failed"] <= 0.01 * PAIRS
    assert counts["unjudged"] > 0


def test_regressions_within_the_limit_pass() -> None:
    counts = outcomes("output_throughput=-3%", True, output_throughput=0.985)
    assert counts["holds"] >= 0.95 * PAIRS


# The command that these are the quick form of, with 2,000 pairs and each figure by itself:
# .venv/bin/python tests/support/paired_trials.py
QUICK = 300


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("gate", "spread", "slower"),
    [
        pytest.param("3%", partial(paired_trials.gpu_runs, where="two H100"), 1.03, id="two H100"),
        pytest.param("3%", partial(paired_trials.gpu_runs, where="one H100"), 1.03, id="one H100"),
        pytest.param("2.7%", partial(paired_trials.jitter_runs, pool=40), 1 / 0.973, id="jitter"),
    ],
)
def test_the_steadiest_figures_find_a_slower_server(
    gate: str, spread: Callable[[np.random.Generator, float], Runs], slower: float
) -> None:
    def counts(by: float) -> Counter[str]:
        return paired_trials.outcomes(gate, spread(rng(1), 1.0), spread(rng(2), by), QUICK)

    assert counts(slower)["failed"] >= 0.95 * QUICK
    same = counts(1.0)
    assert same["failed"] <= 0.01 * QUICK
    assert same["unjudged"] <= 0.02 * QUICK
    covered = paired_trials.coverage("median_itl_ms", spread(rng(3), 1.0), QUICK)
    assert covered >= 0.93


def test_the_mean_itl_alone_finds_nothing_of_the_sort_on_two_h100() -> None:
    first = paired_trials.gpu_runs(rng(1), 1.0, "two H100")
    second = paired_trials.gpu_runs(rng(2), 1.03, "two H100")
    assert paired_trials.outcomes("itl_mean=+3%", first, second, QUICK)["unjudged"] > 0.5 * QUICK


def recorded(which: str) -> list[ComparedRun]:
    values = paired_trials.RECORDED[which]["values"]
    samples = (
        dict(zip(values, repeats, strict=True)) for repeats in zip(*values.values(), strict=True)
    )
    return [a_run("A", **sample) for sample in samples]


def settled(gate: str, base: ComparedRun, run: ComparedRun) -> str:
    """What becomes of a group of gates."""
    verdicts = judge_gates(parse_gates(gate), [base, run])
    counting = {each.outcome for each in verdicts if decides(each, verdicts)}
    return next(o for o in ("failed", "unjudged", "holds") if o in counting)


def test_real_servers_slowed_by_a_known_time_are_found_and_their_equals_are_not() -> None:
    """SGLang on one H100: its own start of each server, and steps that spin on the GPU."""
    plain = recorded("one H100")
    by_two, by_three = (recorded(f"one H100, {share} % slower") for share in ("2.1", "3.2"))
    assert [settled("2%", *pair) for pair in product(plain, by_two)] == ["failed"] * 4
    assert [settled("3%", *pair) for pair in product(plain, by_three)] == ["failed"] * 28
    for gate in ("2%", "3%"):
        for equals in (plain, by_three):
            assert {settled(gate, *pair) for pair in permutations(equals, 2)} == {"holds"}


def test_requests_of_real_servers_in_pairs() -> None:
    """E2E and TPOT are called different in all pairs with 3.2 %, in hardly any with nothing."""
    pairs = paired_trials.RECORDED["by request"]

    def different(which: str) -> dict[str, int]:
        """By latency, in how many pairs."""
        p = [
            [stats.paired([each / 100 for each in repeats]).p()[0] for repeats in of_latency]
            for of_latency in (pairs[which][name] for name in LATENCIES)
        ]
        adjusted = np.array([stats.holm(np.array(pair)) for pair in zip(*p, strict=True)])
        return dict(zip(LATENCIES, (adjusted < 0.05).sum(axis=0).tolist(), strict=True))

    assert different("as fast") == {"e2e_latency": 1, "tpot": 1, "ttft": 1}
    assert different("2.1 % slower") == {"e2e_latency": 3, "tpot": 4, "ttft": 0}
    assert different("3.2 % slower") == {"e2e_latency": 28, "tpot": 28, "ttft": 7}
