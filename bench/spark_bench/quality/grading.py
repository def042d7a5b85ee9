"""What an answer says, and whether that is right. An answer is hostile text until it is read."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from msgspec import Struct

from spark_bench.quality.items import QualityItem
from spark_bench.quality.tool_calls import grade_calls
from spark_bench.results.quality_schema import AnsweredCall

# Characters of an answer that are looked at, from its end. A longer one has run away.
LOOKED_AT = 64 * 1024
# A number: with a sign, separators of thousands, and decimals.
_NUMBER = re.compile(r"[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d])")
_MARKED = re.compile(r"(?:\banswer\b(?:\s+is)?\s*[:=]?|\\boxed\s*\{|####)", re.IGNORECASE)
_MOST_DIGITS = 40
# A letter that stands alone: "B", "(B)", "B." and "**B**".
_LETTER = re.compile(r"(?<![A-Za-z'])([A-J])(?![A-Za-z'])")
# A fenced block, and where a JSON object or array may begin.
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_MOST_OPENINGS = 64
# Where thoughts end, in an answer whose server has no parser for them.
_THOUGHTS = ("</think>", "</thinking>", "[/THINK]")
_OPENED = re.compile(r"^\s*(?:<think>|<thinking>|\[THINK\])")


class Graded(Struct, frozen=True):
    """What was read from an answer (None: no answer of its form), and whether that is right."""

    read: str | None
    right: bool


def grade(item: QualityItem, answer: str, calls: Sequence[AnsweredCall]) -> Graded:
    """Read an answer, and compare it with the item's."""
    text = without_thoughts(answer)[-LOOKED_AT:]
    if item.grader == "calls":
        return Graded(*grade_calls(item.expected, item.fields.get("tools", []), text, calls))
    return GRADERS[item.grader](item.expected, text)


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

    Where a sum follows a mark, its result is meant: the number after the line's last "=".

    >>> read_number("12 - 2 = 10. Answer: 1,010.50 dollars"), read_number("it is 7, or 8")
    (Fraction(2021, 2), Fraction(8, 1))
    >>> read_number("none") is None
    True
    """
    marks = list(_MARKED.finditer(text))
    number = None
    if marks:
        line = text[marks[-1].end() :].lstrip().partition("\n")[0]
        number = _NUMBER.search(line.rpartition("=")[2]) or _NUMBER.search(text, marks[-1].end())
    if number is None:
        *_, number = None, *_NUMBER.finditer(text)
    if number is None or len(number[0]) > _MOST_DIGITS:
        return None
    return Fraction(number[0].replace(",", "").replace("\u2212", "-"))


def _number(expected: Any, answer: str) -> Graded:
    value = read_number(answer)
    if value is None:
        return Graded(None, False)
    shown = str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
    return Graded(shown, value == Fraction(str(expected)))


def normal_words(text: str) -> str:
    """A text for comparing: composed characters, single blanks, no case, no final period.

    >>> normal_words("  Z\\u00dcRICH \\n is it. ")
    'z\\u00fcrich is it'
    """
    words = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return words.removesuffix(".")


def _exact(expected: Any, answer: str) -> Graded:
    text = answer.strip()
    return Graded(text or None, normal_words(text) == normal_words(str(expected)))


def _contains(expected: Any, answer: str) -> Graded:
    wanted = expected if isinstance(expected, list) else [expected]
    plain = normal_words(answer)
    return Graded(answer.strip() or None, all(normal_words(str(one)) in plain for one in wanted))


def _choice(expected: Any, answer: str) -> Graded:
    marks = list(_MARKED.finditer(answer))
    letter = _LETTER.search(answer, marks[-1].end()) if marks else None
    if letter is None:
        *_, letter = None, *_LETTER.finditer(answer)
    if letter is None:
        return Graded(None, False)
    return Graded(letter[1], letter[1] == str(expected).strip().upper())


def _json(expected: Any, answer: str) -> Graded:
    """The last fenced block, else the first JSON value in the text."""
    decoder = json.JSONDecoder()
    blocks = _FENCED.findall(answer)
    text = blocks[-1] if blocks else answer
    for start in [0, *(m.start() for m in _OPENING.finditer(text))][:_MOST_OPENINGS]:
        try:
            value, _ = decoder.raw_decode(text[start:].lstrip())
        except (ValueError, RecursionError):
            continue
        shown = json.dumps(value, ensure_ascii=False, sort_keys=True)
        return Graded(shown, shown == json.dumps(expected, ensure_ascii=False, sort_keys=True))
    return Graded(None, False)


GRADERS: dict[str, Callable[[Any, str], Graded]] = {
    "number": _number,
    "exact": _exact,
    "contains": _contains,
    "choice": _choice,
    "json": _json,
}
