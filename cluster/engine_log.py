"""What an engine's log tells of a rank that is well: how far it is, over which transport."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.printable import printable

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")

# Rank 0 (http_server.py), ranks above it (utils/common.py: 0.5.23, 0.5.3.post3), llama.cpp.
READY = re.compile(
    r"The server is fired up and ready to roll!"
    r"|Dummy health check server started in background thread at"
    r"|Starting dummy health check server at"
    r"|^ready: .* \(llama\.cpp\)|\binit: listening on http"
)
# Triton's bindings end every rank, however it ended, with some 30 lines of what they leaked.
NOISE = re.compile(r"^(?:nanobind: | - (?:leaked |\.\.\. skipped )|See https://nanobind)")
# SGLang prints its 500 arguments as one line of 30,000 characters.
LINE_LENGTH = 300
# The step in which the ranks wait for each other.
MEETING = "initialising torch distributed"
# A line that begins or ends a step → the step that goes on after it. SGLang 0.5.23 says "Init
# parallel" and "Capture target decode CUDA graph", 0.5.3.post3 "Init torch distributed" and
# "Capture cuda graph"; the rest is alike.
PHASES = (
    (READY, "ready"),
    (re.compile(r"Init (?:parallel|torch distributed) begin"), MEETING),
    (
        re.compile(
            r"Init (?:parallel|torch distributed) ends|Load weight begin"
            r"|Loading (?:safetensors|pt) checkpoint shards|load_model: loading model"
        ),
        "loading weights",
    ),
    (
        re.compile(
            r"Load weight end|KV Cache is allocated|Memory pool end|: initializing, n_slots"
        ),
        "allocating KV cache",
    ),
    (re.compile(r"Capture .*graph begin"), "capturing CUDA graphs"),
    (
        re.compile(
            r"Capture .*graph end|max_total_num_tokens=|Uvicorn running on|warming up the model"
        ),
        "warming up",
    ),
)

TRANSPORT_PATTERN = (
    r"NCCL INFO .*(via NET/|Using network |NET/IB[A-Za-z0-9_]* : (Using \[|Made virtual|No device))"
)
"""For `grep -E` (POSIX): selects the lines that `transport` reads."""

# The surest first: a channel in use, the network chosen, the devices found. A plugin calls its
# InfiniBand IBext_v10; "NET/Socket : Using" is no verdict, NCCL says it beside a chosen IB too.
VERDICTS = (
    re.compile(r"NCCL INFO .*via NET/(?:(?P<rdma>IB)|(?P<tcp>Socket))"),
    re.compile(r"NCCL INFO .*Using network (?:(?P<rdma>IB)|(?P<tcp>Socket))"),
    re.compile(r"NCCL INFO .*NET/IB\w* : (?:(?P<rdma>Using \[|Made virtual)|(?P<tcp>No device))"),
)


@dataclass(frozen=True)
class Transport:
    """What NCCL carries its traffic over, and the line that says so.

    "unknown" without NCCL's lines (gloo, NCCL_DEBUG not INFO), or where they disagree: then
    `evidence` is the last of them.
    """

    kind: Literal["rdma", "tcp", "unknown"]
    evidence: str = ""


def clean(line: str) -> str:
    """A line as a terminal may show it: no colours, of a progress bar only its last state."""
    return printable(ANSI.sub("", line).rstrip().rpartition("\r")[2])


def last_words(lines: Sequence[str], count: int) -> tuple[str, ...]:
    """The last lines that say something, each cut to what a terminal can show."""
    said = [line for line in map(clean, lines) if line and not NOISE.match(line)]
    return tuple(line[:LINE_LENGTH] for line in said[-count:])


def phase(lines: Sequence[str]) -> str:
    """What a rank is doing, from the last line that tells; "" where none does."""
    return next((words for line in reversed(lines) if (words := _phase(line))), "")


def _phase(line: str) -> str:
    return next((words for pattern, words in PHASES if pattern.search(line)), "")


def transport(lines: Sequence[str]) -> Transport:
    """What carries the traffic between nodes, by the surest of NCCL's lines."""
    for pattern in VERDICTS:
        found = [m for line in lines if (m := pattern.search(clean(line)))]
        if found:
            return _verdict(found)
    return Transport("unknown")


def _verdict(found: Sequence[re.Match[str]]) -> Transport:
    kinds = {"rdma" if m["rdma"] else "tcp" for m in found}
    evidence = found[-1].string.strip()
    if len(kinds) > 1:
        return Transport("unknown", evidence)
    return Transport("rdma" if "rdma" in kinds else "tcp", evidence)
