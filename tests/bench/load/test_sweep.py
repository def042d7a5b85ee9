"""Sweeps over servers whose knee is known, with and without noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace
from spark_bench.errors import BadInput
from spark_bench.load.sweep import (
    MeasuredPoint,
    Sweep,
    knee,
    knee_between,
    parse_sweep,
    power,
    power_between,
)
from spark_bench.metrics.bounds import Bound

Server = Callable[[float], MeasuredPoint]


def measured(value: float, requests: float, seconds: float, **more: float) -> MeasuredPoint:
    """A run at `value`: so many requests per second of 100 tokens, taking so many seconds each."""
    return MeasuredPoint(value, 100 * requests, requests, 100 * seconds, 1000 * seconds, **more)


def capped(slots: float) -> Server:
    """Serves so many at once, a second each; the rest queue: its knee is at `slots`."""

    def run(value: float) -> MeasuredPoint:
        return measured(value, min(value, slots), max(1.0, value / slots))

    return run


def batching(half: float) -> Server:
    """A step takes 1 + n / half: half of the peak throughput, and the knee, are at `half`."""

    def run(value: float) -> MeasuredPoint:
        seconds = 1 + value / half
        return measured(value, value / seconds, seconds)

    return run


def queueing(servers: int, each: float = 1.0, requests: int = 200) -> Server:
    """M/M/c at a rate; beyond its capacity the queue grows for as long as the run lasts."""

    def run(rate: float) -> MeasuredPoint:
        capacity = servers * each
        # In a run that ends, the wait near the capacity is finite: that of 97 % load.
        offered = min(rate, 0.97 * capacity)
        term = total = 1.0
        for index in range(1, servers):
            term *= offered / each / index
            total += term
        # Erlang C: the probability of having to wait.
        full = term * (offered / capacity) / (1 - offered / capacity)
        wait = full / (total + full) / (capacity - offered)
        backlog = max(0.0, 1 / capacity - 1 / rate) * requests / 2
        return measured(rate, min(rate, capacity), 1 / each + wait + backlog)

    return run


def noisy(server: Server, seed: int, noise: float = 0.03) -> Server:
    """The same with noise of some per cent on throughput and latency, each its own."""
    random = Random(seed)

    def run(value: float) -> MeasuredPoint:
        exact = server(value)
        requests = exact.request_throughput * random.gauss(1, noise)
        return measured(value, requests, exact.e2e_ms / 1000 * random.gauss(1, noise))

    return run


def swept(sweep: Sweep, server: Server) -> list[MeasuredPoint]:
    runs: list[MeasuredPoint] = []
    while (value := sweep.next_point(runs)) is not None:
        assert value not in [run.value for run in runs]
        runs.append(server(value))
        assert len(runs) < 200
    return runs


def values(runs: list[MeasuredPoint]) -> list[float]:
    return [run.value for run in runs]


def knee_of(runs: list[MeasuredPoint]) -> float:
    knee_point = knee(runs)
    assert knee_point in runs
    assert knee_point
    return knee_point.value


@pytest.mark.parametrize("slots", [1, 2, 8, 32])
def test_a_hard_cap_is_the_knee(slots: int) -> None:
    runs = swept(parse_sweep("concurrency=1..1024"), capped(slots))
    assert knee_of(runs) == slots
    assert max(values(runs)) == 2 * slots


@pytest.mark.parametrize("half", [2, 8, 64])
def test_half_the_peak_of_a_batching_server_is_the_knee(half: int) -> None:
    assert knee_of(swept(parse_sweep("concurrency=1..1024"), batching(half))) == half


def test_the_knee_of_a_queue() -> None:
    """One server, M/M/1: power is highest at half of the capacity (Kleinrock 1979)."""
    assert knee_of(swept(parse_sweep("rate=0.1..1:0.1"), queueing(1))) == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize(
    ("server", "sweep", "allowed"),
    [
        pytest.param(capped(16), "concurrency=1..1024", {16}, id="capped, doubling"),
        pytest.param(capped(10), "concurrency=1..40:1", {9, 10, 11}, id="capped, steps"),
        pytest.param(batching(16), "concurrency=1..1024", {8, 16, 32}, id="batching"),
        pytest.param(queueing(16), "rate=1..64", {8, 16}, id="M/M/16, doubling"),
        pytest.param(queueing(16), "rate=1..30:1", {11, 12, 13, 14, 15}, id="M/M/16, steps"),
    ],
)
def test_noise_does_not_move_the_knee(
    seed: int, server: Server, sweep: str, allowed: set[float]
) -> None:
    assert knee_of(swept(parse_sweep(sweep), noisy(server, seed))) in allowed


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("slots", [1, 3, 11, 48, 700])
def test_a_search_for_the_concurrency(seed: int, slots: int) -> None:
    runs = swept(parse_sweep("concurrency"), noisy(capped(slots), seed))
    assert all(isinstance(value, int) or value.is_integer() for value in values(runs))
    if slots < 700:
        assert slots / 1.5 <= knee_of(runs) <= slots * 1.5
        assert len(runs) <= math.log2(slots) + 5
    else:
        assert max(values(runs)) == 1024
        assert knee(runs) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("each", [0.02, 0.3, 1.0, 40.0])
def test_a_search_for_the_rate_goes_both_ways(seed: int, each: float) -> None:
    """The knee of M/M/16 is at about four fifths of its capacity of 16 x `each`."""
    runs = swept(parse_sweep("rate"), noisy(queueing(16, each), seed))
    assert 0.5 * 16 * each <= knee_of(runs) <= 1.1 * 16 * each
    assert min(values(runs)) < knee_of(runs) < max(values(runs))


def test_a_search_ends_at_the_most() -> None:
    assert values(swept(parse_sweep("concurrency", most=10), capped(100))) == [1, 2, 4, 8, 10]


@pytest.mark.parametrize("seed", range(60))
def test_the_knee_of_the_true_figures_is_within_its_bounds(seed: int) -> None:
    rng = Random(seed)
    server = rng.choice([capped(8), capped(20), batching(6), batching(30)])
    wide = rng.choice([0.0, 0.02, 0.2])
    points, true = [], []
    for value in (1, 2, 4, 8, 16, 32, 64, 128):
        point = server(value)
        low, high = (power(point) * (1 + end * rng.random()) for end in (-wide, wide))
        points.append(replace(point, between=(low, high)))
        at = rng.uniform(low, high) * point.e2e_ms / 1000
        true.append(replace(point, output_throughput=at))
    between, at_knee = knee_between(points), knee(true)
    assert wide or between == [at_knee.value if at_knee else None]
    if between:
        assert at_knee and between[0] <= at_knee.value <= between[-1]


def test_bounds_of_the_power_are_those_of_its_figures() -> None:
    bounds = {"output_throughput": Bound(90, 110), "mean_e2e_latency_ms": Bound(500, 1000)}
    assert power_between(bounds) == (90, 220)
    assert power_between({}) is None
    assert knee_between([capped(2)(load) for load in (1, 2, 4, 8)]) == []


def test_no_knee_before_it_is_passed() -> None:
    runs = swept(parse_sweep("concurrency=1..64"), capped(100))
    assert values(runs) == [1, 2, 4, 8, 16, 32, 64]
    assert knee(runs) is None
    assert knee([]) is None


def failing_from(slots: float) -> Server:
    """Half of the requests fail at so many in flight, and above."""

    def run(value: float) -> MeasuredPoint:
        return measured(value, value, 1.0, failed=0.5 if value >= slots else 0.0)

    return run


def test_failures_end_a_sweep() -> None:
    sweep = parse_sweep("concurrency=1,2,4,8,16")
    runs = swept(sweep, failing_from(4))
    assert values(runs) == [1, 2, 4]
    assert sweep.ended_by(runs) == "50.0% of the requests failed at 4"
    assert sweep.ended_by(runs[:2]) is None


def test_a_search_continues_below_the_failing_load() -> None:
    assert values(swept(parse_sweep("concurrency"), failing_from(11))) == [1, 2, 4, 8, 16, 11]
    assert values(swept(parse_sweep("rate"), failing_from(0.2))) == [
        1,
        0.5,
        0.25,
        0.125,
        0.177,
    ]


def test_a_server_that_only_fails_ends_a_search() -> None:
    def dead_server(value: float) -> MeasuredPoint:
        return MeasuredPoint(value, 0.0, 0.0, math.nan, math.nan, failed=1.0)

    assert values(swept(parse_sweep("concurrency"), dead_server)) == [1]
    runs = swept(parse_sweep("rate"), dead_server)
    assert min(values(runs)) == 1 / 64
    assert knee(runs) is None


def test_missed_objectives_end_a_sweep() -> None:
    def run(value: float) -> MeasuredPoint:
        return measured(value, value, 1.0, goodput=min(value, 5.0))

    sweep = parse_sweep("concurrency=1..64", attainment=0.9)
    runs = swept(sweep, run)
    assert values(runs) == [1, 2, 4, 8]
    assert sweep.ended_by(runs) == "only 62.5% of the requests met the objectives at 8"
    assert max(values(swept(parse_sweep("concurrency=1..64", attainment=0.5), run))) == 16


def test_failed_requests_miss_the_objectives() -> None:
    assert measured(1, 8.0, 1.0, goodput=6.0, failed=0.2).attainment == pytest.approx(0.6)
    assert measured(1, 0.0, 1.0, goodput=0.0, failed=1.0).attainment == 0.0
    assert measured(1, 8.0, 1.0).attainment is None


def test_a_sweep_that_ends_at_the_knee_says_so() -> None:
    sweep = parse_sweep("concurrency=1..64")
    assert sweep.ended_by(swept(sweep, capped(4))) == "the knee is below 8"
    assert sweep.ended_by([]) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("concurrency", ()),
        ("rate=auto", ()),
        ("concurrency=1..64", (1, 2, 4, 8, 16, 32, 64)),
        ("concurrency=3..20", (3, 6, 12, 20)),
        ("concurrency=5..5", (5,)),
        ("concurrency=8,1,2,2", (1, 2, 8)),
        ("concurrency=1..10:3", (1, 4, 7, 10)),
        ("concurrency=1..9:3", (1, 4, 7)),
        ("rate=0.1..0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("rate=0.5..2", (0.5, 1.0, 2)),
    ],
)
def test_a_sweep_as_an_option(text: str, wanted: tuple[float, ...]) -> None:
    sweep = parse_sweep(text)
    assert sweep.points == wanted
    assert sweep.over == text.partition("=")[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "can't be swept over; write concurrency or rate"),
        ("slots=1..4", "'slots' can't be swept over"),
        ("rate=fast", "'fast' is not a list of loads; write 1..64"),
        ("rate=1..", "is not a list of loads"),
        ("rate=1,,2", "is not a list of loads"),
        ("rate=1..9:x", "is not a list of loads"),
        ("rate=9..1", "'9..1' is empty"),
        ("rate=0..4", "is empty"),
        ("rate=1..inf", "is empty"),
        ("rate=1..4:0", "is empty"),
        ("rate=1..1e308:1e-10", "more than 1000 loads; take a larger step"),
        ("rate=0,1", "rate 0 is not allowed; it must be a number above 0"),
        ("rate=nan", "rate nan is not allowed"),
        ("concurrency=0,1", "concurrency 0 is not allowed; it must be a whole number"),
        ("concurrency=1..2:0.5", "concurrency 1.5 is not allowed"),
        ("concurrency=inf", "concurrency inf is not allowed"),
        ("concurrency=1..128", "concurrency 128 is not allowed; it must be at most 100"),
    ],
)
def test_a_sweep_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_sweep(text, most=100)
    assert words in caught.value.message


@given(
    st.sampled_from(["concurrency", "rate", "rate=1..64", "concurrency=1..30:1"]),
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1)), min_size=1),
)
def test_a_sweep_ends_whatever_is_measured(
    text: str, answers: list[tuple[float, float, float]]
) -> None:
    def run(value: float) -> MeasuredPoint:
        requests, seconds, failed = answers[hash(value) % len(answers)]
        return measured(value, requests, seconds, failed=failed)

    knee_point = knee(runs := swept(parse_sweep(text), run))
    assert knee_point is None or knee_point in runs
