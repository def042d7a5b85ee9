"""The steady window: where it begins and ends, and what is in it."""

from __future__ import annotations

import numpy as np
import pytest
from made_requests import MS, START, answer, closed_loop, failed
from spark_bench.metrics.steady import steady
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request


def test_a_closed_loop_is_steady_from_the_burst_to_the_first_free_slot() -> None:
    # Each takes 200 + 49 * 10 + 1 = 691 ms; 8 rounds, of which the last ends at 8 * 691.
    window, reason = steady(TimedRequests(closed_loop(slots=4, requests=32)), slots=4)
    assert window is not None and not reason
    assert (window.rule, window.start, window.end) == ("closed", 0.2, pytest.approx(8 * 0.691))
    # The 4 first tokens fall on the window's start, and belong to the ramp.
    assert window.output_tokens == 32 * 50 - 4
    assert window.output_throughput == pytest.approx((32 * 50 - 4) / (8 * 0.691 - 0.2))
    assert (window.completed, window.concurrency) == (32, pytest.approx(4))
    assert (window.n_ttft, window.mean_ttft_ms) == (28, 200)
    assert (window.mean_itl_ms, window.p99_itl_ms) == (10, 10)


def test_the_bursts_ttft_and_the_tail_are_left_out() -> None:
    requests = closed_loop(slots=4, requests=32)
    for request in requests[:4]:
        request.token_ns = request.token_ns - 100 * MS
        request.token_ns[0] = START + 250 * MS
    # One straggler runs on alone, slowly, for 5 s.
    requests[31].token_ns[-1] += 5000 * MS
    requests[31].done_ns += 5000 * MS
    window, _ = steady(TimedRequests(requests), slots=4)
    assert window is not None
    assert window.mean_ttft_ms == 200
    assert window.end == pytest.approx(8 * 0.691)
    whole = summarize(TimedRequests(requests), slots=4)
    assert whole.steady == window
    assert whole.output_throughput is not None
    assert window.output_throughput > 1.5 * whole.output_throughput


def test_a_failed_request_holds_its_slot_and_adds_nothing() -> None:
    requests = closed_loop(slots=2, requests=20)
    requests[7] = failed(7, "timeout", sent=3 * 691, ends=691)
    window, _ = steady(TimedRequests(requests), slots=2)
    assert window is not None
    assert window.concurrency == pytest.approx(2)
    assert window.completed == 19


def test_all_at_once_is_steady_while_all_run() -> None:
    requests = [answer(i, ttft=200 + i, gaps=[10] * (40 + i)) for i in range(10)]
    window, _ = steady(TimedRequests(requests))
    assert window is not None
    assert (window.rule, window.start, window.end) == ("closed", 0.209, pytest.approx(0.601))
    assert (window.n_ttft, window.mean_ttft_ms) == (0, None)
    assert window.concurrency == pytest.approx(10)


def test_more_slots_than_requests_are_as_many_slots_as_requests() -> None:
    requests = [answer(i, gaps=[10] * 49) for i in range(5)]
    assert steady(TimedRequests(requests), slots=64) == steady(TimedRequests(requests))


def test_an_open_loop_is_steady_from_the_first_answers_end_to_the_last_send() -> None:
    # 100 a second, each 0.69 s: 69 in flight (Little's law).
    requests = [answer(i, sent=10 * i, gaps=[10] * 49) for i in range(400)]
    window, _ = steady(TimedRequests(requests))
    assert window is not None
    assert (window.rule, window.start, window.end) == ("open", pytest.approx(0.691), 3.99)
    assert window.concurrency == pytest.approx(69, rel=0.01)
    assert window.output_throughput == pytest.approx(5000, rel=0.01)
    assert window.request_throughput == pytest.approx(100, rel=0.01)


def test_an_open_loops_window_excludes_its_edges() -> None:
    rng = np.random.default_rng(1)
    sends = np.cumsum(rng.exponential(20, 1000))
    requests = [
        answer(i, sent=float(sent), gaps=[10] * int(rng.integers(20, 400)))
        for i, sent in enumerate(sends)
    ]
    whole = summarize(TimedRequests(requests))
    offered = sum(r.output_tokens for r in requests) / (sends[-1] / 1000)
    assert whole.steady is not None and whole.output_throughput is not None
    assert whole.steady.output_throughput == pytest.approx(offered, rel=0.05)
    assert abs(whole.output_throughput - offered) > abs(whole.steady.output_throughput - offered)


def test_hidden_tokens_come_with_the_first_visible_one() -> None:
    plain = closed_loop(slots=2, requests=10)
    window, _ = steady(TimedRequests(plain), slots=2)
    for request in plain:
        request.hidden_tokens = 3
    more, _ = steady(TimedRequests(plain), slots=2)
    assert window is not None and more is not None
    assert more.output_tokens == window.output_tokens + 8 * 3


@pytest.mark.parametrize(
    "requests, says",
    [
        pytest.param([], "no request was answered", id="none"),
        pytest.param([failed(0, "http")], "no request was answered", id="all failed"),
        pytest.param([answer(gaps=[10] * 20)], "steady: 20", id="few tokens"),
        pytest.param(
            [answer(0, ttft=100, gaps=[10]), answer(1, ttft=500, gaps=[10] * 300)],
            "more requests",
            id="the tail before the ramp's end",
        ),
        pytest.param(
            [answer(0, gaps=[10] * 10), answer(1, gaps=[10] * 300)],
            "steady for 0.1 s of 3.2 s",
            id="mostly tail",
        ),
    ],
)
def test_a_run_without_a_steady_part_says_why(requests: list[Request], says: str) -> None:
    window, reason = steady(TimedRequests(requests))
    assert window is None
    assert says in reason
