"""Stalls are found, and given to whom they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_requests import START, answer, closed_loop, failed
from simulated_engine import Engine, Load, simulate
from spark_bench.metrics.stalls import Stall, stalls
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

TOKENS = 200


def streams(
    n: int, pauses: Sequence[tuple[float, float, Sequence[int]]] = (), *, jitter: float = 0.5
) -> list[Request]:
    """n streams of 200 tokens and 10 ms, each in a phase of its own. pauses: (when, ms, whom):
    what these would get after `when` ms comes that much later, the first of it at once."""
    rng = np.random.default_rng(7)
    requests = []
    for index in range(n):
        times = 100 + rng.uniform(0, 10) + 10 * np.arange(TOKENS) + rng.normal(0, jitter, TOKENS)
        for when, ms, whom in pauses:
            if index in whom:
                later = np.flatnonzero(times > when)
                times[later] += when + ms - times[later[0]] + rng.uniform(0, 0.3)
        requests.append(answer(index, ttft=float(times[0]), gaps=np.diff(times).tolist()))
    return requests


def only(stalls_: Sequence[Stall]) -> Stall:
    assert len(stalls_) == 1
    return stalls_[0]


def test_a_steady_run_has_no_stalls() -> None:
    result = stalls(TimedRequests(streams(32)))
    assert result.median_ms == pytest.approx(10, rel=0.02)
    assert (result.counts, result.total_ms, result.top) == ({}, {}, ())
    assert result.threshold_ms == pytest.approx(30, rel=0.02)


@pytest.mark.parametrize(
    "whom, whose, request_",
    [
        pytest.param(range(32), "engine", None, id="all"),
        pytest.param(range(1, 32), "engine", None, id="all but one"),
        pytest.param(range(10), "partial", None, id="some"),
        pytest.param([5], "request", 5, id="one"),
    ],
)
def test_a_stall_is_attributed_by_its_streams(
    whom: Sequence[int], whose: str, request_: int | None
) -> None:
    result = stalls(TimedRequests(streams(32, [(1000, 200, whom)])))
    stall = only(result.top)
    assert (stall.whose, stall.streams, stall.running) == (whose, len(whom), 32)
    assert stall.request == request_
    assert stall.at == pytest.approx(1.0, abs=0.011)
    assert stall.ms == pytest.approx(205, abs=6)
    assert result.counts == {whose: 1}
    assert result.total_ms == {whose: stall.ms}


def test_each_stall_is_counted_and_the_longest_comes_first() -> None:
    pauses = [(500, 100, range(8)), (900, 300, range(8)), (1300, 150, [3]), (1600, 120, [0, 1])]
    result = stalls(TimedRequests(streams(8, pauses)))
    assert result.counts == {"engine": 2, "request": 1, "partial": 1}
    assert [stall.whose for stall in result.top] == ["engine", "request", "partial", "engine"]
    assert [stall.ms for stall in result.top] == sorted((s.ms for s in result.top), reverse=True)
    assert len(stalls(TimedRequests(streams(8, pauses)), top=2).top) == 2


def test_only_streams_that_were_running_count() -> None:
    # 4 of 8 had ended before; the pause of the others is the engine's.
    early = [answer(i, ttft=100, gaps=[10.0] * 50) for i in range(4)]
    late = streams(8, [(1000, 200, range(8))])[4:]
    stall = only(stalls(TimedRequests(early + late)).top)
    assert (stall.whose, stall.streams, stall.running) == ("engine", 4, 4)


def test_waiting_for_the_first_token_is_no_stall() -> None:
    waiting = answer(99, ttft=3000, gaps=[10.0] * 10)
    stall = only(stalls(TimedRequests([*streams(8, [(1000, 200, range(8))]), waiting])).top)
    assert (stall.whose, stall.running) == ("engine", 8)


def test_a_lone_streams_stall_is_not_attributed() -> None:
    stall = only(stalls(TimedRequests(streams(1, [(1000, 200, [0])]))).top)
    assert (stall.whose, stall.streams, stall.running, stall.request) == ("alone", 1, 1, 0)


def test_a_later_cut_request_still_counts_as_running() -> None:
    requests = streams(2, [(1000, 200, [0])])
    requests[1].failure = "cut"
    assert only(stalls(TimedRequests(requests)).top).running == 2


def test_times_are_since_the_first_send_failed_or_not() -> None:
    requests = streams(8, [(1000, 200, range(8))])
    first = failed(8, "http")
    first.sent_ns = START - 1_000_000_000
    assert only(stalls(TimedRequests([*requests, first])).top).at == pytest.approx(2.0, abs=0.011)


def test_short_gaps_of_a_fast_run_are_no_stalls() -> None:
    # 0.1 ms a token with 4 ms hiccups: what a busy client machine does by itself.
    gaps = [0.1] * 99 + [4.0] + [0.1] * 99
    assert stalls(TimedRequests([answer(i, gaps=gaps) for i in range(4)])).counts == {}


def test_a_run_with_a_wide_spread_has_a_wide_threshold() -> None:
    # Prefills among the steps: every third step takes 45 ms, the others 5 to 15.
    rng = np.random.default_rng(8)
    gaps = np.where(np.arange(300) % 3 == 0, 45, rng.uniform(5, 15, 300)).tolist()
    assert stalls(TimedRequests([answer(i, gaps=gaps) for i in range(4)])).counts == {}
    assert stalls(TimedRequests([answer(i, gaps=[*gaps, 200.0]) for i in range(4)])).counts == {
        "engine": 1
    }


def test_merged_reads_are_not_stalls_and_hide_none() -> None:
    # Two deltas in each read: 0 and 20 ms for 10 and 10.
    gaps = [0.0, 20.0] * 50
    assert stalls(TimedRequests([answer(i, gaps=gaps) for i in range(4)])).counts == {}
    paused = [*gaps, 0.0, 90.0, *gaps]
    result = stalls(TimedRequests([answer(i, gaps=paused) for i in range(4)]))
    assert (result.median_ms, result.threshold_ms, result.counts) == (20, 60, {"engine": 1})


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([], id="none"),
        pytest.param([failed(0, "refused")], id="failed"),
        pytest.param([answer(gaps=[10, 900, 10])], id="few gaps"),
    ],
)
def test_too_few_gaps_give_no_figures(requests: list[Request]) -> None:
    assert stalls(TimedRequests(requests)).threshold_ms is None


def test_a_closed_loop_of_equals_has_none() -> None:
    assert stalls(TimedRequests(closed_loop(slots=8, requests=64))).counts == {}


def halves(first: float, second: float, length: float, other: float | None = None) -> list[Request]:
    """Two replicas of eight streams each, in step, that stall and go on at these times."""
    requests = []
    for index in range(16):
        replica, rng = index % 2, np.random.default_rng(index)
        times = 100 + 3 * replica + 10 * np.arange(TOKENS) + rng.uniform(0, 0.3, TOKENS)
        until, ms = (second, other or length) if replica else (first, length)
        later = np.flatnonzero(times > until - ms)
        times[later] += until - times[later[0]] + rng.uniform(0, 0.3)
        requests.append(answer(index, ttft=float(times[0]), gaps=np.diff(times).tolist()))
    return requests


@pytest.mark.parametrize(("apart", "other"), [(2.5, None), (4, None), (2.5, 120), (0.5, 300)])
def test_two_stalls_that_end_within_milliseconds_stay_two(apart: float, other: float) -> None:
    result = stalls(TimedRequests(halves(1000, 1000 + apart, 200, other)))
    assert result.counts == {"partial": 2}
    assert sorted(stall.streams for stall in result.top) == [8, 8]


def test_streams_that_are_not_in_step_and_pause_together_have_one_stall() -> None:
    """The pause delays each in its own phase: their ends spread over a whole step."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        requests = []
        for index in range(32):
            times = 100 + rng.uniform(0, 10) + 10 * np.arange(TOKENS)
            times[times > 1000] += 200
            requests.append(answer(index, ttft=float(times[0]), gaps=np.diff(times).tolist()))
        assert only(stalls(TimedRequests(requests)).top).streams == 32


