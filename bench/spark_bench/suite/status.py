"""How a model came out."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["OK", "CONFIG_FAILED", "STARTUP_FAILED", "BENCH_FAILED", "NO_OUTPUT", "SKIPPED"]


class Failure(NamedTuple):
    """What is wrong, and why, in a few lines."""

    status: Status
    diagnosis: str
