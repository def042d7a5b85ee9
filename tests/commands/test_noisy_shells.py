"""What a login's ~/.bashrc does to a command's answer, with a real bash."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from operations import shell

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
# Two lines, a word on stderr, and a failure.
COMMAND = "printf 'first\\nlast\\n'; echo why >&2; exit 3"


def answer(bashrc: str, tmp_path: Path) -> shell.Answer:
    """The command's answer by way of a login whose ~/.bashrc that is; sshd's bash reads it too."""
    file = tmp_path / "bashrc"
    file.write_text(bashrc)
    # pyinfra hands every command to sh.
    command = f"sh -c {shlex.quote(shell.BEFORE + COMMAND + shell.AFTER)}"
    done = subprocess.run(
        ["bash", "-c", f". {file}\n{command}"], capture_output=True, errors="replace", timeout=60
    )
    return shell.answered(done.stdout.splitlines(), done.stderr.splitlines())


@pytest.mark.parametrize(
    "bashrc",
    [
        pytest.param("echo Welcome", id="a-line"),
        pytest.param("printf 'no end> '", id="half-a-line"),
        pytest.param("printf '\\377\\000\\033[31m\\n'", id="bytes-and-colors"),
        pytest.param("set -xve", id="a-trace"),
        pytest.param("trap 'echo bye; false' EXIT", id="a-trap"),
        pytest.param("(sleep 0.2; echo late) &", id="a-job-in-the-background"),
        pytest.param("exec > >(tee /dev/stderr)", id="a-copy-on-stderr"),
        pytest.param("exec > >(sed 's/$/\\r/')", id="ends-of-Windows"),
        pytest.param("exec 2>&1", id="stderr-joined"),
        pytest.param("echo Welcome; exec 2>&1; set -x", id="stderr-joined-with-a-trace"),
    ],
)
def test_only_the_commands_own_lines_are_its_answer(bashrc: str, tmp_path: Path) -> None:
    told = answer(bashrc, tmp_path)
    assert (told.ok, told.out, told.lost) == (False, ("first", "last"), "")
    assert "why" in told.err
    assert "Welcome" not in told.text


@pytest.mark.parametrize(
    ("bashrc", "says"),
    [
        pytest.param("exit 0", "ended without running the command", id="exit"),
        pytest.param("exec true", "ended without running the command", id="another-shell"),
        pytest.param("exec echo Menu:", "and printed: Menu:", id="a-menu"),
        pytest.param("exec > >(sed p)", "prints every line twice", id="each-line-twice"),
    ],
)
def test_a_shell_that_lets_no_answer_through_is_named_with_its_cure(
    bashrc: str, says: str, tmp_path: Path
) -> None:
    told = answer(bashrc, tmp_path)
    assert not told.ok
    assert says in told.lost and "~/.bashrc" in told.lost
