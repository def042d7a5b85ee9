"""Confidence intervals hold the truth as often as they say."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from made_requests import answer, failed
from scipy.stats import binomtest
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.intervals import over_repeats, over_requests, wilson
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

TRIALS = 300


def test_students_t_by_hand() -> None:
    # mean 20, s 10, n 3: half width 4.302653 * 10 / sqrt(3), from a table of t.
    estimate = over_repeats([Summary(mean_ttft_ms=value) for value in (10.0, 20.0, 30.0)])
    interval = estimate["mean_ttft_ms"]
    assert (interval.estimate, interval.median, interval.n) == (20, 20, 3)
    assert interval.high - 20 == 20 - interval.low == pytest.approx(24.8414, abs=1e-4)
    assert (interval.method, interval.level) == ("student-t", 0.95)


def test_the_median_is_not_the_mean() -> None:
    estimate = over_repeats([Summary(duration=value) for value in (1.0, 2.0, 9.0)])
    assert (estimate["duration"].estimate, estimate["duration"].median) == (4, 2)


@pytest.mark.parametrize(
    "summaries",
    [
        pytest.param([], id="none"),
        pytest.param([Summary(duration=1.0)], id="one"),
        pytest.param([Summary(duration=1.0), Summary()], id="one with figures"),
    ],
)
def test_fewer_than_two_repeats_have_no_interval(summaries: list[Summary]) -> None:
    assert over_repeats(summaries) == {}


def test_repeats_cover_the_truth_19_times_of_20() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(TRIALS):
        repeats = [Summary(output_throughput=value) for value in rng.normal(100, 5, 5)]
        interval = over_repeats(repeats)["output_throughput"]
        held += interval.low <= 100 <= interval.high
    # Binomial(300, 0.95): within 3 standard deviations.
    assert abs(held / TRIALS - 0.95) < 0.04


@pytest.mark.parametrize("n", [1, 2, 10, 97, 1319])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_wilson_is_scipys(n: int, share: float) -> None:
    right = round(share * n)
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_none() -> None:
    assert wilson(0, 0) == (None, None)


def drawn(rng: np.random.Generator, n: int) -> list[Request]:
    """TTFT exponential with mean 100; one step time a request, exponential with mean 10."""
    steps = rng.exponential(10, n)
    ttfts = rng.exponential(100, n)
    return [
        answer(i, ttft=float(ttfts[i]), gaps=[float(steps[i])] * int(rng.integers(1, 9)))
        for i in range(n)
    ]


def test_requests_cover_the_truth() -> None:
    truth = {
        "mean_ttft_ms": 100,
        "median_ttft_ms": 100 * np.log(2),
        "p99_ttft_ms": 100 * np.log(100),
        "mean_tpot_ms": 10,
        "median_tpot_ms": 10 * np.log(2),
        "mean_itl_ms": 10,
    }
    rng = np.random.default_rng(2)
    held = dict.fromkeys(truth, 0)
    for trial in range(TRIALS // 2):
        estimate = over_requests(TimedRequests(drawn(rng, 200)), seed=trial)
        for key, value in truth.items():
            held[key] += estimate[key].low <= value <= estimate[key].high
    shares = {key: n / (TRIALS // 2) for key, n in held.items()}
    # A percentile bootstrap of 200 reaches its level in the middle; the 99th percentile of 200
    # rests on two values and is known to fall short.
    assert 0.8 < shares.pop("p99_ttft_ms") < 1
    assert all(0.91 < share < 0.98 for share in shares.values()), shares


def test_gaps_of_one_request_are_not_taken_as_independent() -> None:
    rng = np.random.default_rng(3)
    requests = [answer(i, gaps=[float(rng.exponential(10))] * 400) for i in range(100)]
    interval = over_requests(TimedRequests(requests))["mean_itl_ms"]
    # 100 independent values with mean and deviation 10, not 40 000 of them.
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 10 / np.sqrt(100), rel=0.4)


def test_the_estimates_are_the_runs_own_figures() -> None:
    requests = [*drawn(np.random.default_rng(4), 50), failed(50, "timeout", ends=9000)]
    figures = summarize(TimedRequests(requests))
    estimate = over_requests(TimedRequests(requests))
    assert set(estimate) > {"output_throughput", "mean_itl_ms", "p99_tpot_ms"}
    for key, interval in estimate.items():
        assert interval.estimate == pytest.approx(getattr(figures, key)), key
        assert interval.low < interval.estimate < interval.high
        assert (interval.method, interval.median) == ("bootstrap", None)


def test_the_seed_decides() -> None:
    requests = drawn(np.random.default_rng(5), 50)
    assert over_requests(TimedRequests(requests), seed=1) == over_requests(
        TimedRequests(requests), seed=1
    )
    assert over_requests(TimedRequests(requests), seed=1) != over_requests(
        TimedRequests(requests), seed=2
    )


@pytest.mark.parametrize(
    "requests, keys",
    [
        pytest.param([], set(), id="none"),
        pytest.param([failed(0, "http")], set(), id="failed"),
        pytest.param([answer(gaps=[10])], set(), id="one"),
        pytest.param(
            [answer(0), answer(1)],
            {"mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "output_throughput"},
            id="one token each",
        ),
    ],
)
def test_too_few_requests_have_no_interval(requests: list[Request], keys: set[str]) -> None:
    assert set(over_requests(TimedRequests(requests))) == keys


def test_a_thousand_requests_take_a_third_of_a_second() -> None:
    requests = drawn(np.random.default_rng(6), 1000)
    begun = time.process_time()
    over_requests(TimedRequests(requests))
    assert time.process_time() - begun < 0.3


def test_scipy_is_loaded_only_for_repeats() -> None:
    code = "import sys, spark_bench.metrics.intervals; print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("n", [51, 100, 300, 1319])
def test_wilson_holds_the_true_score(n: int) -> None:
    """Over scores of all sizes in 94 % or more of 2,000 simulated results. At single true scores it
    is less, as of every interval whose width depends on a count: 91 % at 0.99 of 50 items.
    """
    rng = np.random.default_rng(20261127)
    true = rng.uniform(0.02, 0.98, 2_000)
    ends = np.array([wilson(int(right), n) for right in rng.binomial(n, true)], np.float64)
    held = (ends[:, 0] <= true) & (true <= ends[:, 1])
    assert held.mean() >= 0.94
