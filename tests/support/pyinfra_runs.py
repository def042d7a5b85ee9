"""Runs of pyinfra, by `recorded.py`: each a process of its own, forked where that will do."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("recorded.py"))]
# The connector reads this when it is imported: its commands take no time.
AT_ONCE = {"PYINFRA_FAKE_DELAY": "0", "PYINFRA_FAKE_DELAY_JITTER": "0"}
Completed = subprocess.CompletedProcess[str]
_asking = Lock()


@cache
def forks() -> subprocess.Popen[str]:
    """The process that every run is a fork of; it ends with this one."""
    process = subprocess.Popen(
        [*PROGRAM, "--forks"], cwd=ROOT, env=os.environ | AT_ONCE, stdin=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)
    return process


def run_pyinfra(
    words: Sequence[str], environ: Mapping[str, str], netns: str = "", timeout: float = 60
) -> Completed:
    """`pyinfra WORDS` with this environment and no other, in the repository's root.

    + netns: the file of the network namespace that it runs in
    + timeout: seconds after which its whole process group is killed, an AssertionError

    Not a fork where the environment is for Python itself, and not the same as this process's.
    """
    if any(n.startswith("PYTHON") and os.environ.get(n) != v for n, v in environ.items()):
        return subprocess.run(
            [*PROGRAM, *words],
            cwd=ROOT, env={**environ, **AT_ONCE}, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        out, err, pid, code = (Path(name, part) for part in ("out", "err", "pid", "code"))
        out.touch()
        err.touch()
        run = {"words": list(words), "environ": dict(environ), "netns": netns}
        files = {"out": str(out), "err": str(err), "pid": str(pid), "code": str(code)}
        with _asking:
            server = forks()
            assert server.stdin
            server.stdin.write(f"{json.dumps(run | files)}\n")
            server.stdin.flush()
        deadline = time.monotonic() + timeout
        try:
            while not code.exists():
                assert time.monotonic() < deadline, f"{words}: no end after {timeout} s"
                assert server.poll() is None
                time.sleep(0.01)
        except BaseException:
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
            print(text(out), text(err), sep="\n")
            raise
        return Completed(["pyinfra", *words], int(code.read_text()), text(out), text(err))


def text(file: Path) -> str:
    return file.read_text(errors="replace")
