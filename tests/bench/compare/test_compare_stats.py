"""The statistics against scipy's, against known answers, and against simulations."""

from __future__ import annotations

import numpy as np
import pytest
from compare_samples import a_run, with_bounds
from scipy.stats import ttest_ind, ttest_rel
from spark_bench.compare.differences import build_matrix, matrix_frame
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.stats import contrast, enough, holm, locations, paired

A = [101.0, 99.5, 100.2, 100.9, 98.7]
B = [97.1, 98.0, 96.4, 97.7, 91.0]


@pytest.mark.parametrize(
    ("first", "second", "trim"),
    [
        pytest.param(A[:2], B[1:3], 0, id="two repeats: Welch"),
        pytest.param(A + B, B + B[::-1], 0.2, id="ten: Yuen"),
        pytest.param(A + B + A, B + A, 0.2, id="fifteen and ten"),
    ],
)
def test_the_contrast_matches_scipy(first: list[float], second: list[float], trim: float) -> None:
    difference = contrast(locations([first]), locations([second]))
    reference = ttest_ind(second, first, equal_var=False, trim=trim)
    assert difference.p()[0] == pytest.approx(reference.pvalue)
    assert difference.freedom[0] == pytest.approx(reference.df)
    if not trim:
        ends = reference.confidence_interval(0.95)
        assert [end[0] for end in difference.interval()] == pytest.approx([ends.low, ends.high])


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_few_repeats_are_least_squares_with_a_block_of_first_repeats(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(5, 1, n), rng.normal(6, 1, n)
    design = np.zeros((2 * n, 3))
    design[:n, 0] = design[n:, 1] = design[[0, n], 2] = 1
    values = np.concatenate([first, second])
    found, squares = np.linalg.lstsq(design, values, rcond=None)[:2]
    variance = np.linalg.inv(design.T @ design) * squares[0] / (2 * n - 3)
    apart = contrast(locations([first.tolist()]), locations([second.tolist()]))
    assert apart.difference[0] == pytest.approx(found[1] - found[0])
    expected = variance[0, 0] + variance[1, 1] - 2 * variance[0, 1]
    assert apart.error[0] ** 2 == pytest.approx(expected)
    assert 1 < apart.freedom[0] <= 2 * n - 3


def test_a_slow_first_repeat_of_both_runs_changes_nothing() -> None:
    plain = contrast(locations([A]), locations([B]))
    slow = contrast(locations([[A[0] - 30, *A[1:]]]), locations([[B[0] - 30, *B[1:]]]))
    for name in ("difference", "error", "freedom"):
        assert getattr(slow, name) == pytest.approx(getattr(plain, name))


def test_a_different_number_of_repeats_shares_their_slow_first_ones() -> None:
    """With 3 and 5 repeats, a slow first one weighs more in the mean of 3."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(100, 0.1, (400, 3)), rng.normal(100, 0.1, (400, 5))
    first[:, 0] -= 20
    second[:, 0] -= 20
    apart = contrast(locations(first.tolist()), locations(second.tolist()))
    assert abs(float(apart.difference.mean())) < 0.05
    assert (apart.p() < 0.05).mean() < 0.08


def test_pairs_match_the_paired_t_test_of_scipy() -> None:
    differences = [b - a for a, b in zip(A, B, strict=True)]
    apart, reference = paired(differences), ttest_rel(B, A)
    assert apart.p()[0] == pytest.approx(reference.pvalue)
    ends = reference.confidence_interval(0.95)
    assert [end[0] for end in apart.interval()] == pytest.approx([ends.low, ends.high])
    assert np.isnan(paired(differences[:1]).p()[0])


def test_two_disturbed_repeats_of_ten_count_little() -> None:
    disturbed = contrast(locations([A + A]), locations([[*A[:4], 60.0] * 2]))
    assert abs(disturbed.difference[0]) < 1.0
    assert disturbed.p()[0] > 0.3


@pytest.mark.parametrize("first", [[5.0], []], ids=["one repeat", "none"])
def test_without_a_spread_there_is_no_verdict(first: list[float]) -> None:
    difference = contrast(locations([first]), locations([B]))
    assert np.isnan(difference.error[0])
    assert np.isnan(difference.p()[0])


def test_repeats_that_are_alike_to_the_last_digit_are_not_believed() -> None:
    difference = contrast(locations([[1.0, 1.0]], finest=1e-4), locations([[1.0001, 1.0001]], 1e-4))
    assert difference.p()[0] > 0.2


@pytest.mark.parametrize(
    ("first", "second", "spread"),
    [
        pytest.param(5, 5, 1.0, id="5 and 5"),
        pytest.param(2, 2, 1.0, id="2 and 2"),
        pytest.param(5, 3, 1.0, id="5 and 3"),
        pytest.param(2, 50, 1.0, id="2 and 50"),
        pytest.param(3, 10, 1.0, id="3 and 10"),
        pytest.param(5, 50, 1.0, id="5 and 50"),
        pytest.param(5, 5, 2.0, id="unequal spreads"),
    ],
)
def test_identical_runs_are_distinguished_no_more_often_than_stated(
    first: int, second: int, spread: float
) -> None:
    rng = np.random.default_rng(7)
    n = 4000
    difference = contrast(
        locations(rng.normal(size=(n, first)).tolist()),
        locations((spread * rng.normal(size=(n, second))).tolist()),
    )
    p = difference.p()
    # 4000 trials: three standard errors above 5 % and 1 % (unequal spreads: Yuen's is a bit free).
    assert (p < 0.05).mean() < 0.061
    assert (p < 0.01).mean() < 0.0155


def test_the_interval_holds_the_truth_as_often_as_stated() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 1, (4000, 5)), rng.normal(0.7, 1, (4000, 5))
    low, high = contrast(locations(first.tolist()), locations(second.tolist())).interval()
    assert 0.945 < ((low < 0.7) & (high > 0.7)).mean() < 0.975


def test_the_detectable_difference_is_found_as_often_as_stated() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(0, 1, (4000, 8))
    null = contrast(locations(first.tolist()), locations(rng.normal(0, 1, (4000, 8)).tolist()))
    size = float(np.median(null.detectable(0.01, 0.95)))
    second = rng.normal(size, 1, (4000, 8))
    low, _ = contrast(locations(first.tolist()), locations(second.tolist())).interval(0.98)
    assert 0.92 < (low > 0).mean() < 0.98


def test_holm_by_hand() -> None:
    p = np.array([[0.01, 0.04, np.nan], [0.03, 0.005, 0.9]])
    assert holm(p)[0] == pytest.approx([0.04, 0.09, np.nan], nan_ok=True)
    assert holm(p)[1] == pytest.approx([0.09, 0.025, 0.9])


def test_enough_repeats_are_computed() -> None:
    rng = np.random.default_rng(1)
    sample = rng.normal(0, 1, 5).tolist()
    apart = contrast(locations([sample]), locations([rng.normal(0, 1, 5).tolist()]))
    wanted = enough(apart, 5, 2.0, 0.01, 0.01)
    assert wanted and 6 <= wanted < 40
    assert enough(apart, 5, 1e-6, 0.01, 0.01) is None


def test_the_difference_is_a_ratio_forwards_and_backwards() -> None:
    runs = [a_run("A", output_throughput=A[:3]), a_run("B", output_throughput=B[:3])]
    forward, backward = (
        build_matrix(each, ["output_throughput"]).percent[0, 1] for each in (runs, runs[::-1])
    )
    assert (1 + forward / 100) * (1 + backward / 100) == pytest.approx(1)


def test_verdicts_know_which_way_is_better() -> None:
    low, high = [10.0, 10.1, 9.9], [20.0, 20.1, 19.9]
    first = a_run("A", output_throughput=low, p99_ttft_ms=low, concurrency=low, itl=low)
    second = a_run("B", output_throughput=high, p99_ttft_ms=high, concurrency=high, itl=low)
    matrix = build_matrix(
        [first, second], ["output_throughput", "p99_ttft_ms", "concurrency", "itl"]
    )
    verdicts = [matrix.verdict(row, 1) for row in range(4)]
    assert verdicts == ["better", "worse", "differs", "unclear"]
    back = build_matrix([second, first], ["output_throughput", "p99_ttft_ms"])
    assert [back.verdict(row, 1) for row in range(2)] == ["worse", "better"]
    assert matrix.verdict(0, 0) == ""


def test_overlapping_bounds_are_no_difference() -> None:
    first, second = [100.0, 100.2, 99.8, 100.1, 99.9], [97.0, 97.2, 96.8, 97.1, 96.9]
    base, other = a_run("A", output_throughput=first), a_run("B", output_throughput=second)

    def compared(a: ComparedRun, b: ComparedRun) -> tuple[str, float, float]:
        matrix = build_matrix([a, b], ["output_throughput"])
        return matrix.verdict(0, 1), float(matrix.low[0, 1]), float(matrix.high[0, 1])

    verdict, low, high = compared(base, other)
    assert verdict == "worse"
    assert compared(base, with_bounds(other, 0, 0.01))[0] == "worse"
    assert compared(base, with_bounds(other, 0, 0.04))[0] == "unclear"
    assert compared(with_bounds(base, 0.04, 0), other)[0] == "unclear"
    assert compared(base, with_bounds(other, 0.04, 0))[0] == "worse", "it may only be lower still"
    assert compared(base, with_bounds(other, 0.04, 0.01)) == (
        "worse",
        pytest.approx(low - 4 * (1 + low / 100), abs=0.1),
        pytest.approx(high + 1, abs=0.1),
    )


def test_one_repeat_shows_a_difference_and_no_verdict() -> None:
    matrix = build_matrix(
        [a_run("A", p99_ttft_ms=[10.0]), a_run("B", p99_ttft_ms=[11.0])], ["p99_ttft_ms"]
    )
    assert matrix.percent[0, 1] == pytest.approx(10)
    assert np.isnan([matrix.low[0, 1], matrix.p[0, 1], matrix.holm[0, 1]]).all()
    assert matrix.verdict(0, 1) == "1 repeat"


def test_counts_that_can_be_zero_are_compared_plainly() -> None:
    first = a_run("A", failed=[0.0, 0.0], stopped_early=[1.0, 3.0])
    second = a_run("B", failed=[0.0, 2.0], stopped_early=[0.0, 1.0])
    matrix = build_matrix(
        [first, second, a_run("C", failed=[0.0, 0.0], stopped_early=[2.0, 2.0])],
        ["failed", "stopped_early"],
    )
    assert np.isnan(matrix.percent[0, 1])  # per cent of nothing
    assert matrix.percent[0, 2] == 0
    assert matrix.percent[1, 1] == pytest.approx(-75)
    assert matrix.verdict(0, 1) == ""


def test_many_figures_raise_few_alarms() -> None:
    """Holm: in 300 tables of 20 figures without a difference, one in twenty has an alarm."""
    rng = np.random.default_rng(11)
    names = [f"mean_{n}_ms" for n in range(20)]

    def run(letter: str) -> dict[str, list[float]]:
        return {name: np.exp(rng.normal(3, 0.02, 5)).tolist() for name in names}

    tables = [
        build_matrix([a_run("A", **run("A")), a_run("B", **run("B"))], names) for _ in range(300)
    ]
    alarmed = sum(
        any(table.verdict(row, 1) in ("better", "worse") for row in range(20)) for table in tables
    )
    assert alarmed <= 30


def test_the_frame_has_a_row_a_figure_and_the_runs_first() -> None:
    runs = [a_run("A", p99_ttft_ms=A), a_run("B", p99_ttft_ms=B), a_run("C", itl=A)]
    frame = matrix_frame(build_matrix(runs, ["p99_ttft_ms", "mean_itl_ms"]))
    assert list(frame.index) == ["p99_ttft_ms"]
    assert list(frame.columns[:4]) == ["better", "A", "B", "C"]
    assert frame.loc["p99_ttft_ms", "B verdict"] == "better"
    assert frame.loc["p99_ttft_ms", "C repeats"] == 0
    assert frame["C %"].isna().all()
