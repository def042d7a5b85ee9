"""gsm8k and aime through SGLang's harness, of which a stand-in has the command line and files.

What is held against sgl-eval 0.1.3 itself is the last test, where `make sgl-eval` was run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from answering_server import answering, question
from click.testing import CliRunner
from spark_bench.cli import main
from spark_bench.errors import BadInput
from spark_bench.quality.harness import harness_items, read_whole_lines
from spark_bench.results.codec import read_quality
from spark_bench.results.quality_schema import QualityResult
from waiting import until

FAKE = Path(__file__, "../../../support/fake_sgl_eval").resolve()
REAL = Path(__file__).parents[3] / ".venv-sgl-eval" / "bin" / "python"
PROBLEMS = [{"question": f"What is {n} + {n}?", "answer": f"So.\n#### {2 * n}"} for n in range(40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "test.jsonl"
    file.write_text("\n".join(map(json.dumps, PROBLEMS)))
    return file


def boxed(body: dict[str, Any]) -> dict[str, Any]:
    """Right, but for every fourth (wrong) and every tenth (without a box)."""
    match = re.search(r"What is (\d+)", question(body))
    assert match
    number = int(match[1])
    if number % 10 == 9:
        return {"content": "I give up.", "finish_reason": "length"}
    return {"content": rf"So \boxed{{{2 * number if number % 4 else -1}}}"}


def quality(url: str, here: Path, *words: str, code: int = 0, python: Path | None = None) -> str:
    """Type `spark-bench quality WORDS` with the stand-in."""
    env = {
        "SPARK_BENCH_HISTORY": str(here / "history.sqlite3"),
        "SPARK_BENCH_API_KEY": "a-key-of-ours",
        "PYTHONPATH": "" if python else str(FAKE),
    }
    argv = ["quality", *words, "--harness", str(python or sys.executable), "--url", url]
    if "--resume" not in words:
        argv += ["--output", str(here / "q.json")]
    result = CliRunner(env=env).invoke(main, argv)
    assert result.exit_code == code, result.output
    return result.output


def read(here: Path) -> QualityResult:
    return read_quality(here / "q.json")


def test_its_scores_are_ours(tmp_path: Path, data: Path) -> None:
    with answering(boxed) as server:
        quality(server.url, tmp_path, "gsm8k", "--data", str(data), "--thinking", "off", "-c", "4")
    result = read(tmp_path)
    score = result.score
    assert (score.answered, score.right, score.unreadable) == (40, 26, 0.1)
    assert score.stopped_by_length == 0.1
    assert result.config.items.source == "sgl-eval 0.1.3, test.jsonl"
    assert (result.config.protocol.thinking, result.config.protocol.max_tokens) == ("off", 6144)
    assert server.asked[0]["chat_template_kwargs"] == {"thinking": False, "enable_thinking": False}
    assert (result.items[1].id, result.items[1].read, result.items[1].right) == (
        "gsm8k-1",
        "2",
        True,
    )
    assert result.usage.output_tokens == 200 and result.usage.prompt_tokens is None


def test_its_own_data_needs_no_file(tmp_path: Path) -> None:
    with answering(boxed) as server:
        quality(server.url, tmp_path, "aime25", "--max-tokens", "99")
    result = read(tmp_path)
    assert result.config.items.source == "sgl-eval 0.1.3, its own data"
    assert [item.right for item in result.items] == [True, True]
    assert server.asked[0]["max_tokens"] == 99


def test_what_failed_is_asked_again(tmp_path: Path, data: Path) -> None:
    def failing(body: dict[str, Any]) -> dict[str, Any] | int:
        return 400 if "What is 7 " in question(body) else boxed(body)

    with answering(failing) as server:
        quality(server.url, tmp_path, "gsm8k", "--data", str(data), "--limit", "10", code=1)
        first = read(tmp_path)
        assert (first.score.answered, first.score.failed) == (9, 1)
        assert "harness: sgl-eval got no answer" in first.reason
        server.answer = boxed
        server.asked.clear()
        again = ("--resume", str(tmp_path / "q.json"))
        assert "give --data again" in quality(server.url, tmp_path, *again, code=2)
        quality(server.url, tmp_path, *again, "--data", str(data))
    assert len(server.asked) == 1
    assert (read(tmp_path).status, read(tmp_path).id) == ("complete", first.id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_and_resumed_has_every_item_once(
    tmp_path: Path, data: Path, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "spark_bench", "quality", "gsm8k", "--data", str(data)]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(FAKE)]),
        "SPARK_BENCH_HISTORY": str(tmp_path / "history.sqlite3"),
    }
    with answering(boxed) as server:
        server.hold, server.held_after = threading.Event(), 10
        words += ["--harness", sys.executable, "--url", server.url, "--output", "q.json"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env)
        until(lambda: len(server.asked) > 10 and (tmp_path / "q.json").exists())
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        server.hold.set()
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
        before = read(tmp_path)
        assert before.status == "partial" and 1 <= before.score.answered < 40
        again = ("--resume", str(tmp_path / "q.json"), "--data", str(data))
        quality(server.url, tmp_path, *again)
    assert [item.id for item in read(tmp_path).items] == [f"gsm8k-{n}" for n in range(40)]
    assert read(tmp_path).score.right == 26


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("gsm8k", "gsm8k needs --data FILE"),
        ("arith --data {data}", "--data needs one of the tasks gsm8k"),
        ("gsm8k aime25 --data {data}", "of one task"),
        ("gsm8k --data {data} --endpoint completions", "--endpoint doesn't go with gsm8k"),
        ('gsm8k --data {data} --extra-body {{"a":1}}', "--extra-body doesn't go with gsm8k"),
    ],
)
def test_bad_input(tmp_path: Path, data: Path, words: str, what: str) -> None:
    with answering(boxed) as server:
        argv = ["quality", *words.format(data=data).split(), "--url", server.url]
        result = CliRunner().invoke(main, argv)
        assert not server.asked
    assert result.exit_code == 2 and what in result.output.replace("\n", " "), result.output


def test_another_version_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SGL_EVAL_VERSION", "9.9")
    with answering(boxed) as server:
        out = quality(server.url, tmp_path, "gsm8k", "--data", str(data), code=2)
    assert "has 9.9: make sgl-eval installs 0.1.3" in out


def test_a_python_without_it_is_refused(data: Path, tmp_path: Path) -> None:
    for program in (Path(sys.executable), tmp_path / "nothing"):
        with pytest.raises(BadInput, match="make sgl-eval installs"):
            harness_items("gsm8k", program, data)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"question": "?"}',
        '{"question": "?", "answer": "no mark"}',
        '{"problem": "?", "expected_answer": [1]}',
    ],
)
def test_a_line_that_is_no_problem(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    file = tmp_path / "data.jsonl"
    file.write_text(f'{{"problem": "1 + 1", "expected_answer": 2}}\n{line}\n')
    with pytest.raises(BadInput, match="line 2"):
        harness_items("gsm8k", Path(sys.executable), file)


def test_half_a_line_waits(tmp_path: Path) -> None:
    file = tmp_path / "output.jsonl"
    line = b'{"id": "a", "generation": "x", "symbolic_correct": true}\n'
    file.write_bytes(line + line[:20])
    lines, place = read_whole_lines(file, 0)
    assert (len(lines), place) == (1, len(line))
    file.write_bytes(line + line)
    assert len(read_whole_lines(file, place)[0]) == 1


@pytest.mark.skipif(not REAL.exists(), reason="make sgl-eval")
def test_the_real_one(tmp_path: Path, data: Path) -> None:
    with answering(boxed) as server:
        quality(server.url, tmp_path, "gsm8k", "--data", str(data), python=REAL)
        assert read(tmp_path).score.right == 26 and read(tmp_path).score.unreadable == 0.1
        server.answer = lambda _: {"content": r"\boxed{70}"}
        quality(server.url, tmp_path, "aime25", "--limit", "3", python=REAL)
    assert read(tmp_path).items[0].expected == "70"
