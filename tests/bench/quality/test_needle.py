"""Facts in long texts: at the right depth, of the right length, one right answer."""

from __future__ import annotations

import pytest
from spark_bench.errors import BadInput
from spark_bench.prompts.tokens import ApproximateTokens
from spark_bench.quality.items import items_sha256
from spark_bench.quality.needle import DECOYS, DEPTHS, needle_items, needle_lengths

TOKENS = ApproximateTokens()


@pytest.mark.parametrize("length", [1024, 4096, 20_000])
def test_the_fact_is_at_its_depth(length: int) -> None:
    items = needle_items([length], 0, TOKENS)
    assert [int(item.id.rpartition("-")[2]) for item in items] == list(DEPTHS)
    for depth, item in zip(DEPTHS, items, strict=True):
        text = item.messages[0].content
        assert text.count("has the number") == DECOYS + 1
        assert text.count(f" {item.expected}.") == 1
        place = text.index(f"number {item.expected}.") / len(text) * 100
        assert abs(place - depth) < (6 if length > 2000 else 15)
        tokens = TOKENS.count([text])[0]
        # 15 % less, since these counts are estimates, and 400 for the question.
        assert (length - 400) * 0.8 < tokens < length


def test_all_depths_share_the_beginning_of_a_text() -> None:
    texts = [
        item.messages[0].content.partition("\n\n")[2] for item in needle_items([8192], 0, TOKENS)
    ]
    shared = next(i for i, (a, b) in enumerate(zip(texts[-1], texts[-2], strict=False)) if a != b)
    assert shared > 0.75 * len(texts[-1])


def test_a_seed_gives_the_same_items() -> None:
    def digest(seed: int) -> str:
        return items_sha256(needle_items([2048], seed, TOKENS))

    assert digest(1) == digest(1) != digest(2)


def test_lengths_reach_the_contexts_end() -> None:
    assert needle_lengths((), 32_768, 1024) == (4096, 8192, 16_384, 31_744)
    assert needle_lengths((), 4096, 1024) == (3072,)
    assert needle_lengths((), None, 1024) == (4096, 8192, 16_384, 32_768)
    assert needle_lengths((5000,), 8192, 1024) == (5000,)


@pytest.mark.parametrize(("wanted", "context"), [((8192,), 8192), ((), 1200)])
def test_what_has_no_room_is_refused(wanted: tuple[int, ...], context: int) -> None:
    with pytest.raises(BadInput, match=r"--max-tokens"):
        needle_lengths(wanted, context, 1024)
