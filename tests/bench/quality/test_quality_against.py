"""`spark-bench quality --against`: the same items again, and how the answers differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answering_server import answering, question
from click.testing import CliRunner
from msgspec import UNSET
from spark_bench.cli import main
from spark_bench.quality.arithmetic import arithmetic_items
from spark_bench.results.codec import read_quality
from spark_bench.results.quality_schema import QualityResult

ITEMS = {item.messages[-1].content: item for item in arithmetic_items(7)}
PLACES = {text: place for place, text in enumerate(ITEMS)}


def before(body: dict[str, Any]) -> dict[str, Any]:
    """Every tenth item is wrong."""
    place = PLACES[question(body)]
    value = -1 if place % 10 == 9 else ITEMS[question(body)].expected
    return {"content": f"Two steps. Answer: {value}"}


def after(body: dict[str, Any]) -> dict[str, Any]:
    """The same, but wrong in two more of ten, right in one other, and one in other words."""
    place, expected = PLACES[question(body)], ITEMS[question(body)].expected
    match place % 10:
        case 0 | 1:
            return {"content": "Two steps. Answer: -2"}
        case 2:
            return {"content": f"Two long steps. Answer: {expected}"}
    return {"content": f"Two steps. Answer: {expected}"} if place == 9 else before(body)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "history.sqlite3"))
    return tmp_path


def quality(answer: Any, *words: str, code: int = 0, **server: Any) -> str:
    """Type `spark-bench quality WORDS` to a server that answers so; what it printed."""
    with answering(answer, **server) as engine:
        done = CliRunner().invoke(main, ["quality", *words, "--url", engine.url])
        assert done.exit_code == code, done.output
        return done.output


def first(*words: str) -> QualityResult:
    quality(before, "arith", "--seed", "7", "--limit", "100", "--output", "before.json", *words)
    return read_quality(Path("before.json"))


def test_the_same_items_are_sent_in_the_same_way_and_compared_with_the_answers() -> None:
    one = first("--max-tokens", "99", "--thinking", "off", "--extra-body", '{"top_p": 0.5}')
    printed = quality(after, "--against", "before.json", "--output", "after.json", model="other")
    two = read_quality(Path("after.json"))
    assert two.config.protocol == one.config.protocol
    assert two.config.items == one.config.items
    assert (two.config.model, two.score.right) == ("other", 71)
    against = two.against
    assert against
    assert (against.id, against.file, against.model) == (one.id, "before.json", "the-model")
    assert (against.items, against.score, against.lost, against.won) == (100, 0.9, 20, 1)
    assert against.difference == pytest.approx(-0.19)
    assert against.low < -0.19 < against.high < -0.1
    assert against.p < 0.001
    matched = against.matched
    assert (matched.answers, matched.same_value, matched.same_text) == (100, 79, 69)
    # "Two steps. Answer: N" differs in its fourth word, "Two long steps" in its second.
    assert (matched.median_place, matched.earliest_place) == (4, 2)
    for words in ("before.json: 90.0 % there, -19.0 pts here", "79.0 % of 100 answers agree"):
        assert words in " ".join(printed.split())


def in_pieces(text: str) -> list[str]:
    """Tokens of four characters."""
    return [text[n : n + 4] for n in range(0, len(text), 4)]


def as_chat(text: str) -> dict[str, Any]:
    """As SGLang and llama.cpp have them in answers to chat requests."""
    return {
        "content": [
            {"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": []}
            for piece in in_pieces(text)
        ]
    }


def as_completion(text: str) -> dict[str, Any]:
    """As SGLang and vLLM have them in answers to completions."""
    return {"tokens": in_pieces(text), "token_logprobs": [-0.1] * len(in_pieces(text))}


@pytest.mark.parametrize("shape", [as_chat, as_completion])
def test_the_first_token_that_differs_is_reported_where_both_have_tokens(shape: Any) -> None:
    with answering(before, tokens=shape) as engine:
        words = ["quality", "arith", "--seed", "7", "--limit", "100", "--output", "before.json"]
        assert CliRunner().invoke(main, [*words, "--url", engine.url]).exit_code == 0
        trial, *asked = engine.asked
        assert trial["max_tokens"] == 1 and len(asked) == 100
        assert all(body["logprobs"] is True and body["top_logprobs"] == 1 for body in asked)
    one = read_quality(Path("before.json"))
    assert one.items[9].tokens == ("Two ", "step", "s. A", "nswe", "r: -", "1")
    printed = quality(after, "--against", "before.json", "--output", "after.json", tokens=shape)
    against = read_quality(Path("after.json")).against
    assert against
    matched = against.matched
    # "r: N" is the fifth token, and " long" begins in the second one.
    assert (matched.places, matched.median_place, matched.earliest_place) == ("token", 5, 2)
    assert "from token 5 on in the median, 2 at the earliest" in " ".join(printed.split())
    # Beside a result without tokens, words are what is left.
    quality(after, "--against", "before.json", "--output", "words.json")
    words_only = read_quality(Path("words.json")).against
    assert words_only and words_only.matched.places is UNSET
    assert words_only.matched.median_place == 4


def test_the_same_answers_agree_in_everything() -> None:
    first()
    quality(before, "--against", "before.json", "--output", "after.json")
    against = read_quality(Path("after.json")).against
    assert against
    assert (against.lost, against.won, against.difference, against.p) == (0, 0, 0, 1)
    assert (against.matched.same_text, against.matched.median_place) == (100, None)


def test_a_result_without_answers_is_refused_before_anything_is_sent() -> None:
    first("--no-answers")
    printed = quality(after, "--against", "before.json", code=2)
    assert "it has no answers (--no-answers)" in printed


@pytest.mark.parametrize(
    "words",
    [("arith",), ("--seed", "8"), ("--limit", "5"), ("--thinking", "on"), ("--max-tokens", "9")],
)
def test_what_the_result_decides_is_not_typed_again(words: tuple[str, ...]) -> None:
    first()
    printed = quality(after, *words, "--against", "before.json", code=2)
    assert "doesn't go with --against: before.json says what it is" in printed


def test_items_that_differ_now_are_refused() -> None:
    first()
    document = json.loads(Path("before.json").read_text())
    document["config"]["items"]["sha256"] = "0" * 64
    Path("before.json").write_text(json.dumps(document))
    printed = quality(after, "--against", "before.json", code=2)
    assert "its items (spark-bench, 00000000) are not those that would be sent now" in printed


def test_items_of_ones_own_are_named_again() -> None:
    Path("mine.jsonl").write_text('{"prompt": "1 + 1", "answer": 2, "grader": "number"}\n')
    Path("others.jsonl").write_text('{"prompt": "1 + 2", "answer": 3, "grader": "number"}\n')

    def two(_: dict[str, Any]) -> dict[str, Any]:
        return {"content": "2"}

    quality(two, "--items", "mine.jsonl", "--output", "before.json")
    words = ("--against", "before.json", "--output", "after.json")
    assert "give --items again" in quality(two, *words, code=2)
    assert "are not those" in quality(two, *words, "--items", "others.jsonl", code=2)
    quality(two, *words, "--items", "mine.jsonl")
    assert (against := read_quality(Path("after.json")).against) and against.matched.same_text == 1


def test_an_interrupted_comparison_goes_on_only_with_its_other_side() -> None:
    first()
    quality(after, "--against", "before.json", "--output", "after.json")
    document = json.loads(Path("after.json").read_text())
    whole = read_quality(Path("after.json")).against
    kept = document["items"][:50]
    right = sum(item["right"] for item in kept)
    document |= {"items": kept, "status": "partial", "reason": "stopped by Ctrl-C"}
    document["score"] |= {"answered": 50, "right": right}
    Path("after.json").write_text(json.dumps(document))
    assert "give --against again" in quality(after, "--resume", "after.json", code=2)
    quality(after, "--resume", "after.json", "--against", "before.json")
    assert read_quality(Path("after.json")).against == whole
