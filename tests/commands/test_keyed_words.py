"""The key on a node: placed, brought to the engine, shown to the API; real shells and Pythons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from engine_replies import MODEL, body
from http_engine import FakeEngine, listening
from pyinfra.api import StringCommand

from cluster.command import Command
from cluster.rank import api_key
from facts.serving import Endpoints, Served

KEY = "sk-planted0key'\"$(x)\\n%s"
Done = subprocess.CompletedProcess[str]


# ---- placed and removed


def as_root(command: Command, at: Path) -> Done:
    """The script of a `docker run`, with the folder where the container has /at."""
    argv = command.argv
    script, *arguments = argv[argv.index("-c") + 1 :]
    script = script.replace("/at", str(at))
    return subprocess.run(
        ["sh", "-c", script, *arguments],
        input=command.stdin,
        capture_output=True,
        text=True,
        timeout=20,
    )


def placed(at: Path, key: str = KEY) -> Done:
    return as_root(api_key.place_key("sglang", "image", key), at)


def test_a_key_is_placed_for_its_owner_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = placed(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "api_key").read_text() == f"{KEY}\n"
    assert (tmp_path / "api_key").stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == ["api_key"]


def test_an_equal_key_is_not_written_again(tmp_path: Path) -> None:
    placed(tmp_path)
    before = (tmp_path / "api_key").stat()
    (tmp_path / "api_key").chmod(0o644)
    assert placed(tmp_path).returncode == 0
    after = (tmp_path / "api_key").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_mode & 0o777 == 0o600


def test_another_key_takes_its_place(tmp_path: Path) -> None:
    placed(tmp_path, "old")
    assert placed(tmp_path).returncode == 0
    assert (tmp_path / "api_key").read_text() == f"{KEY}\n"


def test_no_key_on_stdin_places_nothing(tmp_path: Path) -> None:
    assert (
        as_root(api_key.place_key("sglang", "image", KEY).with_stdin(""), tmp_path).returncode != 0
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("there", "message"),
    [
        pytest.param(KEY, "same", id="same"),
        pytest.param("old", "different", id="different"),
        pytest.param("", "missing", id="empty"),
        pytest.param(None, "missing", id="missing"),
    ],
)
def test_a_key_is_compared_in_place(tmp_path: Path, there: str | None, message: str) -> None:
    if there is not None:
        (tmp_path / "api_key").write_text(f"{there}\n" if there else "")
    done = as_root(api_key.compare_key("sglang", "image", KEY), tmp_path)
    assert (done.stdout, done.stderr) == (f"{message}\n", "")


def test_removing_the_last_group_removes_the_shared_folder(tmp_path: Path) -> None:
    for group in ("blue", "sglang"):
        (tmp_path / "spark-serving" / group).mkdir(parents=True)
    assert as_root(api_key.remove_key("sglang", "image"), tmp_path).returncode == 0
    assert os.listdir(tmp_path / "spark-serving") == ["blue"]
    assert as_root(api_key.remove_key("blue", "image"), tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "command",
    [api_key.place_key("sglang", "image:1", KEY), api_key.remove_key("sglang", "image:1")],
)
def test_the_key_container_pulls_nothing(command: Command) -> None:
    line = " ".join(command.bounded)
    assert line.startswith("timeout --kill-after=5 60 docker run ")
    assert "--pull never" in line
    assert "--network none" in line


# ---- brought to the engine

PARSER = """
from types import SimpleNamespace
def prepare_server_args(argv):
    return SimpleNamespace(words=argv, api_key=None, grpc_mode="--grpc-mode" in argv)
"""
ENGINE = """
import copy, json, multiprocessing, pickle, sys
from sglang.srt.server_args import prepare_server_args

def child(key, queue):
    queue.put([key, sys.modules["__mp_main__"].__name__])

