"""What an answer says, whether that is right, and the score of many answers.

An answer is hostile text until it is read.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction

from msgspec import Struct

from spark_bench.metrics.intervals import LEVEL, wilson
from spark_bench.quality.items import QualityItem
from spark_bench.quality.tool_calls import grade_calls
from spark_bench.results.quality_schema import (
    CUT_OFF,
    AnsweredCall,
    AnsweredItem,
    QualityUsage,
    Score,
)

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
    expected = item.expected
    match item.grader:
        case "number":
            number = read_number(text)
            if number is None:
                return Graded(None, False)
            whole = number.denominator == 1
            shown = str(number.numerator) if whole else f"{float(number):g}"
            return Graded(shown, number == Fraction(str(expected)))
        case "choice":
            letter = read_choice(text)
            return Graded(letter, letter == str(expected).strip().upper())
        case "json":
            value = read_json(text)
            return Graded(value, value == json.dumps(expected, ensure_ascii=False, sort_keys=True))
        case "exact":
            right = normal_words(text) == normal_words(str(expected))
        case "contains":
            wanted = expected if isinstance(expected, list) else [expected]
            plain = normal_words(text)
            right = all(normal_words(str(one)) in plain for one in wanted)
    return Graded(text.strip() or None, right)


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


def normal_words(text: str) -> str:
    """A text for comparing: composed characters, single blanks, no case, no final period.

    >>> normal_words("  The CAT \\n is it. ")
    'the cat is it'
    """
    words = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return words.removesuffix(".")


def read_choice(text: str) -> str | None:
    """The letter after the last mark of an answer, else the last one that stands alone.

    >>> read_choice("A is wrong. Answer: (B)"), read_choice("none")
    ('B', None)
    """
    marks = list(_MARKED.finditer(text))
    letter = _LETTER.search(text, marks[-1].end()) if marks else None
    if letter is None:
        *_, letter = None, *_LETTER.finditer(text)
    return letter[1] if letter else None


def read_json(text: str) -> str | None:
    """The last fenced block, else the first JSON value in the text, in one form for comparing.

    >>> read_json('It is {"b": 1, "a": 2}.')
    '{"a": 2, "b": 1}'
    """
    decoder = json.JSONDecoder()
    blocks = _FENCED.findall(text)
    text = blocks[-1] if blocks else text
    for start in [0, *(m.start() for m in _OPENING.finditer(text))][:_MOST_OPENINGS]:
        try:
            value, _ = decoder.raw_decode(text[start:].lstrip())
        except (ValueError, RecursionError):
            continue
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return None


# ---- many answers


def score_items(items: Iterable[AnsweredItem]) -> Score:
    """The score of these items, with its interval."""
    every = list(items)
    answered = [item for item in every if not item.failure]
    n, right = len(answered), sum(item.right is True for item in answered)
    low, high = wilson(right, n)
    empty = sum(item.empty for item in answered)
    return Score(
        answered=n,
        failed=len(every) - n,
        right=right,
        score=right / n if n else None,
        low=low,
        high=high,
        level=LEVEL,
        stopped_by_length=_share(sum(item.finish_reason == CUT_OFF for item in answered), n),
        empty=_share(empty, n),
        unreadable=_share(sum(item.read is None for item in answered) - empty, n),
    )


def score_groups(items: Sequence[AnsweredItem]) -> dict[str, Score]:
    """The score of each group, in the items' order; empty if there are none."""
    groups = dict.fromkeys(item.group for item in items if item.group)
    return {group: score_items(i for i in items if i.group == group) for group in groups}


def add_usage(items: Sequence[AnsweredItem], seconds: float) -> QualityUsage:
    """Tokens of the answered items, and the seconds that they took."""
    prompts = [item.prompt_tokens for item in items if item.prompt_tokens is not None]
    outputs = [item.output_tokens for item in items if item.output_tokens is not None]
    return QualityUsage(
        seconds=round(seconds, 3),
        prompt_tokens=sum(prompts) if prompts else None,
        output_tokens=sum(outputs) if outputs else None,
        thoughtful=sum(i.thoughts > 0 for i in items),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
