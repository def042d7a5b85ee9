"""Arrivals: their order, rate, burstiness and determinism, with and without a ramp; slots of a
closed loop, and conversations over them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st
from spark_bench.errors import BadInput
from spark_bench.load import arrivals
from spark_bench.load.arrivals import Ramp, steps
from spark_bench.record import Message, Prompt, SlotStep, Timing

SHAPES = st.sampled_from([0.01, 0.25, 1.0, 4.0, math.inf])
RATES = st.floats(0.01, 1e4)
RAMPS = st.builds(Ramp, RATES, RATES, st.sampled_from(["linear", "exponential"]))


def times(count: int, rate: float | Ramp, burstiness: float = 1.0, seed: int = 7) -> list[float]:
    timings = arrivals.arrival_timings(count, rate, burstiness=burstiness, seed=seed)
    assert all(timing.after is None for timing in timings)
    return [timing.at for timing in timings]


@given(st.integers(1, 300), RATES | RAMPS, SHAPES, st.integers())
def test_arrival_times_are_sorted_from_zero_and_finite(
    count: int, rate: float | Ramp, burstiness: float, seed: int
) -> None:
    got = times(count, rate, burstiness, seed)
    assert len(got) == count
    assert got[0] == 0.0
    assert all(math.isfinite(at) for at in got)
    assert all(before <= after for before, after in pairwise(got))
    assert got == times(count, rate, burstiness, seed)


@given(st.integers(2, 300), RATES, SHAPES, st.integers())
def test_the_rate_is_the_requested_one(
    count: int, rate: float, burstiness: float, seed: int
) -> None:
    assert (count - 1) / times(count, rate, burstiness, seed)[-1] == pytest.approx(rate)


@given(st.integers(2, 300), RAMPS, SHAPES)
def test_a_ramp_lasts_as_long_as_it_says(count: int, ramp: Ramp, burstiness: float) -> None:
    assert times(count, ramp, burstiness)[-1] == pytest.approx(ramp.seconds(count - 1))


def test_no_requests_have_no_times() -> None:
    assert times(0, 5.0) == []


def test_evenly_spaced() -> None:
    assert times(5, 4.0, math.inf) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_another_seed_gives_other_times() -> None:
    assert times(50, 4.0, seed=1) != times(50, 4.0, seed=2)


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0, 25.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_gaps_vary_as_the_gamma_distribution(shape: float, seed: int) -> None:
    gaps = np.diff(times(20_000, 50.0, shape, seed))
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1 / math.sqrt(shape), rel=0.05)


def test_poisson_counts_vary_as_their_mean() -> None:
    counts = np.bincount(np.array(times(20_000, 10.0)).astype(int))[:-1]
    assert np.var(counts) / np.mean(counts) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_poisson_gaps_are_exponential(seed: int) -> None:
    """The share of gaps above k means is e^-k."""
    gaps = np.diff(times(20_000, 10.0, seed=seed))
    for means in (0.5, 1.0, 2.0, 4.0):
        share = math.exp(-means)
        four_sigma = 4 * math.sqrt(share * (1 - share) / len(gaps))
        assert np.mean(gaps > means / 10.0) == pytest.approx(share, abs=four_sigma)


def rate_at(ramp: Ramp, got: list[float], share: float) -> float:
    """Arrivals a second around a share of the run, over a fiftieth of it."""
    length = got[-1]
    low, high = (share - 0.01) * length, (share + 0.01) * length
    return sum(low <= at < high for at in got) / (high - low)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize(
    ("start", "end"), [pytest.param(1.0, 10.0, id="up"), pytest.param(10.0, 1.0, id="down")]
)
@pytest.mark.parametrize(
    ("burstiness", "error"), [pytest.param(math.inf, 0.02, id="even"), pytest.param(1.0, 0.15)]
)
def test_the_rate_follows_the_ramp(
    share: float, start: float, end: float, burstiness: float, error: float
) -> None:
    linear, exponential = Ramp(start, end), Ramp(start, end, "exponential")
    got = times(50_000, linear, burstiness)
    assert rate_at(linear, got, share) == pytest.approx(start + (end - start) * share, rel=error)
    got = times(50_000, exponential, burstiness)
    wanted = start * (end / start) ** share
    assert rate_at(exponential, got, share) == pytest.approx(wanted, rel=error)


@given(RATES, SHAPES)
def test_a_flat_ramp_is_a_rate(rate: float, burstiness: float) -> None:
    assert times(20, Ramp(rate, rate, "exponential"), burstiness) == times(20, rate, burstiness)


def test_a_ramp_as_an_option() -> None:
    assert Ramp.parse("1:10") == Ramp(1.0, 10.0)
    assert Ramp.parse("8:0.5:exponential") == Ramp(8.0, 0.5, "exponential")


@pytest.mark.parametrize("text", ["", "5", "1:", ":1", "a:b", "1:2:cubic", "1:2:linear:3", "1-10"])
def test_an_invalid_ramp(text: str) -> None:
    with pytest.raises(BadInput, match=r"--ramp: .* is not a ramp; write START:END"):
        Ramp.parse(text)


@pytest.mark.parametrize("text", ["0:1", "1:0", "-1:5", "1:inf", "nan:1"])
def test_a_ramp_of_impossible_rates(text: str) -> None:
    with pytest.raises(BadInput, match="above 0"):
        Ramp.parse(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match=f"request rate {rate} is not allowed"):
        times(3, rate)


@pytest.mark.parametrize("burstiness", [0.0, -1.0, math.nan])
def test_a_burstiness_that_is_refused(burstiness: float) -> None:
    with pytest.raises(BadInput, match=f"--burstiness: {burstiness} is not allowed"):
        times(3, 1.0, burstiness)


def prompt(conversation: int, turn: int) -> Prompt:
    return Prompt((Message("user", "?"),), 1, 1, conversation, turn)


@pytest.mark.parametrize(
    ("concurrency", "ramp", "wanted"),
    [
        pytest.param(None, 0.0, (), id="no limit"),
        pytest.param(8, 0.0, (SlotStep(0.0, 8),), id="at once"),
        pytest.param(1, 9.0, (SlotStep(0.0, 1),), id="one slot"),
        pytest.param(3, 9.0, (SlotStep(0.0, 1), SlotStep(4.5, 2), SlotStep(9.0, 3)), id="ramp"),
    ],
)
def test_ramps_become_slot_steps(
    concurrency: int | None, ramp: float, wanted: tuple[SlotStep, ...]
) -> None:
    assert steps(concurrency, ramp) == wanted


@pytest.mark.parametrize("ramp", [-1.0, math.nan, math.inf])
def test_a_ramp_that_is_refused(ramp: float) -> None:
    with pytest.raises(BadInput, match="number of seconds, 0 or more"):
        steps(4, ramp)


def test_a_ramp_without_slots() -> None:
    with pytest.raises(BadInput, match="give --concurrency as well"):
        steps(None, 5.0)


def test_a_turn_waits_for_the_one_before() -> None:
    prompts = [prompt(0, 0), prompt(0, 1), prompt(0, 2), prompt(1, 0), prompt(1, 1)]
    assert arrivals.conversation_timings(prompts, pause=2.0) == [
        Timing(),
        Timing(after=0, pause=2.0),
        Timing(after=1, pause=2.0),
        Timing(),
        Timing(after=3, pause=2.0),
    ]


def test_first_turns_arrive_when_their_conversation_starts() -> None:
    prompts = [prompt(5, 0), prompt(2, 0), prompt(5, 1), prompt(2, 1)]
    starts = [Timing(at=0.0), Timing(at=1.5)]
    assert arrivals.conversation_timings(prompts, starts=starts) == [
        Timing(at=0.0),
        Timing(at=1.5),
        Timing(after=0),
        Timing(after=1),
    ]


def test_turns_out_of_order() -> None:
    assert arrivals.conversation_timings([prompt(0, 1), prompt(0, 0)]) == [
        Timing(after=1),
        Timing(),
    ]


def test_as_many_starts_as_conversations() -> None:
    with pytest.raises(ValueError, match="longer"):
        arrivals.conversation_timings([prompt(0, 0), prompt(1, 0)], starts=[Timing()])
