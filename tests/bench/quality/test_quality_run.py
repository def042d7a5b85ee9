"""`spark-bench quality` against a server whose answers are known: exact scores, counts, files."""

from __future__ import annotations

import json
import os
import re
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
from spark_bench.quality.items import QualityItem
from spark_bench.quality.tool_calls import tool_items
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


def test_an_item_records_its_outcome(tmp_path: Path) -> None:
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


def test_thoughts_are_counted_and_reported(tmp_path: Path) -> None:
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


def test_failed_requests_make_it_partial_and_resume_sends_them(tmp_path: Path) -> None:
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


def calls_of(item: QualityItem) -> list[dict[str, Any]]:
    """The right calls of a scenario, as a server sends them."""
    calls = []
    for call in item.expected:
        arguments = {
            key: value["any"][0] if isinstance(value, dict) and value.keys() == {"any"} else value
            for key, value in call["arguments"].items()
        }
        function = {"name": call["name"], "arguments": json.dumps(arguments)}
        calls.append({"id": "x", "type": "function", "function": function})
    return calls


def test_tools_are_sent_with_tools_and_scored(tmp_path: Path) -> None:
    items = {item.messages[1].content: item for item in tool_items()}

    def calling(body: dict[str, Any]) -> dict[str, Any]:
        item = items[body["messages"][1]["content"]]
        assert body["tools"] == item.fields["tools"]
        if item.group == "unicode":  # as a server without a parser has it
            return {"content": f"<tool_call>{calls_of(item)}</tool_call>"}
        if item.group == "no tool":
            return {"content": "No tool is needed."}
        return {"content": None, "tool_calls": calls_of(item), "finish_reason": "tool_calls"}

    with answering(calling) as server:
        quality(server, tmp_path, "tools")
    result = read(tmp_path)
    unicode = result.groups["unicode"].answered
    assert result.score.right == len(items) - unicode
    assert result.score.unreadable == unicode / len(items) and result.score.empty == 0
    assert result.groups["parallel calls"].score == 1.0
    two = next(item for item in result.items if item.id == "tools-two-cities")
    assert [call.name for call in two.calls] == ["get_weather", "get_weather"]


def test_needle_sends_each_length_at_each_depth(tmp_path: Path) -> None:
    def looking(body: dict[str, Any]) -> dict[str, Any]:
        who = re.search(r"Which number has the locker of (\w+)", question(body))
        assert who
        number = re.search(rf"locker of {who[1]} has the number (\d+)", question(body))
        # The model forgets the end of long texts.
        return {"content": number[1] if number and len(question(body)) < 8000 else "100000"}

    with answering(looking, context=9000) as server:
        quality(server, tmp_path, "needle", "--lengths", "1024,4k", "--max-tokens", "64")
    result = read(tmp_path)
    assert {name: group.right for name, group in result.groups.items()} == {
        "1024 tokens": 9,
        "4096 tokens": 0,
    }
    assert result.config.items.lengths == (1024, 4096)


