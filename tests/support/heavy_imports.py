"""What `--help` and a plan must not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
