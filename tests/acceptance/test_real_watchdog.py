"""A real SGLang whose scheduler dies or hangs, on either node: the watchdogs alone bring it back.

Nothing is shortened: proofs, limits and back-off are those that nodes have.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MODEL, START_SECONDS
from deploying import HEAD, WORKER, Deploy, lives, serves, states
from sparks import Cluster

PROGRAM = "deploys/watchdog.py"
# From a fault to the end of the restart that it needs: 90 s of failed proofs and one of 30 s, or
# 90 s of silence; then the back-off, 60 s doubled with each restart before, and a start.
HEALED_SECONDS = 90 + 30 + 60 * 2**3 + 2 * START_SECONDS
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3 * HEALED_SECONDS)]


@pytest.fixture(scope="module")
def guarded(deploy: Deploy) -> Iterator[Cluster]:
    """The cluster, serving, with a watchdog on both nodes."""
    deploy.succeeds(timeout=START_SECONDS)
    deploy.succeeds(program=PROGRAM)
    yield deploy.cluster
    deploy.succeeds(program=PROGRAM, watchdog="off")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
@pytest.mark.parametrize("number", [1, 2], ids=["head", "worker"])
def test_a_scheduler_that_ends_or_hangs(guarded: Cluster, number: int, signal: str) -> None:
    wait_until(guarded, healthy, START_SECONDS)
    before, acted = lives(guarded), events(guarded)
    guarded.node(number).run(f"kill -{signal} {scheduler(guarded, number)}")
    fault = time.monotonic()
    wait_until(guarded, lambda c: new_lives(c, before) and generates(c), HEALED_SECONDS)
    took = time.monotonic() - fault
    assert states(guarded) == {HEAD: "running", WORKER: "running"}
    done = {node: events[len(acted[node]) :] for node, events in events(guarded).items()}
    print(f"\nSIG{signal} rank {number - 1}'s scheduler: served again after {took:.0f} s; {done}")
    if signal == "STOP":
        assert any(done.values()), done


def scheduler(cluster: Cluster, number: int) -> int:
    """The process number of a rank's scheduler on its node."""
    name = (HEAD, WORKER)[number - 1]
    top = cluster.node(number).run(f"docker top {name} -o pid,args").stdout.splitlines()
    (found,) = [line for line in top if "sglang::scheduler" in line]
    return int(found.split()[0])


def events(cluster: Cluster) -> dict[str, list[Any]]:
    """What each node's watchdog did."""
    words = "cat /run/spark-watchdog/sglang.json"
    return {n.name: json.loads(n.run(words).stdout)["events"] for n in cluster.nodes.values()}


def healthy(cluster: Cluster) -> bool:
    """Whether the head's watchdog has proof that the group serves, and the worker's follows it."""
    words = "cat /run/spark-watchdog/sglang.json 2>/dev/null || echo {}"
    duties = [json.loads(n.run(words).stdout).get("duty") for n in cluster.nodes.values()]
    return duties == ["serving", "following"]


def new_lives(cluster: Cluster, before: list[tuple[str, str]]) -> bool:
    """Whether both ranks have started since, in the containers that they had."""
    now = lives(cluster)
    assert [id for id, _start in now] == [id for id, _start in before]
    return all(a != b for a, b in zip(before, now, strict=True))


def generates(cluster: Cluster) -> bool:
    """Whether the model is served, and gives tokens: no other fault does, and none hangs here."""
    if not serves(cluster, MODEL):
        return False
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 4, "ignore_eos": True}
    response = cluster.http("/v1/completions", body, timeout=60)
    return bool(response.status == 200 and response.json["usage"]["completion_tokens"] == 4)


def wait_until(cluster: Cluster, condition: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition(cluster):
        if time.monotonic() > until:
            words = "journalctl -u spark-watchdog-sglang -o cat --no-pager | tail -30"
            logs = {n.name: n.run(words, check=False).stdout for n in cluster.nodes.values()}
            pytest.fail(f"not after {seconds} s: {logs}")
        time.sleep(2)