if __name__ == "__main__":
    args = prepare_server_args(sys.argv[1:])
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=child, args=(args.api_key, queue))
    process.start()
    there, module = queue.get(timeout=30)
    process.join()
    print(json.dumps({
        "words": args.words, "program": sys.argv[0], "spec": __spec__.name,
        "shown": f"{args!r} {args.api_key!r}", "header": f"Bearer {args.api_key}",
        "sum": "Bearer " + args.api_key, "copies": [
            there, copy.copy(args.api_key), copy.deepcopy(args.api_key),
            pickle.loads(pickle.dumps(args.api_key))], "module": module,
    }))
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A fake sglang that parses its arguments as the real ones do, and prints what it got."""
    (tmp_path / "sglang/srt").mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("launch_server", ENGINE),
        ("srt/__init__", ""),
        ("srt/server_args", PARSER),
    ):
        (tmp_path / f"sglang/{name}.py").write_text(text)
    (tmp_path / "api_key").write_text("sk-planted0key\n")
    return tmp_path


def launched(engine: Path, *words: str) -> Done:
    _, c, code, *rest = api_key.launch_argv(
        ("sglang.launch_server", *words), (api_key.key_volume("sglang"),)
    )
    code = code.replace(api_key.CONTAINER_KEYS, str(engine))
    return subprocess.run(
        [sys.executable, c, code, *rest],
        cwd=engine,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(engine)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_engine_gets_the_key_and_nothing_shows_it(engine: Path) -> None:
    done = launched(engine, "--model-path", "a b", "--port", "1")
    document = json.loads(done.stdout)
    assert document["words"] == ["--model-path", "a b", "--port", "1"]
    assert document["header"] == document["sum"] == "Bearer sk-planted0key"
    assert "sk-planted0key" not in document["shown"]
    assert "(hidden)" in document["shown"]
    assert "sk-planted" not in done.stderr


def test_it_runs_as_python_m_would(engine: Path) -> None:
    """So that the processes it spawns find its module."""
    document = json.loads(launched(engine).stdout)
    assert document["program"] == str(engine / "sglang/launch_server.py")
    assert document["spec"] == "sglang.launch_server"
    assert document["module"] == "__mp_main__"


def test_copies_that_leave_the_process_hold_a_random_text(engine: Path) -> None:
    copies = json.loads(launched(engine).stdout)["copies"]
    assert len(set(copies)) == 4
    assert all(copy and "sk-planted" not in copy for copy in copies)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        pytest.param("rm api_key", "cannot be read (FileNotFoundError)", id="gone"),
        pytest.param("rm api_key; mkdir api_key", "cannot be read (IsADirector", id="a folder"),
        pytest.param(": >api_key", "is empty", id="empty"),
        pytest.param(r"printf '\377' >api_key", "cannot be read (UnicodeDecode", id="no text"),
    ],
)
def test_without_a_key_nothing_starts(engine: Path, mistake: str, words: str) -> None:
    subprocess.run(["sh", "-c", mistake], cwd=engine, check=True)
    done = launched(engine)
    assert done.returncode == 1
    assert done.stderr == f"API key: {engine}/api_key {words}" + done.stderr.partition(words)[2]
    assert done.stderr.endswith("not started\n")
    assert done.stdout == ""


def test_a_server_that_requires_no_key_does_not_start(engine: Path) -> None:
    done = launched(engine, "--grpc-mode")
    assert done.returncode == 1
    assert "--grpc-mode would serve without asking for it: not started" in done.stderr


# ---- shown to the API


class Locked(FakeEngine):
    """Answers 401 to everyone without the key, but for its health."""

    requests: ClassVar[list[tuple[str, bool]]] = []

    def answer(self) -> None:
        self.requested_with()
        knows = self.headers.get("Authorization") == f"Bearer {KEY}"
        type(self).requests.append((self.path, knows))
        body_text = json.dumps({"data": [{"id": MODEL}]}) if self.path == "/v1/models" else body()
        free = self.path == "/health"
        text = body_text if knows else '{"error": "Unauthorized"}'
        self.say(200 if knows or free else 401, text)

    do_GET = do_POST = answer


@pytest.fixture
def url() -> Iterator[str]:
    Locked.requests = []
    with listening(Locked) as there:
        yield there


@pytest.fixture
def curl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real curl, and a list of all that it was called with."""
    real = subprocess.run(["sh", "-c", "command -v curl"], capture_output=True, text=True).stdout
    program = tmp_path / "bin/curl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/called\nexec {real.strip()} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "called"


def sh(command: StringCommand, stdin: str = "") -> list[str]:
    words = ["sh", "-c", command.get_raw_value()]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=30, check=True
    )
    assert KEY not in done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_key_is_shown_to_the_api_and_to_no_process_list(url: str, curl: Path) -> None:
    script = Served().command([url, url], MODEL, runtime="process", keyed=True)
    served = Served().process(sh(script, f"{KEY}\n"))
    assert [reply.status for reply in served.health] == [200, 200]
    assert (served.models.status, served.completion.status, served.keyless) == (200, 200, 401)
    assert served.names == (MODEL,)
    assert sorted(Locked.requests) == [
        ("/health", False),
        ("/health", False),
        ("/v1/chat/completions", True),
        ("/v1/models", False),
        ("/v1/models", True),
    ]
    assert "sk-planted" not in curl.read_text()


def test_a_wrong_key_is_recognized_by_its_status(url: str) -> None:
    script = Served().command([url], MODEL, runtime="process", keyed=True)
    served = Served().process(sh(script, "another\n"))
    assert (served.models.status, served.keyless) == (401, 401)


def test_every_endpoint_is_shown_the_key(url: str, curl: Path) -> None:
    script = Endpoints().command(url, MODEL, keyed=True)
    replies = Endpoints().process(sh(script, f"{KEY}\n"))
    assert {reply.status for reply in replies.values()} == {200}
    assert len(replies) == 5
    assert "sk-planted" not in curl.read_text()


def test_without_a_key_no_stdin_is_read(url: str) -> None:
    replies = Endpoints().process(sh(Endpoints().command(url, MODEL)))
    assert replies["/v1/models"].status == 401