def test_items_of_a_file_resumed_with_the_same_file_only(tmp_path: Path) -> None:
    lines = [{"prompt": f"{n} + 1?", "answer": n + 1, "grader": "number"} for n in range(6)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    result = str(tmp_path / "q.json")

    def adding(body: dict[str, Any]) -> dict[str, Any] | int:
        number = int(question(body).split()[0])
        return 500 if number == 3 else {"content": str(number + 1)}

    with answering(adding) as server:
        quality(server, tmp_path, "--items", str(file), "-c", "1", code=1)
        assert read(tmp_path).config.items.source == "mine.jsonl"
        assert "give --items again" in quality(server, tmp_path, "--resume", result, code=2)
        server.answer = lambda body: {"content": "4"}
        quality(server, tmp_path, "--resume", result, "--items", str(file))
        assert read(tmp_path).score.right == 6
        file.write_text(file.read_text().replace("5 + 1", "5 + 2"))
        out = quality(server, tmp_path, "--resume", result, "--items", str(file), code=2)
    assert "give the same file" in out


def test_two_tasks_make_two_results_and_are_in_the_history(tmp_path: Path) -> None:
    with answering(lambda _: {"content": "7"}) as server:
        quality(server, tmp_path, "arith", "tools", "--limit", "6")
    store = {"SPARK_BENCH_HISTORY": str(tmp_path / "history.sqlite3")}
    names = [read_quality(tmp_path / f"q_{task}.json").config.task for task in ("arith", "tools")]
    assert names == ["arith", "tools"]
    listed = CliRunner(env=store).invoke(main, ["history", "list"]).output
    assert "arith" in listed and "tools" in listed
    shown = CliRunner(env=store).invoke(main, ["history", "show"]).output
    assert "interval" in shown and "no tool" in shown
    exported = CliRunner(env=store).invoke(main, ["history", "export", "--json"]).output
    assert {row["score"] for row in json.loads(exported)} == {0.0, 1 / 6}
    added = CliRunner(env=store).invoke(main, ["history", "add", str(tmp_path)]).output
    assert added.startswith("2 results added")


def test_a_task_that_fails_costs_no_other(tmp_path: Path) -> None:
    with answering(lambda body: 400 if "tools" in body else right(body)) as server:
        out = quality(server, tmp_path, "arith", "tools", "--limit", "4", code=1)
    assert "no item of tools was answered: HTTP 400" in out and "written to" in out
    assert read_quality(tmp_path / "q_arith.json").status == "complete"
    assert not (tmp_path / "q_tools.json").exists()


def test_what_can_not_be_sent_is_reported_before_anything_is(tmp_path: Path) -> None:
    with answering(right, context=1100) as server:
        out = quality(server, tmp_path, "arith", "needle", code=2)
        assert "--max-tokens less" in out and not server.asked


def test_another_model_is_not_resumed(tmp_path: Path) -> None:
    with answering(lambda body: 500 if PLACES[question(body)] else right(body)) as server:
        quality(server, tmp_path, "arith", "--limit", "2", code=1)
    with answering(right, model="another") as server:
        out = quality(server, tmp_path, "--resume", str(tmp_path / "q.json"), code=2)
        assert "another" in out and not server.asked


def test_a_key_in_an_answer_is_hidden(tmp_path: Path) -> None:
    key = "sk-abcdefgh12345678"
    with answering(lambda _: {"content": f"{key} and hf_abcdefghijkl: 7"}) as server:
        env = {"SPARK_BENCH_API_KEY": "my-own-key-42"}
        server.answer = lambda _: {"content": f"{key} my-own-key-42 7"}
        quality(server, tmp_path, "arith", "--limit", "1", env=env)
    assert read(tmp_path).items[0].answer == "*** *** 7"


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written where it belongs is written into the current folder."""
    monkeypatch.chdir(tmp_path)
    with answering(right) as server:
        argv = ["quality", "arith", "--limit", "2", "--url", server.url, "--output", "/dev/full"]
        env = {"SPARK_BENCH_HISTORY": str(tmp_path / "history.sqlite3")}
        result = CliRunner(env=env).invoke(main, argv)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["score"]["right"] == 2
    assert "can't be written" in result.stderr
    assert json.loads((tmp_path / "full").read_text())["score"]["right"] == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param("arit", "did you mean arith?", id="task"),
        pytest.param("tools --endpoint completions", "only chat requests", id="no-chat"),
        pytest.param("arith --lengths 4k", "needs the task needle", id="lengths"),
        pytest.param("needle --lengths 4m", "'4m' is not a number of tokens", id="length"),
        pytest.param("needle --lengths 12", "from 1024", id="too-short"),
        pytest.param("--limit 0", "0 is not a whole number of 1", id="limit"),
        pytest.param("-c none", "none is not a whole number", id="concurrency"),
        pytest.param("--items {bad.jsonl}", "line 1", id="items"),
        pytest.param("--resume {bad.jsonl}", "not a result of spark-bench quality", id="resume"),
        pytest.param("arith --resume {good.json}", "TASK doesn't go with --resume", id="decided"),
        pytest.param("--seed 3 --resume {good.json}", "--seed doesn't go with", id="seed"),
        pytest.param("--output {.}", "is a folder", id="folder"),
    ],
)
def test_bad_input_is_reported_before_anything_is_sent(
    tmp_path: Path, words: str, named: str
) -> None:
    (tmp_path / "bad.jsonl").write_text("[]")
    (tmp_path / "good.json").write_text("{}")
    for name in ("bad.jsonl", "good.json", "."):
        words = words.replace(f"{{{name}}}", str(tmp_path / name))
    with answering(right) as server:
        result = CliRunner().invoke(main, ["quality", *words.split(), "--url", server.url])
        assert not server.asked
    assert result.exit_code == 2, result.output
    assert named in result.output.replace("\n", " ")


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
