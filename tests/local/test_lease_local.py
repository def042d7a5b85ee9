"""One operator at a time, on this machine: pyinfra run for real, with no engine to start.

A run without -y waits at pyinfra's prompt, and holds the lease meanwhile.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pyinfra_runs import run_pyinfra

from cluster.lease import STALE_SECONDS, Lease, parse_lease

ROOT = Path(__file__).parents[2]
PYINFRA = Path(sys.executable).with_name("pyinfra")
FOLDER = Path("/run/lock/spark-serving")
OTHER = Lease("bob", "desk", 1748772000.0, "pyinfra other.py deploy.py", "b0b")
pytestmark = [
    pytest.mark.local,
    pytest.mark.skipif(not os.access(FOLDER.parent, os.W_OK), reason=f"no {FOLDER.parent}"),
]


class Operator:
    """Removes a group that is not there, which starts nothing and changes nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.group = f"test-{uuid4().hex[:8]}"
        self.file = FOLDER / f"{self.group}.lease"
        self.environment = {**os.environ, "HOME": str(folder), "LEASE": str(self.file)}

    def words(self, *words: str, deploy: str) -> list[str]:
        data = {"state": "absent", "group": self.group, "head_container": self.group}
        settings = [word for item in data.items() for word in ("--data", "{}={}".format(*item))]
        return ["inventories/local.py", deploy, *settings, *words]

    def start(self, *words: str, deploy: str = "deploy.py") -> subprocess.Popen[str]:
        """As a user has it, in a process that can be typed to and killed."""
        return subprocess.Popen(
            [str(PYINFRA), *self.words(*words, deploy=deploy)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, deploy: str = "deploy.py") -> tuple[int, str]:
        done = run_pyinfra(self.words(*words, deploy=deploy), self.environment)
        return done.returncode, done.stdout + done.stderr

    def program(self, body: str) -> str:
        """A deploy that takes the lease as ours does, and then does what the test wants."""
        path = self.folder / "program.py"
        path.write_text(f"{HEAD}\n{body}\n")
        return str(path)

    @contextmanager
    def waiting(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A run that holds the lease, at its prompt."""
        process = self.start(*words)
        try:
            until(self.file.exists)
            reads_until(process, "Press enter")
            yield process
        finally:
            process.kill()
            process.wait()

    def left(self, lease: Lease, age: float) -> None:
        """A lease that another run left behind."""
        FOLDER.mkdir(mode=0o777, exist_ok=True)
        self.file.write_text(lease.dump())
        os.utime(self.file, (time.time() - age,) * 2)


HEAD = """
import os, time
from pathlib import Path
import gevent
from pyinfra import host, state
from pyinfra.api import DeployError
from pyinfra.operations import server
from cluster import lease as rules
from control import lease
from control.converge import current_deployment
rules.REFRESH_SECONDS = 0.2
file = Path(os.environ["LEASE"])
current_deployment(host)
"""


def ended(process: subprocess.Popen[str], keys: str = "") -> tuple[int, str]:
    out, _ = process.communicate(keys, timeout=40)
    return process.returncode, out


def reads_until(process: subprocess.Popen[str], words: str) -> None:
    """Read what it prints up to these words, which need not end a line."""
    assert process.stdout
    output = ""
    while words not in output:
        came = os.read(process.stdout.fileno(), 4096).decode()
        assert came, output
        output += came


def until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    one = Operator(tmp_path)
    yield one
    one.file.unlink(missing_ok=True)
    if FOLDER.is_dir() and not os.listdir(FOLDER):
        shutil.rmtree(FOLDER)


def test_a_second_run_is_refused_with_who_when_and_what(operator: Operator) -> None:
    with operator.waiting("--data", 'env={"KEY": "planted"}') as first:
        held = parse_lease(operator.file.read_text())
        code, output = operator.run("-y")
        assert code == 1
        assert "refused, nothing was changed:" in output
        assert f"another run holds the lease on the group {operator.group}: " in output
        assert f"{getpass.getuser()}@{socket.gethostname()}, since 20" in output
        assert "pyinfra inventories/local.py deploy.py --data state=absent" in output
        assert "--data env=***" in output
        assert "planted" not in output + operator.file.read_text()
        assert parse_lease(operator.file.read_text()) == held
        assert ended(first, "\n")[0] == 0
    assert not operator.file.exists()
    assert operator.run("-y")[0] == 0


def test_a_dry_run_takes_no_lease_and_names_the_holder(operator: Operator) -> None:
    code, output = operator.run("--dry")
    assert (code, "is held by another run" in output) == (0, False)
    operator.left(OTHER, age=1)
    code, output = operator.run("--dry", "-y")
    assert code == 0
    assert "is held by another run: bob@desk, since 2025-06-01 10:00:00 UTC" in output
    assert parse_lease(operator.file.read_text()) == OTHER


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--json",), id="json-without-yes"),
        pytest.param(("-y", "--debug-operations"), id="debug-operations"),
    ],
)
def test_commands_that_execute_nothing_take_no_lease(
    operator: Operator, words: tuple[str, ...]
) -> None:
    operator.left(OTHER, age=1)
    assert operator.run(*words)[0] == 0
    assert parse_lease(operator.file.read_text()) == OTHER


def test_a_check_takes_nothing(operator: Operator) -> None:
    operator.left(OTHER, age=1)
    code, output = operator.run("-y", "--data", "state=running", deploy="deploys/check.py")
    assert code == 0, output
    assert parse_lease(operator.file.read_text()) == OTHER


def test_a_stale_lease_is_taken_over_and_reported(operator: Operator) -> None:
    operator.left(OTHER, age=STALE_SECONDS + 30)
    code, output = operator.run("-y")
    assert code == 0
    assert "is taken over after 9" in output
    assert "without a sign of life: bob@desk, since 2025-06-01 10:00:00 UTC" in output
    assert not operator.file.exists()


def test_a_killed_run_leaves_a_lease_that_goes_stale(operator: Operator) -> None:
    with operator.waiting() as first:
        first.kill()
        first.wait()
        assert operator.run("-y")[0] == 1
        os.utime(operator.file, (time.time() - STALE_SECONDS,) * 2)
        assert operator.run("-y")[0] == 0
    assert not operator.file.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("", 0, id="success"),
        pytest.param("raise DeployError('no')", 1, id="refused"),
        pytest.param("server.shell(name='fails', commands=['false'])", 1, id="failed-operation"),
        pytest.param("1 / 0", 1, id="a-bug"),
    ],
)
def test_every_end_releases_it(operator: Operator, body: str, code: int) -> None:
    program = operator.program(f"assert file.exists()\n{body}")
    ended, output = operator.run("-y", deploy=program)
    assert (ended, "AssertionError" in output) == (code, False), output
    assert not operator.file.exists()


def test_ctrl_c_releases_it(operator: Operator) -> None:
    program = operator.program("server.shell(name='long', commands=['echo up; sleep 3'])")
    process = operator.start("-y", "-vvv", deploy=program)
    reads_until(process, "] up")
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert "Exiting upon user request!" in output
    assert code == 130
    assert not operator.file.exists()


def test_ctrl_c_at_the_prompt_releases_it(operator: Operator) -> None:
    with operator.waiting() as process:
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
        assert not operator.file.exists()


def test_it_is_refreshed_while_the_run_lives(operator: Operator) -> None:
    program = operator.program(
        "os.utime(file, (time.time() - 55,) * 2)\n"
        "gevent.sleep(2)\n"
        "print('age', time.time() - file.stat().st_mtime < 5, 'lost', lease.lost(state))"
    )
    assert "age True lost None" in operator.run("-y", deploy=program)[1]


def test_a_lease_taken_over_is_left_to_its_new_owner(operator: Operator) -> None:
    program = operator.program(
        f"file.write_text({OTHER.dump()!r})\ngevent.sleep(2)\nprint('lost:', lease.lost(state))"
    )
    output = operator.run("-y", deploy=program)[1]
    assert "lost: @local: this run no longer holds the group" in output
    assert "taken over by bob@desk, since 2025-06-01 10:00:00 UTC" in output
    assert parse_lease(operator.file.read_text()) == OTHER


def test_a_lease_lost_in_a_restart_is_renewed(operator: Operator) -> None:
    program = operator.program(
        "file.unlink()\ngevent.sleep(2)\nprint('back', file.exists(), lease.lost(state))"
    )
    assert "back True None" in operator.run("-y", deploy=program)[1]


def test_an_unanswering_head_loses_the_lease_in_time(operator: Operator) -> None:
    program = operator.program(
        "from operations import shell\n"
        "rules.LOST_SECONDS = 2\n"
        "shell.run_command = lambda *_, **__: shell.Output(ok=False, lost='gone')\n"
        "print('first', lease.lost(state))\n"
        "gevent.sleep(3)\n"
        "print('then', lease.lost(state))"
    )
    output = operator.run("-y", deploy=program)[1]
    assert "first None" in output
    assert "then @local: this run no longer holds the group" in output
    assert "not refreshed within 2 s" in output
