"""Tasks of SGLang's harness, of which a stand-in has the command line and files; their data.

What is held against sgl-eval 0.1.3 itself are the last tests, where `make sgl-eval` was run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answering_server import answering, question
from click import ClickException
from click.testing import CliRunner
from http_engine import FakeEngine, listening
from spark_bench.cli import main
from spark_bench.errors import BadInput
from spark_bench.quality.data_file import find_data
from spark_bench.quality.harness import LAUNCHER, harness_items, read_whole_lines
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


def test_what_failed_is_sent_again(tmp_path: Path, data: Path) -> None:
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
        ("ruler2", "task 'ruler2' can't be run: sgl-eval generates its texts"),
        ("mmmu_pro", "its problems have images"),
        ("gpqa", "gpqa needs --data FILE with its problems: gpqa_diamond.csv, or"),
        ("gsm8k --data {data}x", "there is no such file"),
        ("gsm8k --data o/d@main:t.jsonl", "'main' may move: give a commit"),
        ("gsm8k --data o/d@{commit}:t.jsonl", "needs --data-sha256 HEX"),
        ("gsm8k --data o/d@{commit}:../t.jsonl", "is not a file of the repository"),
        ("gsm8k --data {data} --data-sha256 12", "it is not 64 hex digits"),
        ("gsm8k --data {data} --data-sha256 {sha256}", "its SHA-256 is "),
        ("aime25 --data-sha256 {sha256}", "--data-sha256 needs --data"),
        ("gsm8k --data {data} --endpoint completions", "--endpoint doesn't go with gsm8k"),
        ('gsm8k --data {data} --extra-body {{"a":1}}', "--extra-body doesn't go with gsm8k"),
    ],
)
def test_bad_input(tmp_path: Path, data: Path, words: str, what: str) -> None:
    with answering(boxed) as server:
        filled = words.format(data=data, commit="c" * 40, sha256="0" * 64)
        argv = ["quality", *filled.split(), "--url", server.url]
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


# ---- multiple choice


def lettered(body: dict[str, Any]) -> dict[str, Any]:
    """Always B, in a box."""
    return {"content": r"So \boxed{B}"}


def test_parts_are_scored_too_and_a_limit_draws_as_sgl_eval_does(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    rows = [
        {"problem": f"Which is {n}?", "expected_answer": letter, "subset_for_metrics": letter}
        for n, letter in enumerate("AB" * 15)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    with answering(lettered) as server:
        quality(server.url, tmp_path, "mmlu", "--data", str(file), "--limit", "8")
    result = read(tmp_path)
    drawn = Random(0).sample(range(30), 8)
    assert [item.id for item in result.items] == [f"mmlu-{n}" for n in drawn]
    odd = sum(n % 2 for n in drawn)
    assert (result.score.right, result.score.answered) == (odd, 8)
    assert {name: (s.right, s.answered) for name, s in result.groups.items()} == {
        "A": (0, 8 - odd),
        "B": (odd, odd),
    }


# ---- from the hub


GSM8K = "\n".join(map(json.dumps, PROBLEMS)).encode()
COMMIT, SHA256 = "c" * 40, sha256(GSM8K).hexdigest()
ON_HUB = f"openai/gsm8k@{COMMIT}:main/test.jsonl"


@contextmanager
def a_hub(content: bytes, status: int = 200) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A hub with one file; its URL, and the path and the credentials of each request."""
    requests: list[tuple[str, str | None]] = []

    class Hub(FakeEngine):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers["authorization"]))
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listening(Hub) as url:
        yield url, requests


def test_a_file_of_the_hub_is_fetched_once_by_commit_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_token0of0ours")
    steps: list[str] = []
    with a_hub(GSM8K) as (url, requests):
        monkeypatch.setenv("HF_ENDPOINT", url)
        for _ in range(2):
            file = find_data(ON_HUB, SHA256, steps.append)
        assert file.read_bytes() == GSM8K
        path = f"/datasets/openai/gsm8k/resolve/{COMMIT}/main/test.jsonl"
        assert requests == [(path, "Bearer hf_token0of0ours")]
        assert steps == [f"fetching {url}{path}"]
        file.write_bytes(b"damaged")
        assert find_data(ON_HUB, SHA256, steps.append).read_bytes() == GSM8K
    with answering(boxed) as server:
        words = ("gsm8k", "--data", ON_HUB, "--data-sha256", SHA256, "--limit", "5")
        quality(server.url, tmp_path, *words)
    assert read(tmp_path).config.items.source == "sgl-eval 0.1.3, test.jsonl"


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [(b"other", 200, "the hub has there has the SHA-256"), (b"", 401, "accept its license")],
)
def test_what_the_hub_does_not_give_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, status: int, message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_token0of0ours")
    with a_hub(content, status) as (url, _):
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ClickException, match=message) as error:
            find_data(ON_HUB, SHA256, lambda _: None)
    assert "hf_token" not in error.value.message
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


