"""`spark-bench --help` is at once there: it imports click, and nothing that it doesn't show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import spark_bench

HEAVY = [
    "numpy",
    "pandas",
    "scipy",
    "rich",
    "httpx",
    "tokenizers",
    "msgspec",
    "prometheus_client",
    "ssl",
    "asyncio",
]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(spark_bench.__file__).parents[1])},
    )


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
    told = python("-X", "importtime", "-m", "spark_bench", *words).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "click" in imported
    assert not imported & set(HEAVY)


def test_help_costs_little_more_than_click() -> None:
    """A ratio, for seconds are the machine's. The fastest of several: the rest is its noise."""

    def fastest(*words: str) -> float:
        return min(_seconds(*words) for _ in range(7))

    assert fastest("-m", "spark_bench", "--help") < 2 * fastest("-c", "import click")


def _seconds(*words: str) -> float:
    began = time.perf_counter()
    python(*words)
    return time.perf_counter() - began
