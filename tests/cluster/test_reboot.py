"""After a power cycle, and after kill -9 of dockerd, the group is there again, by itself or by one
deploy; and `spark-cluster status` says all along what is true.
"""

from __future__ import annotations

import time

import pytest
from clusterctl import Tool
from deploying import HEAD, WORKER, Deploy, running, serves, states
from sparks import Cluster

# A group comes back by itself within this, or it needs the deploy: nodes here boot in seconds.
PATIENCE = 20


def half(*nodes: int, quick: bool = False) -> object:
    """A case for these nodes; one that is not quick runs in `make faults` alone."""
    name = {(1,): "head", (2,): "worker", (1, 2): "both"}[nodes]
    return pytest.param(nodes, id=name, marks=[] if quick else [pytest.mark.faults])


def ready(tool: Tool) -> bool:
    """What status says, which must be what is true; exit code 0 for ready alone."""
    cluster = tool.deploy.cluster
    while True:
        before = truth(cluster)
        done = tool.deploy.cluster.ctl(*tool.words("status", "--json"), **tool.environment)
        assert "Traceback" not in done.stderr, done.stderr
        if truth(cluster) == before:
            break
    assert (done.returncode == 0) == before, done.stdout + done.stderr
    assert f'"ok": {str(before).lower()}' in " ".join(done.stdout.split()), done.stdout
    return before


def truth(cluster: Cluster) -> bool:
    """Whether both ranks run, healthy, and the model is served."""
    healthy = all(cluster.http("/health", node=n).status == 200 for n in (1, 2))
    return healthy and len(running(cluster)) == 2 and serves(cluster)


def comes_back(deploy: Deploy, patience: int = PATIENCE) -> None:
    """By itself, or by one deploy."""
    tool, deadline = Tool(deploy), time.monotonic() + patience
    while not ready(tool) and time.monotonic() < deadline:
        time.sleep(3)
    deploy.mends()
    assert states(deploy.cluster) == {HEAD: "running", WORKER: "running"}
    assert ready(tool)


@pytest.mark.parametrize("nodes", [half(1), half(2, quick=True), half(1, 2)])
def test_after_a_power_cycle(served: Deploy, nodes: tuple[int, ...]) -> None:
    cluster, tool = served.cluster, Tool(served)
    cluster.changed = True
    assert ready(tool)
    for number in nodes:
        cluster.off(number)
    assert not ready(tool)
    cluster.each(lambda node: cluster.on(node.number))
    comes_back(served)


@pytest.mark.parametrize("nodes", [half(1, quick=True), half(2), half(1, 2)])
def test_after_dockerd_was_killed(served: Deploy, nodes: tuple[int, ...]) -> None:
    """Docker starts no unless-stopped container after that: it takes the deploy."""
    cluster, tool = served.cluster, Tool(served)
    cluster.changed = True
    for number in nodes:
        cluster.node(number).run("kill -9 $(cat /run/docker.pid)")
    assert not ready(tool)
    comes_back(served, patience=3)
