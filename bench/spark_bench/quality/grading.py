"""What an answer says, and whether that is right. An answer is hostile text until it is read."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from msgspec import Struct

from spark_bench.quality.items import Item
from spark_bench.results.quality_schema import AnsweredCall

# Characters of an answer that are looked at, from its end. A longer one has run away.
LOOKED_AT = 64 * 1024
# A number: with a sign, separators of thousands, and decimals.
_NUMBER = re.compile(r"[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d])")
_MARKED = re.compile(r"(?:\banswer\b(?:\s+is)?\s*[:=]?|\\boxed\s*\{|####)", re.IGNORECASE)
_MOST_DIGITS = 40
# Where thoughts end, in an answer whose server has no parser for them.
_THOUGHTS = ("</think>", "</thinking>", "[/THINK]")
_OPENED = re.compile(r"^\s*(?:<think>|<thinking>|\[THINK\])")


class Graded(Struct, frozen=True):
    """What was read from an answer (None: nothing of the asked form), and whether it is right."""

    read: str | None
    right: bool


def grade(item: Item, answer: str, calls: Sequence[AnsweredCall]) -> Graded:
    """Read an answer, and compare it with the item's."""
    return GRADERS[item.grader](item.expected, without_thoughts(answer)[-LOOKED_AT:], calls)


def without_thoughts(answer: str) -> str:
    """The answer after thoughts that a server without a parser left in it.

    Thoughts without an end leave no answer.
    """
    for end in _THOUGHTS:
        if end in answer:
            return answer.rpartition(end)[2]
    return "" if _OPENED.match(answer) else answer


def read_number(text: str) -> Fraction | None:
    """The number after the last "answer", "####" or \\boxed; without these, the last number.

    >>> read_number("12 - 2 = 10. Answer: 1,010.50 dollars"), read_number("it is 7, or 8")
    (Fraction(2021, 2), Fraction(8, 1))
    >>> read_number("none") is None
    True
    """
    marks = list(_MARKED.finditer(text))
    number = _NUMBER.search(text, marks[-1].end()) if marks else None
    if number is None:
        *_, number = None, *_NUMBER.finditer(text)
    if number is None or len(number[0]) > _MOST_DIGITS:
        return None
    return Fraction(number[0].replace(",", "").replace("\u2212", "-"))


def _number(expected: Any, answer: str, _: Sequence[AnsweredCall]) -> Graded:
    value = read_number(answer)
    if value is None:
        return Graded(None, False)
    whole = value.denominator == 1
    return Graded(
        str(value.numerator) if whole else f"{float(value):g}", value == Fraction(expected)
    )


Read = Callable[[Any, str, Sequence[AnsweredCall]], Graded]
GRADERS: dict[str, Read] = {"number": _number}
