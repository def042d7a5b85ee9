"""`spark-bench quality` against a server whose answers are known: exact scores, counts, files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from answering_server import MODEL, Answering, answering, question
from click.testing import CliRunner
from spark_bench.cli import main
from spark_bench.quality.arithmetic import arithmetic_items
from spark_bench.results.codec import read_quality
from spark_bench.results.quality_schema import QualityResult
from waiting import until

ITEMS = {item.messages[-1].content: item for item in arithmetic_items(0)}
PLACES = {text: place for place, text in enumerate(ITEMS)}


def right(body: dict[str, Any]) -> dict[str, Any]:
    return {"content": f"Some steps.\nAnswer: {ITEMS[question(body)].expected}"}


def mixed(body: dict[str, Any]) -> dict[str, Any] | int:
    """Of ten items: six right, one wrong, one cut off, one empty, one unreadable."""
    match PLACES[question(body)] % 10:
        case 0:
            return {"content": "Answer: -1"}
        case 1:
            return {"content": "First, we take 3", "finish_reason": "length"}
        case 2:
            return {"content": ""}
        case 3:
            return {"content": "I can't tell."}
    return right(body)


def quality(
    server: Answering, here: Path, *words: str, code: int = 0, env: dict[str, str] | None = None
) -> str:
    """Type `spark-bench quality WORDS`; returns everything that it printed."""
    argv = ["quality", *words, "--url", server.url, "--output", str(here / "q.json")]
    if "--resume" in words:
        argv = argv[:-2]
    store = {"SPARK_BENCH_HISTORY": str(here / "history.sqlite3")}
    result = CliRunner(env=store | (env or {})).invoke(main, argv)
    assert result.exit_code == code, result.output
    return result.output


def read(here: Path) -> QualityResult:
    return read_quality(here / "q.json")


def test_every_count_is_exact(tmp_path: Path) -> None:
    with answering(mixed) as server:
        out = quality(server, tmp_path, "arith", "--limit", "100", "-c", "7")
    result = read(tmp_path)
    score = result.score
    assert (result.status, result.reason) == ("complete", "")
    assert (score.answered, score.failed, score.right, score.score) == (100, 0, 60, 0.6)
    assert (score.stopped_by_length, score.empty, score.unreadable) == (0.1, 0.1, 0.1)
    assert score.low == pytest.approx(0.502003, abs=1e-6)
    assert score.high == pytest.approx(0.690599, abs=1e-6)
    assert [item.id for item in result.items] == [i.id for i in list(ITEMS.values())[:100]]
    assert {name: group.answered for name, group in result.groups.items()} == {
        "level 1": 34,
        "level 2": 33,
        "level 3": 33,
    }
    usage = result.usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.thoughtful) == (1000, 500, 0)
    assert result.config.model == MODEL and result.config.items.count == 100
    assert "60.0 %" in out and "50.2 to 69.1 %" in out
    assert any("10 of 100 answers were cut off" in note for note in result.notes)


def test_an_item_says_what_came_of_it(tmp_path: Path) -> None:
    with answering(mixed) as server:
        quality(server, tmp_path, "arith", "--limit", "5")
    wrong, cut, empty, unreadable, good = read(tmp_path).items
    assert (wrong.answer, wrong.read, wrong.right) == ("Answer: -1", "-1", False)
    assert (cut.finish_reason, cut.read, cut.right) == ("length", "3", False)
    assert (empty.empty, empty.read, empty.right) == (True, None, False)
    assert (unreadable.empty, unreadable.read, unreadable.right) == (False, None, False)
    assert (good.read, good.right, good.expected) == (good.expected, True, good.expected)
    assert (good.prompt_tokens, good.output_tokens) == (10, 5)


def test_no_answers_keeps_none_and_scores_the_same(tmp_path: Path) -> None:
    with answering(mixed) as server:
        quality(server, tmp_path, "arith", "--limit", "20", "--no-answers")
    result = read(tmp_path)
    assert {item.answer for item in result.items} == {None}
    assert (result.score.right, result.score.empty, result.score.unreadable) == (12, 0.1, 0.1)


def test_the_protocol_is_what_is_sent(tmp_path: Path) -> None:
    with answering(right) as server:
        words = ("--thinking", "off", "--max-tokens", "99", "--extra-body", '{"top_p": 0.5}')
        quality(server, tmp_path, "arith", "--limit", "1", *words)
        (body,) = server.asked
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (99, 0.0, 0.5)
    assert "ignore_eos" not in body and body["stream"] is False
    protocol = read(tmp_path).config.protocol
    assert (protocol.thinking, protocol.max_tokens) == ("off", 99)
    assert protocol.extra_body == {"top_p": 0.5}


def test_answers_fit_into_the_context(tmp_path: Path) -> None:
    """Engines refuse a request whose answer may not fit."""
    with answering(right, context=1024) as server:
        quality(server, tmp_path, "arith", "--limit", "1")
    assert 16 <= server.asked[0]["max_tokens"] < 1024 - 100


def test_completions_come_with_examples(tmp_path: Path) -> None:
    items = {item.messages[0].content: item for item in arithmetic_items(0, completion=True)}
    with answering(
        lambda body: {"content": f" 1 + 1.\nAnswer: {items[body['prompt']].expected}"}
    ) as s:
        quality(s, tmp_path, "arith", "--limit", "3", "--endpoint", "completions")
    assert read(tmp_path).score.right == 3
    assert s.asked[0]["stop"] == ["\nProblem:"]


def test_thoughts_are_counted_and_told(tmp_path: Path) -> None:
    def thoughtful(body: dict[str, Any]) -> dict[str, Any]:
        text = right(body)["content"]
        if PLACES[question(body)] % 2:
            return {"content": text, "reasoning_content": "Answer: 5, hm"}
        return {"content": f"<think>Answer: 5</think>{text}"}

    with answering(thoughtful) as server:
        quality(server, tmp_path, "arith", "--limit", "4", "--thinking", "off")
    result = read(tmp_path)
    assert result.score.right == 4 and result.usage.thoughtful == 2
    assert any("2 of 4 answers have thoughts all the same" in note for note in result.notes)
    assert any("2 of 4 answers have thoughts in their text" in note for note in result.notes)


def test_failed_requests_make_it_partial_and_resume_asks_them(tmp_path: Path) -> None:
    def failing(body: dict[str, Any]) -> dict[str, Any] | int:
        return 500 if PLACES[question(body)] % 3 == 0 else right(body)

    with answering(failing) as server:
        quality(server, tmp_path, "arith", "--limit", "9", "-c", "1", code=1)
        first = read(tmp_path)
        assert (first.status, first.score.answered, first.score.failed) == ("partial", 6, 3)
        assert "6 of 9 items have an answer, 3 requests failed: http_500" in first.reason
        server.answer = right
        server.asked.clear()
        quality(server, tmp_path, "--resume", str(tmp_path / "q.json"))
        assert len(server.asked) == 3
    second = read(tmp_path)
    assert (second.status, second.score.right, second.id) == ("complete", 9, first.id)


def test_a_server_that_only_fails_is_given_up(tmp_path: Path) -> None:
    with answering(lambda _: 400) as server:
        out = quality(server, tmp_path, "arith", "-c", "1", code=1)
        assert len(server.asked) < 20
    assert "no item of arith was answered: HTTP 400: status 400 as told" in out
    assert not (tmp_path / "q.json").exists()


def started(server: Answering, here: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    """`spark-bench quality` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "spark_bench", "quality", *words, "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SPARK_BENCH_HISTORY": str(here / "history.sqlite3"),
        },
    )


