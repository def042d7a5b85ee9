"""The frame around each command, run for real by a shell whose start-up file prints of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra.connectors import util

from operations import shell
from operations.shell import END, MARK, Output, parse_output
from transport import read_any_bytes

Login = Callable[..., Output]
NOISE = [
    pytest.param("echo Welcome to NVIDIA DGX Spark", id="echo"),
    pytest.param("printf 'no newline at its end'", id="a-line-without-its-end"),
    pytest.param("printf 'CR LF\\r\\n\\r\\n'", id="cr-lf"),
    pytest.param("printf '\\033[2J\\033[1;31mred\\033[0m'", id="ansi"),
    pytest.param("printf 'gr\\374\\337 dich\\n'", id="latin-1"),
    pytest.param("printf '\\0\\0\\377\\n'", id="binary"),
    pytest.param("echo 'bash: warning: setlocale: LC_ALL: cannot change locale' >&2", id="locale"),
    pytest.param("echo '{\"Id\": 1}'; echo taken; echo 'health 200 0.1'", id="like-an-answer"),
    pytest.param("set -x", id="traces"),
    pytest.param("export PS4='+ $(echo trace) '; set -xv", id="traces-that-run-commands"),
    pytest.param("trap 'echo good bye' EXIT", id="at-its-end"),
    pytest.param("trap 'echo at $BASH_COMMAND' DEBUG", id="before-each-command"),
    pytest.param("(sleep 0.05; echo late; echo later >&2) &", id="in-the-background"),
    pytest.param("trap 'exit 7' EXIT", id="another-exit-status"),
    pytest.param("for i in $(seq 3000); do echo line $i; done", id="thousands-of-lines"),
    pytest.param("exec > >(tee /dev/stderr)", id="a-copy-on-stderr"),
    pytest.param("exec 2>&1; echo Welcome; set -x", id="stderr-joined-to-stdout"),
]


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """Runs a command as an sshd has a login's bash run it, after this start-up file."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    start = tmp_path / "start"

    def login(noise: str, command: str, stdin: str = "") -> Output:
        # Bash reads BASH_ENV where an sshd's bash reads ~/.bashrc.
        start.write_text(f"unset BASH_ENV\n{noise}\n")
        framed = StringCommand(shell.BEFORE, command, shell.AFTER, _separator="")
        words = StringCommand("sh", "-c", util.QuoteString(framed)).get_raw_value()
        done = subprocess.run(
            [str(bash), "-c", words],
            env={**os.environ, "BASH_ENV": str(start)},
            input=stdin.encode(),
            capture_output=True,
            timeout=30,
        )
        out, err = (
            output.decode(errors="replace").split("\n") for output in (done.stdout, done.stderr)
        )
        return parse_output(out, err)

    return login


@pytest.mark.parametrize("noise", [pytest.param("", id="quiet"), *NOISE])
def test_login_output_is_not_part_of_the_answer(login: Login, noise: str) -> None:
    answer = login(noise, "cat; printf 'one\\n\\ntwo'; sleep 0.1; echo oops >&2; exit 3", "in\n")
    assert (answer.ok, answer.lost, answer.out) == (False, "", ("in", "one", "", "two"))
    assert "oops" in answer.err


@pytest.mark.parametrize("noise", NOISE)
def test_a_silent_command_has_empty_output(login: Login, noise: str) -> None:
    answer = login(noise, "sleep 0.1")
    assert (answer.ok, answer.out) == (True, ())


@pytest.mark.parametrize("word", ["", "a\n", "a\n\n", "a", "\n", "a\r\n"])
def test_lines_come_as_the_command_ended_them(login: Login, word: str) -> None:
    answer = login("", f"printf '{word}'")
    assert answer.out == tuple(line.rstrip("\r") for line in word.splitlines())


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        pytest.param(
            "echo 'Please login as the user nvidia'; exit 142", "Please login as", id="told"
        ),
        pytest.param(
            "echo 'This account is not available.' >&2; exit 1", "not available", id="nologin"
        ),
        pytest.param("exec cat /dev/null", "without running the command", id="another-program"),
        pytest.param("exec > >(sed p)", "prints every line twice", id="each-line-twice"),
    ],
)
def test_a_login_that_runs_nothing_is_named_with_its_cure(
    login: Login, noise: str, says: str
) -> None:
    answer = login(noise, "echo taken")
    assert (answer.ok, answer.out) == (False, ())
    assert says in answer.lost
    assert "[[ $- == *i* ]] || return" in answer.lost


def test_an_unbounded_answer_is_ended_and_named(login: Login) -> None:
    answer = login("", "yes 'a line of some length, again and again'")
    assert not answer.ok
    assert "longer than 64 MB" in answer.lost


def test_an_answer_cut_anywhere_is_no_answer() -> None:
    whole = "\n".join(f"{MARK}{line}" for line in ("taken", "", f"{END}0"))
    for at in range(len(whole)):
        assert parse_output(whole[:at].split("\n"), []).out == ()
    assert parse_output(whole.split("\n"), []) == Output(ok=True, out=("taken",))


def test_a_stray_line_anywhere_is_skipped() -> None:
    lines = [f"{MARK}{line}" for line in ("a", "b", "c", "", f"{END}0")]
    for at in range(len(lines) + 1):
        assert parse_output([*lines[:at], "noise", *lines[at:]], []).out == ("a", "b", "c")


class Raises(BytesIO):
    """A stream that decodes by itself, as paramiko's do."""

    def readline(self, size: int | None = -1, /) -> Any:
        return super().readline(-1 if size is None else size).decode()


@pytest.mark.parametrize("stream", [BytesIO, Raises])
def test_an_invalid_utf_8_byte_costs_only_its_own_character(
    monkeypatch: pytest.MonkeyPatch, stream: type[BytesIO]
) -> None:
    monkeypatch.setattr(util, "read_buffer", util.read_buffer)
    read_any_bytes()
    lines: Queue[Any] = Queue()
    util.read_buffer("stdout", stream(b"gr\xfc\xdf\nnext\n\xc3\xa9"), lines)
    assert [line.line for line in lines.queue] == ["gr\ufffd\ufffd", "next", "é"]
