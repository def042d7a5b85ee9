"""The word problems: the same from a seed, answers computed, none below zero."""

from __future__ import annotations

import pytest
from spark_bench.quality.arithmetic import DRAWN, EXAMPLES, PER_LEVEL, arithmetic_items
from spark_bench.quality.items import items_sha256

SEEDS = range(20)


@pytest.mark.parametrize("completion", [False, True])
def test_a_seed_gives_the_same_items(completion: bool) -> None:
    once, again = arithmetic_items(3, completion), arithmetic_items(3, completion)
    assert items_sha256(once) == items_sha256(again)
    assert items_sha256(once) != items_sha256(arithmetic_items(4, completion))


def test_these_items_never_change() -> None:
    """Scores of two versions compare only if they were asked the same."""
    assert items_sha256(arithmetic_items(0))[:16] == "82b3696ce6ead93c"


@pytest.mark.parametrize("seed", SEEDS)
def test_items_are_distinct_and_solvable(seed: int) -> None:
    items = arithmetic_items(seed)
    assert len({item.id for item in items}) == len(items) == PER_LEVEL * len(DRAWN)
    assert len({item.prompt_sha256 for item in items}) > 0.98 * len(items)
    assert all(int(item.expected) >= 0 for item in items)
    assert [item.group for item in items[:3]] == ["level 1", "level 2", "level 3"]


def test_no_example_is_asked() -> None:
    problems = [item.messages[0].content for s in SEEDS for item in arithmetic_items(s)]
    examples = [part.splitlines()[0].strip() for part in EXAMPLES.split("Problem:")[1:]]
    assert not [text for text in examples if any(text in problem for problem in problems)]


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        ("A crate holds", "product"),
        ("A shop has", "boxes"),
    ],
)
def test_answers_follow_from_the_text(problem: str, answer: str) -> None:
    """Recomputed from the numbers of the text, for the templates where that is one formula."""
    import re

    for item in arithmetic_items(1):
        text = item.messages[0].content.partition("\n\n")[2]
        numbers = [int(word) for word in re.findall(r"\d+", text)]
        if text.startswith(problem) and answer == "product":
            assert numbers[0] * numbers[1] == int(item.expected)
        elif text.startswith(problem):
            n, a, m, b, broken = numbers
            assert n * a + m * b - broken == int(item.expected)
