"""Service level objectives: as written, and as met."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from made_requests import answer, failed, runs
from spark_bench.errors import BadInput
from spark_bench.metrics.goodput import Slo, goodput, parse_slo
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request


@pytest.mark.parametrize(
    "text, limits",
    [
        pytest.param(
            "ttft=500,tpot=50,e2e=10000", {"ttft": 500, "tpot": 50, "e2e": 10000}, id="ms"
        ),
        pytest.param("ttft=0.5s,itl=50ms", {"ttft": 500, "itl": 50}, id="units"),
        pytest.param(" scheduled_ttft = .25 s ", {"scheduled_ttft": 250}, id="spaces"),
        pytest.param("e2el=1s", {"e2el": 1000}, id="sglang's word"),
    ],
)
def test_parsed(text: str, limits: dict[str, float]) -> None:
    assert parse_slo(text) == Slo(limits)


@pytest.mark.parametrize(
    "text, says",
    [
        pytest.param("", "not a limit", id="empty"),
        pytest.param("ttft", "'ttft'", id="no value"),
        pytest.param("ttft=500,", "not a limit", id="trailing comma"),
        pytest.param("ttft=-1", "'ttft=-1'", id="negative"),
        pytest.param("ttft=0", "above 0", id="zero"),
        pytest.param("ttft=" + "9" * 400, "above 0", id="infinite"),
        pytest.param("ttft=nan", "not a limit", id="nan"),
        pytest.param("ttft=5h", "not a limit", id="unknown unit"),
        pytest.param("tftt=500", "did you mean ttft", id="misspelt"),
        pytest.param("ttft=1,ttft=2", "twice", id="twice"),
    ],
)
def test_refused_in_one_sentence_with_a_cure(text: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_slo(text)
    assert says in refused.value.message
    assert "--slo" in refused.value.message
    assert "\n" not in refused.value.message


def test_an_answer_is_good_when_it_meets_every_limit() -> None:
    requests = [
        answer(0, ttft=100, gaps=[10] * 9),
        answer(1, ttft=900, gaps=[10] * 9),
        answer(2, ttft=100, gaps=[90] * 9),
        failed(3, "timeout"),
    ]
    figures = summarize(TimedRequests(requests), slo=parse_slo("ttft=500,tpot=50"))
    assert figures.duration is not None
    assert figures.request_goodput == pytest.approx(1 / figures.duration)
    assert figures.slo_attainment == 0.25
    assert figures.slo_attainment_by_metric == {"ttft": 0.5, "tpot": 0.5}
    assert figures.goodput_slos_ms == {"ttft": 500, "tpot": 50}


def test_the_limit_itself_is_met() -> None:
    assert goodput(TimedRequests([answer(ttft=500)]), parse_slo("ttft=500")).met == 1


def test_itl_limits_the_longest_pause() -> None:
    paused = answer(gaps=[10] * 50 + [300])
    assert goodput(TimedRequests([paused]), parse_slo("tpot=50")).met == 1
    assert goodput(TimedRequests([paused]), parse_slo("itl=50")).met == 0


def test_one_token_has_no_tpot_to_miss() -> None:
    assert goodput(TimedRequests([answer()]), parse_slo("tpot=1,itl=1")).met == 1


def test_without_requests_there_is_no_attainment() -> None:
    share = goodput(TimedRequests([Request(0, failure="unsent")]), parse_slo("ttft=1"))
    assert (share.met, share.attainment, share.by_metric) == (0, None, {})


def test_without_whole_answers_there_is_no_goodput() -> None:
    figures = summarize(TimedRequests([failed(0, "http")]), slo=parse_slo("ttft=1"))
    assert (figures.request_goodput, figures.slo_attainment) == (None, 0)


@settings(max_examples=100)
@given(runs(), st.integers(1, 1000), st.integers(1, 400))
def test_goodput_matches_a_plain_loop(requests: list[Request], ttft: int, itl: int) -> None:
    met = 0
    for request in requests:
        if request.failure:
            continue
        pairs = zip(request.token_ns.tolist(), request.token_counts.tolist(), strict=True)
        deltas = [(t, k) for t, k in pairs if k]
        each = [(b - a) / 1e6 / k for (a, _), (b, k) in pairwise(deltas)]
        quick = (deltas[0][0] - request.sent_ns) / 1e6 <= ttft
        met += quick and all(value <= itl for value in each)
    slo = Slo({"ttft": float(ttft), "itl": float(itl)})
    assert goodput(TimedRequests(requests), slo).met == met
