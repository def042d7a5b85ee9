"""`spark-bench --help` is at once there: it imports click, and nothing that it doesn't show."""

from __future__ import annotations

import json
import sys
import time

import pytest
from heavy_imports import HEAVY, python
from spark_bench.cli.commands import ONE_THREAD


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--help"], id="group"),
        pytest.param(["run", "--help"], id="run"),
        pytest.param(["profiles", "--help"], id="profiles"),
        pytest.param(["verify", "--help"], id="verify"),
        pytest.param(["--version"], id="version"),
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    output = python("-X", "importtime", "-m", "spark_bench", *words).stderr
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines()}
    assert "click" in imported
    assert not imported & set(HEAVY)


@pytest.mark.alone
def test_help_costs_little_more_than_click() -> None:
    """A ratio, for seconds are the machine's. The fastest of several: the rest is its noise."""

    def fastest(*words: str) -> float:
        return min(_seconds(*words) for _ in range(7))

    assert fastest("-m", "spark_bench", "--help") < 2 * fastest("-c", "import click")


def _seconds(*words: str) -> float:
    began = time.perf_counter()
    python(*words)
    return time.perf_counter() - began


THREADS = """
import json, os, sys
from spark_bench.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
import numpy
names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")
told = [os.environ.get(name) for name in names]
print(json.dumps([*told, len(os.listdir("/proc/self/task"))]), file=sys.stderr)
"""


def threads(*words: str, **environ: str) -> list[str | int | None]:
    """What is set once the command is known, and the threads that numpy then starts."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ONE_THREAD:
            patched.delenv(name, raising=False)
        for name, value in environ.items():
            patched.setenv(name, value)
        modules: list[str | int | None] = json.loads(python("-c", THREADS, *words).stderr)
        return modules


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_libraries_start_no_threads() -> None:
    assert threads("run", "--help") == ["1", "1", "false", 1]


def test_thread_limits_set_by_the_user_stay() -> None:
    assert threads("run", "--help", OMP_NUM_THREADS="4")[:3] == ["1", "4", "false"]


def test_engines_that_all_deploys_inherit_no_limit() -> None:
    assert threads("all", "--help")[:3] == [None, None, None]
