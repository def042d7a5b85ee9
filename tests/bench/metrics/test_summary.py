"""The summary: against a slow second opinion, and by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from made_requests import MS, START, answer, closed_loop, failed, runs, second_opinion
from spark_bench.metrics.goodput import parse_slo
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.intervals import over_requests
from spark_bench.metrics.stalls import stalls
from spark_bench.metrics.summary import Summary, distributions, summarize
from spark_bench.metrics.times import TimedRequests, Times, count_in_flight
from spark_bench.record import Request


@settings(max_examples=200)
@given(runs())
def test_every_figure_matches_an_independent_calculation(requests: list[Request]) -> None:
    figures = msgspec.structs.asdict(summarize(TimedRequests(requests)))
    expected = second_opinion(requests)
    actual = {
        key: value
        for key, value in figures.items()
        if value is not None and (key.endswith("_ms") or key in expected)
    }
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_one_request_by_hand() -> None:
    figures = summarize(TimedRequests([answer(ttft=200, gaps=[10, 20, 30])]))
    assert figures.duration == pytest.approx(0.26)
    assert figures.mean_ttft_ms == 200
    assert (figures.mean_itl_ms, figures.median_itl_ms, figures.max_itl_ms) == (20, 20, 30)
    assert figures.mean_tpot_ms == 20
    assert figures.mean_e2e_latency_ms == 260
    assert figures.mean_e2e_done_ms == 261
    assert figures.output_throughput == pytest.approx(4 / 0.26)
    assert figures.total_throughput == pytest.approx(132 / 0.26)
    assert figures.concurrency == pytest.approx(1)


@pytest.mark.parametrize(
    "gaps, counts, hidden, icl",
    [
        pytest.param([10] * 7, [1] * 8, 0, 10, id="one token a delta"),
        pytest.param([40] * 7, [4] * 8, 0, 40, id="four tokens a delta"),
        pytest.param([10] * 7, [1] * 8, 3, 10, id="three hidden tokens first"),
        pytest.param([30, 10], [2, 3, 1], 0, 20, id="uneven deltas"),
        pytest.param([5, 5, 5, 5], [1, 0, 1, 0, 1], 0, 10, id="deltas without a token"),
    ],
)
def test_a_10_ms_step_is_10_ms_however_it_is_sent(
    gaps: list[float], counts: list[int], hidden: int, icl: float
) -> None:
    ttft = 200 + 10 * hidden
    request = answer(ttft=ttft, gaps=gaps, counts=counts, hidden_tokens=hidden)
    figures = summarize(TimedRequests([request]))
    assert figures.mean_itl_ms == pytest.approx(10)
    assert figures.p99_itl_ms == pytest.approx(10)
    assert figures.mean_tpot_ms == pytest.approx(10)
    assert figures.mean_icl_ms == pytest.approx(icl)
    assert figures.mean_ttft_ms == ttft


def test_hidden_tokens_are_output_too() -> None:
    request = answer(gaps=[10], hidden_tokens=3, output_tokens=5)
    assert summarize(TimedRequests([request])).total_output_tokens == 5


def test_failed_requests_are_counted_by_kind_not_averaged() -> None:
    alone = summarize(TimedRequests([answer(gaps=[10, 10])]))
    cut = answer(1, ttft=9000, gaps=[5000], failure="cut")
    both = summarize(
        TimedRequests([answer(gaps=[10, 10]), cut, failed(2, "timeout"), failed(3, "timeout")])
    )
    counts = {"failed": 3, "failures": {"cut": 1, "timeout": 2}, "peak_concurrency": 4}
    reason = {"steady": both.steady, "steady_reason": both.steady_reason}
    assert both == msgspec.structs.replace(alone, **counts, **reason)


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([], id="none"),
        pytest.param([failed(0, "refused"), failed(1, "refused")], id="all failed"),
        pytest.param([Request(0, failure="unsent")], id="unsent"),
    ],
)
def test_without_whole_answers_there_are_no_figures(requests: Sequence[Request]) -> None:
    figures = msgspec.structs.asdict(summarize(TimedRequests(requests)))
    assert figures["completed"] == 0
    assert figures["failed"] == len(requests)
    assert figures["steady_reason"]
    assert not [key for key, value in figures.items() if key.endswith("_ms") and value is not None]
    assert figures["duration"] is figures["output_throughput"] is figures["concurrency"] is None


def test_a_step_sent_as_two_deltas_counts_its_tokens_once() -> None:
    # The last words of the reasoning and the first of the answer: one step, two deltas.
    figures = summarize(TimedRequests([answer(gaps=[10, 0, 10], counts=[1, 1, 0, 1])]))
    assert figures.mean_itl_ms == pytest.approx(10)
    assert figures.max_icl_ms == pytest.approx(10)


def test_one_token_answers_have_neither_itl_nor_tpot() -> None:
    figures = summarize(TimedRequests([answer(0), answer(1, ttft=300)]))
    assert figures.mean_ttft_ms == 250
    assert figures.mean_itl_ms is figures.mean_tpot_ms is figures.p99_icl_ms is None


def test_scheduled_latency_includes_what_coordinated_omission_hides() -> None:
    late = answer(sent=500, ttft=100, gaps=[10], scheduled_ns=START)
    figures = summarize(TimedRequests([late]))
    assert (figures.mean_ttft_ms, figures.mean_scheduled_ttft_ms) == (100, 600)
    assert (figures.mean_e2e_latency_ms, figures.mean_scheduled_e2e_latency_ms) == (110, 610)


def test_a_role_and_reasoning_have_their_own_first_times() -> None:
    request = answer(ttft=200, gaps=[10, 10])
    request.first_event_ns = START + 150 * MS
    request.text_ns = int(request.token_ns[2])
    figures = summarize(TimedRequests([request]))
    assert (figures.mean_ttfc_ms, figures.mean_ttft_ms, figures.mean_ttfo_ms) == (150, 200, 220)


def test_stopped_early_is_a_whole_answer() -> None:
    figures = summarize(TimedRequests([answer(gaps=[10], asked_output=64), answer(1, gaps=[10])]))
    assert (figures.completed, figures.stopped_early, figures.failed) == (2, 1, 0)
    assert figures.total_output_tokens == 4


def test_input_tokens_are_the_requested_ones_if_the_server_reports_none() -> None:
    request = answer(0, prompt_tokens=100, asked_input=128)
    silent = answer(1, prompt_tokens=0, asked_input=128)
    assert summarize(TimedRequests([request, silent])).total_input_tokens == 228


def test_how_tokens_were_counted_is_reported_by_share() -> None:
    by_usage = answer(0, gaps=[10] * 3, counts=[1, 2, 2, 2])
    by_chunk = answer(1, gaps=[10] * 2)
    assert summarize(TimedRequests([by_usage, by_chunk])).itl_source == {
        "usage": 0.75,
        "chunk": 0.25,
    }


def test_peak_concurrency_is_the_number_of_slots() -> None:
    assert summarize(TimedRequests(closed_loop(slots=16, requests=64))).peak_concurrency == 16
    assert summarize(TimedRequests(closed_loop(slots=1, requests=5))).peak_concurrency == 1


def test_a_slot_reused_in_the_same_nanosecond_counts_once() -> None:
    first = answer(0, gaps=[10])
    second = answer(1, sent=(first.done_ns - START) / MS)
    assert count_in_flight([first, second]).peak == 1


def test_the_best_second_is_counted_in_tokens() -> None:
    request = answer(ttft=100, gaps=[100] * 19, counts=[2] * 20)
    assert summarize(TimedRequests([request])).max_output_tokens_per_s == 20


def test_keys_that_sglang_has_too_mean_the_same() -> None:
    """Keys of `result` in sglang 0.5.23, benchmark/serving.py and goodput.py."""
    spreads = {
        f"{figure}_{name}_ms"
        for figure in ("mean", "median", "std", "p90", "p95", "p99")
        for name in ("ttft", "tpot", "itl", "e2e_latency")
    }
    totals = {"duration", "completed", "total_input_tokens", "total_output_tokens"}
    rates = {f"{what}_throughput" for what in ("request", "input", "output", "total")}
    goodput = {
        "goodput_slos_ms",
        "request_goodput",
        "slo_attainment",
        "slo_attainment_by_metric",
    }
    others = {"concurrency", "max_output_tokens_per_s"}
    assert spreads | totals | rates | goodput | others <= set(Summary.__struct_fields__)


def test_a_summary_survives_json() -> None:
    figures = summarize(TimedRequests(closed_loop(4, 16)), slots=4)
    assert msgspec.json.decode(msgspec.json.encode(figures), type=Summary) == figures


def test_distributions_are_percentiles_at_fixed_points() -> None:
    requests = [answer(i, ttft=float(i), gaps=[10, 20]) for i in range(1, 102)]
    curves = distributions(TimedRequests(requests))
    at = dict(zip(curves.points, curves.ttft_ms, strict=True))
    assert (at[0], at[0.5], at[50], at[99.9], at[100]) == pytest.approx((1, 1.5, 51, 100.9, 101))
    assert len(curves.points) == len(set(curves.points)) == 209
    assert set(curves.itl_ms) >= {10, 20}
    assert distributions(TimedRequests([])).itl_ms == ()


def test_times_are_computed_once_for_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[Times] = []
    of = Times.of
    monkeypatch.setattr(Times, "of", lambda requests: passes.append(of(requests)) or passes[-1])
    timed = TimedRequests([*closed_loop(4, 12), failed(12, "cut")])
    summarize(timed, slo=parse_slo("ttft=500"))
    distributions(timed)
    stalls(timed)
    over_requests(timed)
    reconcile({}, {}, timed)
    assert len(passes) == 1


def test_a_million_gaps_take_well_under_a_second() -> None:
    rng = np.random.default_rng(0)
    requests = []
    for index in range(1000):
        stamps = START + np.cumsum(rng.exponential(1e7, 1001)).astype(np.int64)
        ones = np.ones(1001, np.int32)
        requests.append(Request(index, START, START, token_ns=stamps, token_counts=ones))
    begun = time.process_time()
    figures = summarize(TimedRequests(requests))
    assert time.process_time() - begun < 1
    assert figures.mean_itl_ms == pytest.approx(10, rel=0.01)
