"""McNemar's paired difference: known values, and how often its interval holds the truth."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from spark_bench.compare.paired import PairedScores, pair_scores

Floats = NDArray[np.float64]
SIMULATED = 2_000


def likeliest_lost(pair: PairedScores, difference: float) -> float:
    """The share that is lost if the difference is true, by trying all of them."""
    shares = np.linspace(1e-9, 1, 200_001)
    won, rest = shares + difference, 1 - 2 * shares - difference
    with np.errstate(divide="ignore", invalid="ignore"):
        log = pair.lost * np.log(shares) + pair.won * np.log(won)
        log += (pair.items - pair.lost - pair.won) * np.log(rest)
    return float(shares[np.nanargmax(np.where((won > 0) & (rest > 0), log, np.nan))])


@pytest.mark.parametrize(("lost", "won"), [(3, 1), (10, 4), (1, 9), (12, 0), (6, 6)])
@pytest.mark.parametrize("z", [1.96, 2.326])
def test_the_ends_solve_tangos_equation(lost: int, won: int, z: float) -> None:
    """(won - lost - n d)^2 is z^2 times its variance under d, but for half an item."""
    pair = PairedScores(80, lost, won)
    for end in pair.interval(2 * NormalDist().cdf(z) - 1):
        share = likeliest_lost(pair, end)
        deviation = (80 * (2 * share + end - end**2)) ** 0.5
        assert abs(won - lost - 80 * end) - 0.5 == pytest.approx(z * deviation, rel=2e-3)


@pytest.mark.parametrize(
    ("items", "lost", "won", "difference", "p"),
    [
        pytest.param(100, 0, 0, 0.0, 1.0, id="nothing changed"),
        pytest.param(100, 5, 5, 0.0, 1.0, id="as many each way"),
        # |10 - 0| - 1/2 over the root of 10 is 3.004: 0.0027 two-sided.
        pytest.param(100, 10, 0, -0.1, 0.00266, id="lost only"),
        pytest.param(100, 0, 10, 0.1, 0.00266, id="won only"),
        pytest.param(1, 1, 0, -1.0, 0.61708, id="a single item"),
    ],
)
def test_differences_and_p_values(
    items: int, lost: int, won: int, difference: float, p: float
) -> None:
    pair = PairedScores(items, lost, won)
    assert pair.difference == difference
    assert pair.p() == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("lost", range(0, 12, 2))
@pytest.mark.parametrize("won", range(0, 12, 3))
def test_the_interval_and_the_test_agree(lost: int, won: int) -> None:
    """Zero lies outside of the interval exactly where the test is significant; both ends mirror."""
    pair, mirrored = PairedScores(40, lost, won), PairedScores(40, won, lost)
    low, high = pair.interval()
    assert low <= pair.difference <= high
    assert (low > 0 or high < 0) == (pair.p() < 0.05)
    assert (-high, -low) == pytest.approx(mirrored.interval())
    assert pair.least(0.975) == low
    assert pair.most(0.975) == high


def test_no_change_still_leaves_room_for_one() -> None:
    low, high = PairedScores(200, 0, 0).interval()
    assert (low, high) == (pytest.approx(-0.0234, abs=1e-3), pytest.approx(0.0234, abs=1e-3))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (7, 0), (10, 4)])
def test_more_items_of_the_same_shares_narrow_the_interval(lost: int, won: int) -> None:
    pair = PairedScores(50, lost, won)
    widths = [high - low for n in (50, 100, 1000) for low, high in [pair.over(n).interval()]]
    assert widths == sorted(widths, reverse=True)
    assert pair.over(1000).difference == pytest.approx(pair.difference)


def test_items_are_paired_by_name_and_repeats_count_by_their_mean() -> None:
    first = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0, "only here": 1.0}
    second = {"a": 1.0, "b": 0.5, "c": 1.0, "d": 0.0, "only there": 0.0}
    assert pair_scores(first, second) == PairedScores(4, 1.5, 1.0)
    assert pair_scores({"a": 1.0}, {"b": 1.0}) is None


# ---- coverage


@cache
def _interval(items: int, lost: int, won: int, level: float) -> tuple[float, float]:
    return PairedScores(items, lost, won).interval(level)


@pytest.mark.parametrize("items", [20, 50, 200, 400])
@pytest.mark.parametrize(
    ("lost", "won"),
    [
        pytest.param(0.01, 0.01, id="the same, rarely otherwise"),
        pytest.param(0.1, 0.1, id="the same, often otherwise"),
        pytest.param(0.03, 0.01, id="2 points lost"),
        pytest.param(0.05, 0.0, id="5 points lost, none won"),
        pytest.param(0.2, 0.1, id="10 points lost"),
        pytest.param(0.02, 0.32, id="30 points won"),
    ],
)
def test_the_interval_holds_the_truth(items: int, lost: float, won: float) -> None:
    rng = np.random.default_rng(20261127)
    drawn = rng.multinomial(items, [lost, won, 1 - lost - won], size=SIMULATED)
    ends = np.array([_interval(items, int(one), int(other), 0.95) for one, other, _ in drawn])
    held = (ends[:, 0] <= won - lost) & (won - lost <= ends[:, 1])
    assert held.mean() >= 0.94


def test_a_regression_of_the_gates_limit_is_excluded_once_in_a_hundred() -> None:
    """Exactly, over all outcomes of 50 items: the bound by which a gate holds."""
    items = 50
    counts = [(lost, won) for lost in range(26) for won in range(16) if lost + won <= items]
    least = np.array([PairedScores(items, *each).least(0.99) for each in counts])
    lgamma = np.cumsum([0.0, *np.log(np.arange(1, items + 1))])
    lost, won = np.array(counts).T
    ways = lgamma[items] - lgamma[lost] - lgamma[won] - lgamma[items - lost - won]
    for true in (0.02, 0.05, 0.1, 0.2):
        for other in (1e-9, 0.01, 0.05):
            shares = true + other, other, 1 - true - 2 * other
            logs = [np.log(share) for share in shares]
            chance = np.exp(ways + lost * logs[0] + won * logs[1] + (items - lost - won) * logs[2])
            assert chance[least > -true].sum() <= 0.0125


def test_the_detectable_loss_is_found_about_as_often_as_stated() -> None:
    items, changed = 200, 0.1
    typical = PairedScores(items, 10, 10)
    loss = typical.detectable(0.01, 0.05)
    rng = np.random.default_rng(3)
    lost, won = (changed + loss) / 2, (changed - loss) / 2
    drawn = rng.multinomial(items, [lost, won, 1 - lost - won], size=500)
    found = [PairedScores(items, int(a), int(b)).most(0.99) < 0 for a, b, _ in drawn]
    assert 0.92 <= np.mean(found) <= 0.99
