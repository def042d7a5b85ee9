"""The word problems: the same from a seed, answers computed, none below zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from spark_bench.quality.arithmetic import EXAMPLES, PER_LEVEL, TEMPLATES, arithmetic_items
from spark_bench.quality.items import items_sha256

SEEDS = range(20)


@pytest.mark.parametrize("completion", [False, True])
def test_a_seed_gives_the_same_items(completion: bool) -> None:
    once, again = arithmetic_items(3, completion), arithmetic_items(3, completion)
    assert items_sha256(once) == items_sha256(again)
    assert items_sha256(once) != items_sha256(arithmetic_items(4, completion))


def test_these_items_never_change() -> None:
    """Scores of two versions compare only if they were asked the same."""
    assert items_sha256(arithmetic_items(0))[:16] == "bdb165106245820f"


@pytest.mark.parametrize("seed", SEEDS)
def test_items_are_distinct_and_solvable(seed: int) -> None:
    items = arithmetic_items(seed)
    assert len({item.id for item in items}) == len(items) == PER_LEVEL * len(TEMPLATES)
    assert len({item.prompt_sha256 for item in items}) > 0.98 * len(items)
    assert all(int(item.expected) >= 0 for item in items)
    assert [item.group for item in items[:3]] == ["level 1", "level 2", "level 3"]


def test_no_example_is_sent() -> None:
    problems = [item.messages[0].content for s in SEEDS for item in arithmetic_items(s)]
    examples = [part.splitlines()[0].strip() for part in EXAMPLES.split("Problem:")[1:]]
    assert not [text for text in examples if any(text in problem for problem in problems)]


# By how a problem begins or ends: its answer, from the numbers of its text alone.
SOLVED: dict[str, Callable[..., float]] = {
    "more. How": lambda a, b: a + b,
    "and sold": lambda had, sold: had - sold,
    "A crate holds": lambda each, crates: each * crates,
    "shared out": lambda whole, people: whole / people,
    "of change": lambda count, price, paid: paid - count * price,
    "broken": lambda n, a, m, b, broken: n * a + m * b - broken,
    "times as old": lambda age, times, years: age * times + years,
    "A truck": lambda hours, fast, more, slow: hours * fast + more * slow,
    "of the wages": lambda hours, days, wage, extra, percent, cost: (
        hours * days * wage + extra * wage * (100 + percent) / 100 - cost
    ),
    "the hotel": lambda price, count, off, shipping, coupon: (
        price * count * (1 - Fraction(off, 100)) + shipping - coupon
    ),
    "A tank": lambda start, fill, drain, minutes, more: (
        start + minutes * fill - (minutes + more) * drain
    ),
    "A school": lambda classes, each, part, absent, teachers, seats: (
        (classes * each * (1 - Fraction(1, part)) - absent + teachers) / seats
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_follow_from_the_text(seed: int) -> None:
    for item in arithmetic_items(seed):
        problem = item.messages[0].content.partition("\n\n")[2]
        (solve,) = [solve for part, solve in SOLVED.items() if part in problem]
        numbers = [int(word) for word in re.findall(r"\d+", problem.replace("One in", ""))]
        assert solve(*numbers) == int(item.expected), problem