def test_streams_that_begin_within_a_stall_are_part_of_it() -> None:
    """As SGLang reads several prompts in a row: each new stream waits for those after it."""
    engine = Engine(prefills="alone", prefill_ms=300)
    result = stalls(TimedRequests(simulate(engine, Load(16, closed=8, tokens=(60, 60))).requests))
    assert result.counts == {"engine": 2}
    assert {stall.streams for stall in result.top} == {7}


@pytest.mark.parametrize("prefills", ["between", "alone", "pieces"])
@pytest.mark.parametrize("seed", range(12))
def test_a_stall_names_the_requests_whose_prompts_were_read(prefills: Any, seed: int) -> None:
    engine = Engine(prefills=prefills, prefill_ms=150, pieces=3, jitter=0.05)
    load = Load(60, rate=2, tokens=(60, 120), prompts=(0.8, 2))
    truth = simulate(engine, load, seed)
    result = stalls(TimedRequests(truth.requests), top=1000)
    assert result.top and result.prefills
    for stall in result.top:
        begin, end = 1000 * stall.at, 1000 * stall.at + stall.ms
        read = {index for index, at, to in truth.stops if at < end - 5 and to > begin - 20}
        assert set(stall.prompts or ()) <= read, (stall, read)
    # A stream that ends between two pieces of a prompt has no gap at its first token.
    named = sum(bool(stall.prompts) for stall in result.top)
    assert named == result.prefills.stalls >= (0.9 if prefills == "pieces" else 1) * len(result.top)
    assert result.prefills.p99_share is not None and result.prefills.p99_share > 0.8
    assert result.prefills.others_p99_itl_ms == pytest.approx(11.2, abs=1.5)


