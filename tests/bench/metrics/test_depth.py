"""Prefill and decode speed of batches, beside slow and plain arithmetic."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from made_requests import MS, answer, failed, widened
from msgspec.structs import replace as replace_field
from result_samples import a_repeat
from spark_bench.metrics.depth import depth_figures, measure_batch, merge_depth, speed_rows
from spark_bench.record import Request
from spark_bench.run.save import uncached_depth_note


def drawn(seed: int, size: int, **fields: object) -> list[Request]:
    random = np.random.default_rng(seed)
    requests = []
    for index in range(size):
        counts = [int(n) for n in random.integers(1, 4, 30)]
        gaps = [float(gap) for gap in random.integers(0, 90, 29)]
        ttft = float(random.integers(50, 900))
        requests.append(
            answer(index, sent=2.0 * index, ttft=ttft, gaps=gaps, counts=counts, **fields)
        )
    return requests


def peak(seconds: list[float]) -> float:
    """The most stamps in a window (end - 1 s, end]."""
    stamps = sorted(round(at * 1000) for at in seconds)
    if 0 < stamps[-1] - stamps[0] < 1000:
        return len(stamps) / (stamps[-1] - stamps[0]) * 1000
    return float(max(sum(end - 1000 < at <= end for at in stamps) for end in stamps))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_as_plain_arithmetic_has_it(seed: int, size: int) -> None:
    requests = drawn(seed, size, prompt_tokens=6144)
    batch = measure_batch(requests, cached=4096)
    tokens = [
        [at / 1e9 for at, n in zip(r.token_ns, r.token_counts, strict=True) for _ in range(n)]
        for r in requests
    ]
    sent = [r.sent_ns / 1e9 for r in requests]
    after = [int(r.token_counts[1:].sum()) for r in requests]
    assert batch.pp == pytest.approx(2048 * size / (max(one[0] for one in tokens) - min(sent)))
    spans = max(one[-1] for one in tokens) - min(one[0] for one in tokens)
    assert batch.tg == pytest.approx(sum(after) / spans)
    assert batch.peak == pytest.approx(peak([at for one in tokens for at in one]))
    for index, one in enumerate(tokens):
        assert batch.pp_each[index] == pytest.approx(2048 / (one[0] - sent[index]))
        assert batch.tg_each[index] == pytest.approx(after[index] / (one[-1] - one[0]))
        assert batch.peak_each[index] == pytest.approx(peak(one))
        assert batch.ttft_ms[index] == pytest.approx((one[0] - sent[index]) * 1e3)


@pytest.mark.parametrize("seed", range(100))
def test_the_true_speeds_lie_within_their_bounds(seed: int) -> None:
    rng = random.Random(seed)
    slow = rng.random() < 0.5
    requests = [
        answer(
            index,
            sent=rng.randrange(50),
            ttft=rng.randrange(60, 300),
            gaps=[rng.randrange(1, 160 if slow else 20) for _ in range(rng.randrange(2, 30))],
        )
        for index in range(rng.randrange(1, 5))
    ]
    recorded, true = zip(*(widened(rng, request) for request in requests), strict=True)
    batch, truth = measure_batch(recorded, 32), measure_batch(true, 32)
    assert batch.bounds
    assert {"pp", "pp_each", "ttfr_ms", "ttft_ms"} <= batch.bounds.keys()
    for name, bound in batch.bounds.items():
        for figure in (getattr(truth, name), getattr(batch, name)):
            assert bound.low - 1e-6 <= np.mean(figure) <= bound.high + 1e-6, name


def test_exact_times_have_speeds_without_width() -> None:
    requests = [replace(each, sent_by_ns=each.sent_ns) for each in drawn(1, 3)]
    rows = speed_rows(depth_figures(0, requests), 32, 8, 3)
    for speed in (each for row in rows for each in (row.speed, row.each, row.peak) if each):
        assert speed.bound
        assert speed.bound.low == pytest.approx(speed.mean) == speed.bound.high


def test_tokens_that_may_all_have_come_at_once_have_no_highest_speed() -> None:
    one = answer(gaps=[10.0, 10.0])
    one.token_since_ns = np.full(3, one.sent_ns + MS)
    bounds = measure_batch([one]).bounds
    assert bounds and not {"tg", "tg_each", "peak", "peak_each"} & bounds.keys()


def test_failed_answers_and_single_tokens_give_no_figures() -> None:
    nothing = measure_batch([failed(0, "timeout")])
    assert (nothing.pp, nothing.tg, nothing.peak, nothing.ttft_ms) == (None, None, None, ())
    one = measure_batch([answer(0, prompt_tokens=100), failed(1, "timeout")])
    assert (one.pp, one.tg, one.tg_each) == (pytest.approx(500.0), None, ())
    assert speed_rows(depth_figures(0, [failed(0, "timeout")]), 8, 8, 1) == []


def test_rows_are_named_as_llama_benchy_names_them() -> None:
    batch, context = drawn(1, 2, prompt_tokens=96), drawn(2, 2, prompt_tokens=64)
    cached = merge_depth([depth_figures(64, batch, context)] * 3)
    assert [row.test for row in speed_rows(cached, 32, 8, 2)] == [
        "ctx_pp @ d64 (c2)",
        "ctx_tg @ d64 (c2)",
        "pp32 @ d64 (c2)",
        "tg8 @ d64 (c2)",
    ]
    alone = merge_depth([depth_figures(0, drawn(seed, 1)) for seed in range(3)])
    prefill, decode = speed_rows(alone, 32, 8, 1)
    assert (prefill.test, decode.test) == ("pp32", "tg8")
    assert (prefill.each, prefill.peak, decode.ttft_ms) == (None, None, None)
    assert len(prefill.speed.values) == 3
    assert all(a != b for a, b in pairwise(prefill.speed.values))


@pytest.mark.parametrize(
    ("hits", "found", "note"),
    [
        (None, None, "reports no cached tokens"),
        (64, 1.0, ""),
        (96, 1.0, ""),
        (48, 0.75, "only 75% of the contexts"),
        (0, 0.0, "only 0% of the contexts"),
    ],
)
def test_a_context_that_was_not_in_the_cache_is_noted(
    hits: int | None, found: float | None, note: str
) -> None:
    figures = depth_figures(64, drawn(1, 2, cached_tokens=hits), drawn(2, 2))
    assert figures.in_cache == found
    texts = [*uncached_depth_note([replace_field(a_repeat(0), depth=figures)])]
    assert len(texts) == bool(note) and note in "".join(texts)
