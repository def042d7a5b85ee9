"""The process runtime's words, run for real by sh: a plain process that carries its spec."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from samples import specs_of

from cluster.command import Command
from cluster.node.readings import Rank
from cluster.rank import process
from cluster.rank.spec import Spec

SPEC = specs_of(nodes=1, model="smollm2", runtime="process", env={"B": "it's", "A": "1"})["spark-1"]


def test_argv_carries_the_name_and_the_whole_spec() -> None:
    assert process.engine_argv(SPEC) == (
        sys.executable,
        "-m",
        "engines.smollm2",
        "--spark-serving-name=sglang-head",
        f"--spark-serving-spec={SPEC.dump()}",
    )


def test_start_gives_the_environment_and_the_arguments() -> None:
    *_, script, sh, name, env, a, b = process.start(SPEC).bounded[: -len(process.engine_argv(SPEC))]
    assert (sh, name, env, a, b) == ("sh", "sglang-head", "env", "A=1", "B=it's")
    assert "$" in script
    assert process.start(SPEC).argv[-5:] == process.engine_argv(SPEC)


def test_a_process_has_no_create_keep_or_release() -> None:
    for command in (process.create(SPEC), process.keep("x", "no"), process.release("x")):
        assert command is None


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    # ps cuts lines to $COLUMNS, which some shells export.
    return {**os.environ, "HOME": str(tmp_path), "COLUMNS": "80"}


def sh(words: tuple[str, ...], home: dict[str, str]) -> str:
    ran = subprocess.run(words, env=home, capture_output=True, text=True, timeout=20, check=True)
    return ran.stdout


def engine(monkeypatch: pytest.MonkeyPatch, spec: Spec, begin: str) -> None:
    """The engine replaced by a shell with the same markers in its arguments."""
    markers = process.engine_argv(spec)[3:]
    script = f": engine; {begin}; i=0; while [ $((i += 1)) -lt 2000 ]; do sleep 0.05; done"
    monkeypatch.setattr(process, "engine_argv", lambda _: ("sh", "-c", script, *markers))


def alive(pid: str) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def until(true: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def engine_pid(home: dict[str, str], name: str) -> str:
    """Our process, found as the fact finds it: by its marker."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    marked = [x.split(None, 1) for x in listed.splitlines() if f" --spark-serving-name={name}" in x]
    return next((pid for pid, args in marked if args.startswith("sh -c : engine")), "")


def test_a_start_that_cannot_write_its_log_fails(home: dict[str, str]) -> None:
    (Path(home["HOME"]) / ".local").touch()
    done = subprocess.run(process.start(SPEC).bounded, env=home, capture_output=True, timeout=20)
    assert done.returncode != 0


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_start_returns_while_the_engine_runs(
    monkeypatch: pytest.MonkeyPatch, home: dict[str, str], shell: str
) -> None:
    """Whatever sh is: none may keep our pipe open."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    monkeypatch.setattr(process, "engine_argv", lambda _: ("sleep", "60"))
    begun = time.monotonic()
    pid = sh((shell, *process.start(SPEC).bounded[1:]), home).strip()
    assert time.monotonic() - begun < 20
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_start_logs_stop(monkeypatch: pytest.MonkeyPatch, home: dict[str, str]) -> None:
    spec = replace(SPEC, name=f"unit-{os.getpid()}")
    engine(monkeypatch, spec, 'echo "A is $A"')
    sh(process.start(spec).bounded, home)
    assert until(lambda: sh(process.logs(spec.name, 5).bounded, home) == "A is 1\n")
    pid = engine_pid(home, spec.name)
    sh(process.stop(Rank(spec.name, pid, "running"), 5).bounded, home)
    assert not alive(pid)
    sh(process.remove(spec.name).bounded, home)
    log = Path(home["HOME"]) / f".local/state/spark-serving/{spec.name}.log"
    assert not log.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_ignores_sigterm_is_killed_in_time(
    monkeypatch: pytest.MonkeyPatch, home: dict[str, str]
) -> None:
    spec = replace(SPEC, name=f"deaf-{os.getpid()}")
    engine(monkeypatch, spec, "trap '' TERM; echo up")
    sh(process.start(spec).bounded, home)
    assert until(lambda: "up" in sh(process.logs(spec.name, 5).bounded, home))
    pid, begun = engine_pid(home, spec.name), time.monotonic()
    sh(process.stop(Rank(spec.name, pid, "running"), 0).bounded, home)
    assert not alive(pid)
    assert time.monotonic() - begun < 20


def test_stop_does_not_wait_for_a_process_that_nobody_reaps() -> None:
    """As in a container without an init: the ended engine stays a zombie."""
    marker = "--spark-serving-name=unreaped"
    with subprocess.Popen(["sh", "-c", "while :; do sleep 0.05; done", marker]) as engine:
        rank = Rank("unreaped", str(engine.pid), "running")
        subprocess.run(process.stop(rank, 20).bounded, timeout=10, check=True)
        assert engine.wait() == -signal.SIGTERM


def test_stop_spares_a_process_that_took_the_pid() -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            rank = Rank("sglang-head", str(other.pid), "running")
            subprocess.run(process.stop(rank, 0).bounded, timeout=10, check=True)
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("verb", [process.stop(Rank("a b", "1", "running"), 3)])
def test_names_are_arguments_never_script(verb: Command) -> None:
    assert "a b" not in verb.argv[2]
    assert shlex.join(verb.bounded).endswith("'--spark-serving-name=a b' 3")
