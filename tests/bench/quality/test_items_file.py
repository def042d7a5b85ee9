"""--items: lines of JSON, their graders, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spark_bench.errors import BadInput
from spark_bench.quality.grading import grade
from spark_bench.quality.items import read_items

GOOD = {"prompt": "1 + 1?", "answer": 2, "grader": "number"}


def file(here: Path, *lines: Any) -> Path:
    path = here / "items.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


@pytest.mark.parametrize(
    ("grader", "answer", "text", "right"),
    [
        ("number", 2, "It is 2.", True),
        ("number", "0.5", "Answer: 0.50", True),
        ("exact", "Yes", " yes. ", True),
        ("exact", "Yes", "yes, sir", False),
        ("contains", "Paris", "That is PARIS, of course", True),
        ("contains", ["Paris", "Seine"], "Paris on the Seine", True),
        ("contains", ["Paris", "Rhine"], "Paris on the Seine", False),
        ("choice", "B", "Answer: B", True),
        ("choice", "B", "(A) is wrong, so it is (B).", True),
        ("choice", "B", "A", False),
        ("choice", "B", "None of these", False),
        ("json", {"a": [1]}, 'Here:\n```json\n{"a": [1]}\n```', True),
        ("json", {"a": [1]}, 'It is {"a": [1]}.', True),
        ("json", {"a": [1]}, '{"a": [2]}', False),
        ("json", {"a": [1]}, "no JSON", False),
        ("calls", [], "No tool is needed.", True),
    ],
)
def test_graders(tmp_path: Path, grader: str, answer: Any, text: str, right: bool) -> None:
    (item,) = read_items(file(tmp_path, {"prompt": "?", "answer": answer, "grader": grader}))
    assert grade(item, text, ()).right is right


def test_every_field(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "1 + 1?"}]
    line = {**GOOD, "prompt": messages, "id": "a", "group": "sums"}
    one, other = read_items(file(tmp_path, line, "", GOOD))
    assert (one.id, one.group, one.messages[0].role) == ("a", "sums", "system")
    assert (other.id, other.messages[0].content) == ("line-3", "1 + 1?")


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "has no items"),
        (["{"], "line 1"),
        ([GOOD, "[]"], "line 2"),
        ([{**GOOD, "grader": "vibes"}], "'vibes'"),
        ([{**GOOD, "anwser": 2}], "anwser"),
        ([{"prompt": "?", "grader": "number"}], "answer"),
        ([{**GOOD, "answer": "two"}], "line 1"),
        ([{**GOOD, "grader": "choice", "answer": "Z"}], "not a letter from A to J"),
        ([{**GOOD, "grader": "exact", "answer": " "}], "answer is empty"),
        ([{**GOOD, "grader": "calls"}], "line 1"),
        ([{**GOOD, "prompt": ""}], "line 1"),
        ([{**GOOD, "id": "x"}, {**GOOD, "id": "x"}], "'x' occurs twice"),
        (["[" * 100_000], "line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: list[Any], what: str) -> None:
    path = file(tmp_path, *lines)
    with pytest.raises(BadInput) as error:
        read_items(path)
    assert what in error.value.message and str(path) in error.value.message