# ---- sgl-eval 0.1.3 itself


real = pytest.mark.skipif(not REAL.exists(), reason="make sgl-eval")
# Writes files as their owners publish them, of ten questions whose right answer is "right".
PUBLISH = r"""
import csv, io, sys, tarfile, pandas
here = sys.argv[1]
names = ("Question", "Correct Answer", "Explanation", "Subdomain", "Writer's Difficulty Estimate")
with open(here + "/gpqa_diamond.csv", "w") as file:
    table = csv.writer(file)
    table.writerow([*names, *(f"Incorrect Answer {n}" for n in (1, 2, 3))])
    table.writerows([f"q{n}?", "right", "", "Physics", "hard", "x", "y", "z"] for n in range(10))
pandas.DataFrame(
    {"question": [f"q{n}?" for n in range(10)], "options": [["x", "right", *"cdefghij"]] * 10,
     "answer": ["B"] * 10, "category": ["computer science"] * 10}
).to_parquet(here + "/test.parquet")
text = "".join(f"q{n}?,x,right,y,z,B\n" for n in range(10)).encode()
with tarfile.open(here + "/data.tar", "w") as tar:
    member = tarfile.TarInfo("data/test/anatomy_test.csv")
    member.size = len(text)
    tar.addfile(member, io.BytesIO(text))
"""
# The same with an archive whose hash its registry does not have.
ANOTHER_ARCHIVE = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import harness_launcher, sgl_eval.evals._registry as registry
archive, folder = map(Path, sys.argv[2:])
registry._MMLU_ARCHIVE_SHA256 = hashlib.sha256(archive.read_bytes()).hexdigest()
harness_launcher.prepare_problems("mmlu", archive, folder)
"""


def choosing(body: dict[str, Any]) -> dict[str, Any]:
    """The letter of the option "right"; of q3 and q7, no option's."""
    text = question(body)
    letter = re.search(r"^\W*([A-J])\W+right\s*$", text, re.M)
    assert letter, text
    chosen = "Z" if "q3?" in text or "q7?" in text else letter[1]
    return {"content": f"Well. \\boxed{{{chosen}}}\nAnswer: {chosen}"}


@real
@pytest.mark.parametrize(
    ("task", "file", "group"),
    [
        ("gpqa", "gpqa_diamond.csv", "Physics"),
        ("mmlu_pro", "test.parquet", "computer_science"),
        ("mmlu", "data.tar", "health"),
    ],
)
def test_published_files_become_problems_by_its_own_scripts(
    tmp_path: Path, task: str, file: str, group: str
) -> None:
    subprocess.run([REAL, "-c", PUBLISH, tmp_path], check=True)
    with answering(choosing) as server:
        if task == "mmlu":
            data = ("--data", str(tmp_path / file))
            out = quality(server.url, tmp_path, task, *data, code=2, python=REAL)
            assert "sgl-eval can't read it: ValueError: its SHA-256 is" in " ".join(out.split())
            (tmp_path / "problems").mkdir()
            folders = (LAUNCHER.parent, tmp_path / file, tmp_path / "problems")
            subprocess.run([REAL, "-c", ANOTHER_ARCHIVE, *folders], check=True)
            file = "problems/test.jsonl"
        quality(server.url, tmp_path, task, "--data", str(tmp_path / file), python=REAL)
    result = read(tmp_path)
    assert (result.score.right, result.score.answered) == (8, 10)
    assert list(result.groups) == [group]
    assert result.config.items.source == f"sgl-eval 0.1.3, {Path(file).name}"


@real
def test_the_real_one(tmp_path: Path, data: Path) -> None:
    with answering(boxed) as server:
        quality(server.url, tmp_path, "gsm8k", "--data", str(data), python=REAL)
        assert read(tmp_path).score.right == 26 and read(tmp_path).score.unreadable == 0.1
        server.answer = lambda _: {"content": r"\boxed{70}"}
        quality(server.url, tmp_path, "aime25", "--limit", "3", python=REAL)
    assert read(tmp_path).items[0].expected == "70"