def lasting(result: QualityResult) -> dict[str, Any]:
    """What of a result does not depend on when it was made."""
    document: dict[str, Any] = msgspec.to_builtins(result)
    for name in ("id", "created", "provenance"):
        del document[name]
    document["usage"].pop("seconds")
    document["config"].pop("command")
    document["config"].pop("url")
    for item in document["items"]:
        item.pop("seconds")
    return document


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_ended_and_resumed_is_the_same_file(tmp_path: Path, number: signal.Signals) -> None:
    whole, words = tmp_path / "whole", ("arith", "--limit", "40", "-c", "4")
    whole.mkdir()
    with answering(mixed) as server:
        quality(server, whole, *words)
        server.asked.clear()
        server.hold, server.held_after = threading.Event(), 20
        process = started(server, tmp_path, [*words, "--output", "q.json"])
        until(lambda: len(server.asked) >= 24)
        until((tmp_path / "q.json").exists)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        server.hold.set()
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
        before = read(tmp_path)
        assert before.status == "partial"
        # SIGKILL loses what came since the file was last written.
        assert 1 <= before.score.answered <= 20
        if number != signal.SIGKILL:
            assert before.score.answered == 20
            assert before.reason == "stopped by Ctrl-C: 20 of 40 items have an answer"
        quality(server, tmp_path, "--resume", str(tmp_path / "q.json"))
    assert lasting(read(tmp_path)) == lasting(read(whole))
