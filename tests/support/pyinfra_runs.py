"""pyinfra runs on @fake hosts, by `recorded.py`: each a process of its own."""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("recorded.py"))]
SECONDS = 60


@cache
def forks() -> subprocess.Popen[str]:
    """The process that every run is a fork of; it ends with this one."""
    process = subprocess.Popen(
        [*PROGRAM, "--forks"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    atexit.register(process.communicate)
    return process


def run_pyinfra(words: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `pyinfra WORDS` with this environment, and no other.

    Started anew where the environment is for Python itself.
    """
    if any(name.startswith("PYTHON") for name in environ):
        done = subprocess.run(
            [*PROGRAM, *words],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr
    process = forks()
    assert process.stdin and process.stdout
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        run = {"words": list(words), "environ": dict(environ), "out": out.name, "err": err.name}
        process.stdin.write(f"{json.dumps(run)}\n")
        if not select.select([process.stdout], [], [], SECONDS)[0]:
            process.kill()
            raise subprocess.TimeoutExpired(["pyinfra", *words], SECONDS, out.read(), err.read())
        code = int(process.stdout.readline())
        return code, out.read(), err.read()
