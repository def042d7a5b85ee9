"""Time a converged deploy beside the same pyinfra reading one trivial fact, on two nodes.

    PYTHONPATH=. .venv/bin/python tests/support/converged_cost.py [ROUNDS]

Both run in turn, so that a noisy machine slows both; the engine's own answering time, which the
deploy prints, is taken off and shown apart. Controller and nodes share this machine's cores.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from deploying import MODEL as HUB_ID
from sparks import Cluster

MODEL = "qwen7b"


@dataclass(frozen=True)
class Pair:
    """Wall seconds of one converged deploy, of the engine's answer in it, and of one fact."""

    deploy: float
    engine: float
    fact: float


def pairs(cluster: Cluster, inventory: Path, rounds: int) -> Iterator[Pair]:
    """Deploy once, then measure; a deploy that changes anything is no measurement."""
    cluster.forks = False  # a user's run imports pyinfra
    cluster.each(lambda node: node.add_weights(HUB_ID))
    cluster.pyinfra("deploy.py", inventory=inventory).check_returncode()
    for _ in range(rounds):
        begun = time.monotonic()
        done = cluster.pyinfra("deploy.py", inventory=inventory)
        between = time.monotonic()
        cluster.pyinfra("fact", "server.Hostname", inventory=inventory).check_returncode()
        ended = time.monotonic()
        answered = re.search(r"answered in ([\d.]+) s", done.stderr)
        if done.returncode or "plan:" in done.stderr or not answered:
            raise AssertionError(f"not converged:\n{done.stderr}")
        yield Pair(between - begun, float(answered[1]), ended - between)


def ratio(measured: list[Pair]) -> float:
    """Quickest deploy without the engine's time, over the quickest fact: noise only adds."""
    return min(p.deploy - p.engine for p in measured) / min(p.fact for p in measured)


def main() -> None:
    cluster = Cluster(Path(f"/run/sparks-{os.getpid()}"))
    try:
        cluster.start(2)
        with tempfile.TemporaryDirectory() as folder:
            inventory = cluster.inventory(Path(folder), model=MODEL)
            measured = list(pairs(cluster, inventory, int(sys.argv[1]) if sys.argv[1:] else 9))
    finally:
        cluster.stop()
    print("seconds       min  median")
    for name in ("deploy", "engine", "fact"):
        values = [getattr(p, name) for p in measured]
        print(f"{name:10} {min(values):6.2f}  {median(values):6.2f}")
    print(f"(deploy - engine) / fact = {ratio(measured):.2f} of the quickest, ", end="")
    print(f"{median((p.deploy - p.engine) / p.fact for p in measured):.2f} in the median pair")


if __name__ == "__main__":
    main()
