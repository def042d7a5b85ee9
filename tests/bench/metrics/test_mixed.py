"""Short and long prompts apart; which gaps of the short ones have a long one's prefill in them."""

from __future__ import annotations

import random
from itertools import pairwise
from operator import attrgetter

import numpy as np
import pytest
from made_requests import START, answer, failed, widened
from msgspec.structs import replace
from spark_bench.metrics.mixed import merge_mixed, merge_spans, mixed_figures
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

EVERY = 4
LATENCIES = ("ttft", "itl", "tpot", "e2e_latency")


def load(seed: int, *, slower: float = 3.0) -> tuple[list[Request], list[float], list[float]]:
    """Requests of which every 4th is long; the ITLs of short answers while one is read, and else.

    Two short answers run all the time; each gap of theirs is `slower` times as long if it begins
    while a long prompt is read.
    """
    random = np.random.default_rng(seed)
    sends = np.cumsum(random.integers(400, 700, 5)).astype(float)
    reads = [(float(at), float(at + random.integers(50, 300))) for at in sends]
    requests, inside, outside = [], [], []
    for number, (begins, ends) in enumerate(reads):
        long = answer(number, sent=begins, ttft=ends - begins, gaps=[20.0] * 5)
        long.conversation = EVERY * (number + 1) - 1
        requests.append(long)
    for number in (0, 1):
        at, gaps = 100.0, []
        while at < 3000:
            reading = any(begins <= at < ends for begins, ends in reads)
            gaps.append(float(random.integers(15, 25)) * (slower if reading else 1.0))
            over = any(begins < at + gaps[-1] and at < ends for begins, ends in reads)
            (inside if over else outside).append(gaps[-1])
            at += gaps[-1]
        short = answer(10 + number, ttft=100.0, gaps=gaps)
        short.conversation = number
        requests.append(short)
    return requests, inside, outside


@pytest.mark.parametrize("seed", range(60))
def test_gaps_with_a_prefill_in_them_are_apart(seed: int) -> None:
    requests, inside, outside = load(seed)
    mixed = mixed_figures(TimedRequests(requests), EVERY)
    for spread, truth in ((mixed.during, inside), (mixed.otherwise, outside)):
        assert spread.n == len(truth)
        assert spread.mean == pytest.approx(np.mean(truth))
        assert spread.p99 == pytest.approx(np.percentile(truth, 99))
    assert (mixed.short.completed, mixed.long.completed) == (2, 5)
    assert mixed.short.itl_ms.n == len(inside) + len(outside)
    assert mixed.long.itl_ms.max == pytest.approx(20.0)
    assert mixed.during.mean and mixed.otherwise.mean
    assert mixed.during.mean > 1.5 * mixed.otherwise.mean
    waits = [r.token_ns[0] - r.sent_ns for r in requests[:5]]
    lasted = max(int(r.token_ns[-1]) for r in requests) - START
    assert mixed.share == pytest.approx(sum(waits) / lasted)


@pytest.mark.parametrize("seed", range(100))
def test_the_true_latencies_of_each_kind_lie_within_their_bounds(seed: int) -> None:
    rng = random.Random(seed)
    recorded, true = zip(*(widened(rng, request) for request in load(seed)[0]), strict=True)
    mixed, truth = (mixed_figures(TimedRequests(each), EVERY) for each in (recorded, true))
    merged = merge_mixed([mixed, mixed])
    for of in (
        *(attrgetter(f"{kind}.{name}_ms") for kind in ("short", "long") for name in LATENCIES),
        attrgetter("during"),
        attrgetter("otherwise"),
    ):
        bounds = of(mixed).bounds
        assert bounds.keys() == {"mean", "p50", "p99", "max"}
        assert of(merged).bounds == bounds
        for name, bound in bounds.items():
            for figure in (getattr(of(truth), name), getattr(of(mixed), name)):
                assert bound.low - 1e-6 <= figure <= bound.high + 1e-6, (of, name)


def test_a_long_prompt_that_failed_later_was_read_all_the_same() -> None:
    requests, inside, _ = load(1)
    for request in requests[:5]:
        request.failure = "cut"
    mixed = mixed_figures(TimedRequests(requests), EVERY)
    assert (mixed.long.completed, mixed.long.failed, mixed.during.n) == (0, 5, len(inside))
    assert mixed.long.ttft_ms.mean is None


@pytest.mark.parametrize("chosen", [slice(0, 5), slice(5, 7), slice(0, 0)])
def test_one_kind_or_none_leaves_the_other_empty(chosen: slice) -> None:
    requests = load(1)[0][chosen] or [failed(0, "timeout")]
    mixed = mixed_figures(TimedRequests(requests), EVERY)
    assert mixed.during.n == 0 and mixed.during.mean is None
    assert merge_mixed([mixed, mixed]).during.mean is None


@pytest.mark.parametrize("seed", range(40))
def test_spans_cover_what_their_parts_cover(seed: int) -> None:
    random = np.random.default_rng(seed)
    starts = random.integers(0, 100, random.integers(0, 12))
    ends = starts + random.integers(1, 20, starts.size)
    covered = {at for a, b in zip(starts, ends, strict=True) for at in range(a, b)}
    merged = [*zip(*merge_spans(starts, ends), strict=True)]
    assert {at for a, b in merged for at in range(a, b)} == covered
    assert all(one[1] < other[0] for one, other in pairwise(merged))


def test_repeats_are_added_up_and_their_latencies_are_medians() -> None:
    figures = [mixed_figures(TimedRequests(load(seed)[0]), EVERY) for seed in range(3)]
    merged = merge_mixed(figures)
    assert merged.short.completed == 6 and merged.during.n == sum(f.during.n for f in figures)
    assert merged.during.mean == sorted(f.during.mean or 0.0 for f in figures)[1]
    assert merged.share == sorted(f.share for f in figures)[1]
    assert merge_mixed(figures[:1]) == replace(figures[0])