def test_pauses_without_a_first_token_are_nobodys_prompt() -> None:
    pauses = tuple((2000.0 + 400 * n, 120.0) for n in range(8))
    truth = simulate(Engine(prefill_ms=2, pauses=pauses), Load(8, closed=8, tokens=(600, 600)))
    result = stalls(TimedRequests(truth.requests))
    assert result.counts == {"engine": 8}
    assert not any(stall.prompts for stall in result.top)
    assert result.prefills
    assert (result.prefills.stalls, result.prefills.p99_share) == (0, 0)


@pytest.mark.parametrize("seed", range(12))
def test_prompts_read_elsewhere_cause_none_of_the_tail(seed: int) -> None:
    """First tokens come all the time, in ordinary gaps and in those of random pauses."""
    rng = np.random.default_rng(seed)
    pauses = tuple((at, 60.0) for at in np.cumsum(rng.exponential(400, 60)).tolist())
    engine = Engine(prefills="apart", prefill_ms=100, pauses=pauses, jitter=0.1)
    truth = simulate(engine, Load(200, rate=8, tokens=(40, 120)), seed)
    prefills = stalls(TimedRequests(truth.requests)).prefills
    assert prefills and prefills.p99_share is not None
    assert prefills.p99_share < 0.1
    assert prefills.gaps > 0.05


def test_where_each_gap_has_a_first_token_there_is_no_remark() -> None:
    truth = simulate(Engine(prefills="apart"), Load(1500, rate=1000, tokens=(5, 8)))
    prefills = stalls(TimedRequests(truth.requests)).prefills
    assert prefills and prefills.gaps > 0.9
    assert (prefills.others_p99_itl_ms, prefills.p99_share) == (None, None)


def held(requests: Sequence[Request], until: Sequence[tuple[int, float]], ms: float) -> None:
    """Hold back what these streams get in the last `ms` before a time, and send it then."""
    for index, end in until:
        times, end_ns = requests[index].token_ns, START + round(end * 1e6)
        times[(times > end_ns - ms * 1e6) & (times < end_ns)] = end_ns


