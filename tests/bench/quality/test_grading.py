"""What is read from an answer, and what counts as right."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from spark_bench.quality.grading import grade, read_number, without_thoughts
from spark_bench.quality.items import ItemMessage, QualityItem


def item(grader: str, expected: object) -> QualityItem:
    return QualityItem(
        id="x",
        messages=(ItemMessage("user", "?"),),
        grader=grader,  # type: ignore[arg-type]
        expected=expected,
    )


@pytest.mark.parametrize(
    ("answer", "read", "right"),
    [
        pytest.param("Answer: 42", "42", True, id="marked"),
        pytest.param("42", "42", True, id="alone"),
        pytest.param("the answer is 42.", "42", True, id="sentence"),
        pytest.param("Answer: $42.00 in all", "42", True, id="money"),
        pytest.param("**Answer:** 42", "42", True, id="bold"),
        pytest.param(r"so \boxed{42}", "42", True, id="boxed"),
        pytest.param("#### 42", "42", True, id="gsm8k"),
        pytest.param("40 + 2 = 42", "42", True, id="last"),
        pytest.param("Answer: 42\n(7 x 6 = 42, 3 steps)", "42", True, id="marked, then more"),
        pytest.param("Answer: 7\nNo: Answer: 42", "42", True, id="the last mark"),
        pytest.param("The answer is 50 - 8 = 42.", "42", True, id="a sum"),
        pytest.param("Answer:\n\n**42**", "42", True, id="on its own line"),
        pytest.param("the answer = 42", "42", True, id="equals"),
        pytest.param("Answer: 43", "43", False, id="wrong"),
        pytest.param("Answer: -42", "-42", False, id="sign"),
        pytest.param("Answer: 42.5", "42.5", False, id="fraction"),
        pytest.param("Answer: 4,242", "4242", False, id="thousands"),
        pytest.param("no idea", None, False, id="nothing"),
        pytest.param("", None, False, id="empty"),
        pytest.param("4" * 5000, None, False, id="a number without end"),
        pytest.param("<think>42", None, False, id="thoughts without end"),
        pytest.param("<think>41</think>42", "42", True, id="after thoughts"),
    ],
)
def test_numbers(answer: str, read: str | None, right: bool) -> None:
    graded = grade(item("number", "42"), answer, ())
    assert (graded.read, graded.right) == (read, right)


@given(st.integers(-(10**12), 10**12))
def test_a_number_is_read_as_it_is_written(number: int) -> None:
    for text in (f"{number}", f"{number:,}", f"{number}.0", f"It is {number:,}."):
        assert read_number(text) == number


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    grade(item("number", "1"), text, ())
    assert without_thoughts(text) in text
