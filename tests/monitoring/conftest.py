"""Prometheus's own programs, from Debian's packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of prometheus, promtool, amtool, prometheus-node-exporter."""
    if not (PROGRAMS / "promtool").exists():
        problem = "Prometheus's programs are missing: tests/monitoring/install-packages"
        # Their absence must not look like success where everything has to be tested.
        pytest.fail(problem) if os.environ.get("CI") == "true" else pytest.skip(problem)
    return PROGRAMS