def phased(n: int, within: float, *, seed: int, in_order: bool = False) -> list[Request]:
    """n streams with a token every 40 ms each, all of them within these ms.

    in_order: as an engine sends the tokens of a step, one after another
    """
    rng = np.random.default_rng(seed)
    steps = 100 + 40 * np.arange(60) + rng.normal(0, 0.1, 60)
    requests = []
    for index in range(n):
        phase = within * index / n if in_order else rng.uniform(0, within)
        times = steps + phase + rng.uniform(0, 0.1, 60)
        requests.append(answer(index, ttft=float(times[0]), gaps=np.diff(times).tolist()))
    return requests


@pytest.mark.parametrize("n", [3, 4, 8, 32, 100])
@pytest.mark.parametrize("apart", [2.5, 4, 8])
@pytest.mark.parametrize("within", [0.3, 40])
def test_stalls_of_one_stream_each_that_end_within_milliseconds_stay_two(
    n: int, apart: float, within: float
) -> None:
    for seed in range(5):
        requests = phased(n, within, seed=seed)
        held(requests, [(0, 1000), (n - 1, 1000 + apart)], 400)
        result = stalls(TimedRequests(requests))
        assert result.counts == {"request": 2}, seed
        assert {stall.request for stall in result.top} == {0, n - 1}


@pytest.mark.parametrize("apart", [2.5, 4, 8])
def test_stalls_of_the_only_two_streams_are_two_if_one_step_did_not_end_both(apart: float) -> None:
    for seed in range(5):
        requests = phased(2, 0.3, seed=seed)
        held(requests, [(0, 1000), (1, 1000 + apart)], 400)
        assert stalls(TimedRequests(requests)).counts == {"request": 2}, seed


def test_two_streams_that_go_on_in_one_step_have_one_stall_however_it_is_delivered() -> None:
    """The tokens of these two come 5 ms apart in each step, and so they do after the stall."""
    for seed in range(10):
        requests = phased(64, 8, seed=seed, in_order=True)
        for index in (10, 50):
            requests[index].token_ns[20:] += 10 * 40_000_000
        assert only(stalls(TimedRequests(requests)).top).streams == 2, seed


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 8, 16, 64])
@pytest.mark.parametrize(
    ("within", "in_order"),
    [
        pytest.param(8, True, id="a-step-one-after-another"),
        pytest.param(8, False, id="a-step"),
        pytest.param(40, False, id="not-in-step"),
    ],
)
def test_one_pause_is_one_stall_though_its_ends_spread_over_milliseconds(
    n: int, within: float, in_order: bool
) -> None:
    for seed in range(10):
        requests = phased(n, within, seed=seed, in_order=in_order)
        for request in requests:
            request.token_ns[request.token_ns > START + 990_000_000] += 400_000_000
        assert only(stalls(TimedRequests(requests)).top).streams == n, seed


@pytest.mark.parametrize("seed", range(6))
def test_pauses_of_an_engine_with_slow_delivery_are_one_each(seed: int) -> None:
    pauses = ((2000.0, 300.0), (4000.0, 300.0), (4700.0, 300.0))
    load = Load(16, closed=16, tokens=(200, 200), delay_ms=6)
    truth = simulate(Engine(prefill_ms=2, step_ms=40, pauses=pauses), load, seed)
    result = stalls(TimedRequests(truth.requests))
    assert result.counts == {"engine": 3}
    assert {stall.streams for stall in result.top} == {16}


@pytest.mark.parametrize("seed", range(6))
def test_stalls_of_two_streams_of_an_engine_are_two_amid_its_pauses(seed: int) -> None:
    engine = Engine(prefill_ms=2, step_ms=40, pauses=((2000.0, 300.0),))
    truth = simulate(engine, Load(16, closed=16, tokens=(200, 200), delay_ms=1), seed)
    held(truth.requests, [(3, 4000), (11, 4003)], 300)
    result = stalls(TimedRequests(truth.requests))
    assert result.counts == {"engine": 1, "request": 2}
