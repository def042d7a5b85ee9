"""The truth lies within the bounds of every figure, whatever the moments in between were."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from made_requests import MS, S, answer, closed_loop, widened
from spark_bench.metrics.bounds import Bound, bound_figures, is_exact
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.goodput import parse_slo
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests

SLO = parse_slo("ttft=180,tpot=12,itl=25,e2e=400")


@pytest.mark.parametrize("seed", range(200))
def test_the_truth_lies_within_the_bounds(seed: int) -> None:
    rng = random.Random(seed)
    requests = [
        answer(
            index=index,
            sent=rng.randrange(500),
            ttft=rng.randrange(60, 300),
            gaps=[rng.randrange(1, 40) for _ in range(rng.randrange(1, 12))],
        )
        for index in range(rng.randrange(1, 8))
    ]
    pairs = [widened(rng, request) for request in requests]
    recorded = TimedRequests([pair[0] for pair in pairs])
    truth = msgspec.structs.asdict(summarize(TimedRequests([pair[1] for pair in pairs]), slo=SLO))
    bounds = bound_figures(recorded, summarize(recorded, slo=SLO), slo=SLO)
    assert {"duration", "concurrency", "request_goodput", "slo_attainment"} < bounds.keys()
    for name, bound in bounds.items():
        slack = 1e-9 * abs(truth[name])
        assert bound.low - slack <= truth[name] <= bound.high + slack, name


@pytest.mark.parametrize("seed", range(60))
def test_the_truth_of_the_steady_part_lies_within_its_bounds(seed: int) -> None:
    """Of the same window: what of the true times lies in it, by plain loops."""
    rng = random.Random(seed)
    slots, tokens = rng.randrange(2, 7), rng.randrange(10, 40)
    drawn = closed_loop(slots, 6 * slots, ttft=rng.randrange(20, 90), itl=9, tokens=tokens)
    pairs = [widened(rng, request) for request in drawn]
    recorded, true = TimedRequests([r for r, _ in pairs]), [t for _, t in pairs]
    summary = summarize(recorded, slots=slots)
    steady, bounds = summary.steady, bound_figures(recorded, summary)
    assert steady
    start, end = (recorded.began_ns + round(at * 1e9) for at in (steady.start, steady.end))
    inside = [int(at) for r in true for at in r.token_ns if start < at <= end]
    gaps = [
        (later - at) / MS
        for r in true
        for at, later in pairwise(r.token_ns.tolist())
        if at >= start and later <= end
    ]
    ttft = [(int(r.token_ns[0]) - r.sent_ns) / MS for r in true if start <= r.sent_ns < end]
    truth = {
        "output_tokens": len(inside),
        "output_throughput": len(inside) / (end - start) * 1e9,
        "completed": sum(start < r.token_ns[-1] <= end for r in true),
        "mean_ttft_ms": np.mean(ttft),
        "median_ttft_ms": np.median(ttft),
        "p99_ttft_ms": np.percentile(ttft, 99),
        "mean_itl_ms": np.mean(gaps),
        "median_itl_ms": np.median(gaps),
        "p99_itl_ms": np.percentile(gaps, 99),
    }
    for name, value in truth.items():
        bound = bounds[f"steady.{name}"]
        assert bound.low - 1e-6 <= value <= bound.high + 1e-6, name
        assert bound.low <= getattr(steady, name) <= bound.high, name
    seconds: dict[int, int] = {}
    began = min(r.sent_ns for r in true)
    for at in (int(at) for r in true for at in r.token_ns):
        seconds[(at - began) // S] = seconds.get((at - began) // S, 0) + 1
    best = bounds["max_output_tokens_per_s"]
    assert best.low <= max(seconds.values()) <= best.high
    assert best.low <= (summary.max_output_tokens_per_s or 0) <= best.high


def test_exact_times_have_bounds_without_width() -> None:
    whole = [answer(ttft=200, gaps=[10, 20, 30]), answer(ttft=100, gaps=[5])]
    timed = TimedRequests([replace(each, sent_by_ns=each.sent_ns) for each in whole])
    summary = summarize(timed, slo=SLO)
    bounds = bound_figures(timed, summary, slo=SLO)
    assert len(bounds) > 80
    assert bounds["max_output_tokens_per_s"] == Bound(6, 6)
    for name, bound in bounds.items():
        assert bound.low == bound.high == pytest.approx(getattr(summary, name)), name


def test_a_send_of_unknown_end_had_ended_when_the_answer_began() -> None:
    timed = TimedRequests([answer(ttft=200, gaps=[10])])
    bounds = bound_figures(timed, summarize(timed))
    assert bounds["mean_ttft_ms"] == Bound(0, 200)
    assert bounds["mean_tpot_ms"] == Bound(10, 10)


def test_a_mean_itl_is_known_better_than_its_gaps() -> None:
    """Three tokens in one read: when the second came is unknown, when the last did is known."""
    request = answer(ttft=100, gaps=[20, 0, 20])
    at = request.token_ns
    request.token_since_ns = np.array([at[0], at[0], at[2], at[3]])
    timed = TimedRequests([request])
    bounds = bound_figures(timed, summarize(timed))
    assert bounds["mean_itl_ms"] == Bound(pytest.approx(40 / 3), pytest.approx(40 / 3))  # type: ignore[arg-type]
    assert bounds["max_itl_ms"] == Bound(20, 20)
    assert (bounds["median_itl_ms"].low, bounds["median_itl_ms"].high) == (0, 20)


def test_the_clocks_error_counts_from_send_to_token_not_between_tokens() -> None:
    timed = TimedRequests([answer(ttft=100, gaps=[10, 10])])
    bounds = bound_figures(timed, summarize(timed), clock_error_ns=3 * MS)
    assert bounds["mean_ttft_ms"].high == pytest.approx(103)
    assert bounds["mean_itl_ms"].high == pytest.approx(10)


def test_nothing_answered_has_no_bounds() -> None:
    assert bound_figures(TimedRequests([]), Summary()) == {}


@pytest.mark.parametrize(
    ("name", "value", "low", "exact"),
    [
        ("mean_ttft_ms", 200.0, 198.1, True),
        ("mean_ttft_ms", 200.0, 197.9, False),
        ("p99_itl_ms", 1.0, 0.91, True),
        ("p99_itl_ms", 1.0, 0.89, False),
        ("output_throughput", 1000.0, 991.0, True),
        ("output_throughput", 1000.0, 989.0, False),
    ],
)
def test_one_percent_or_a_tenth_of_a_millisecond(
    name: str, value: float, low: float, exact: bool
) -> None:
    assert is_exact(name, value, Bound(low, value)) is exact
