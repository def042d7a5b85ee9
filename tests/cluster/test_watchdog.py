"""deploys/watchdog.py on the simulated cluster: converged by systemd, and a group that heals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from clusterctl import Tool
from deploying import WORKER, Deploy, lives, serves, states
from sparks import Cluster

PROGRAM = "deploys/watchdog.py"
CLEAN = """
systemctl disable --now spark-watchdog-sglang
rm -rf /etc/systemd/system/spark-watchdog-sglang.service* /usr/local/lib/spark-watchdog
rm -rf /run/spark-watchdog /run/spark-monitoring
systemctl daemon-reload
"""
# The program that nodes have, with all its times divided by about 15.
HASTY = """\
import sys
from dataclasses import replace
sys.path.insert(0, "/usr/local/lib/spark-watchdog/sglang")
from cluster.watchdog import program
program.HEALTH_SECONDS = 2
dog = program.Watchdog(program.read_config(sys.argv[1]), pace=program.Pace(look=1, prove=2))
dog.limits = replace(dog.limits, fail=5, silent=8, confirm=5, back_off=1, load=30)
dog.run()
"""
DROP_IN = """\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -B -s /etc/hasty.py /usr/local/lib/spark-watchdog/sglang/config.json
"""


@pytest.fixture(autouse=True)
def as_before(testbed: Cluster) -> Iterator[None]:
    yield
    testbed.changed = True
    testbed.each(lambda node: node.run(CLEAN, check=False))


def make_hasty(cluster: Cluster) -> None:
    def one(node: Any) -> None:
        folder = node.root / "etc/systemd/system/spark-watchdog-sglang.service.d"
        folder.mkdir()
        (folder / "hasty.conf").write_text(DROP_IN)
        (node.root / "etc/hasty.py").write_text(HASTY)
        node.run("systemctl daemon-reload && systemctl restart spark-watchdog-sglang")

    cluster.each(one)


def state(cluster: Cluster, number: int = 1) -> dict[str, Any]:
    """What a node's watchdog wrote last; {} before it has."""
    text = cluster.node(number).run("cat /run/spark-watchdog/sglang.json", check=False).stdout
    document: dict[str, Any] = json.loads(text or "{}")
    return document


def wait_for(cluster: Cluster, duty: str, number: int = 1, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while (now := state(cluster, number)).get("duty") != duty:
        assert time.monotonic() < until, (now, journal(cluster))
        time.sleep(0.5)


def journal(cluster: Cluster) -> str:
    words = "journalctl -u spark-watchdog-sglang -o cat --no-pager | tail -40"
    return "\n".join(
        f"{node.name}\n{node.run(words, check=False).stdout}" for node in cluster.nodes.values()
    )


def freeze(cluster: Cluster, number: int, container: str) -> None:
    """Every process of a rank stops, as one that hangs in the kernel or in NCCL does."""
    cluster.node(number).run(
        f"kill -STOP $(docker top {container} -o pid | tail -n +2)",
    )


def test_a_frozen_worker_is_restarted_with_its_group(served: Deploy) -> None:
    cluster = served.cluster
    output = served.succeeds(program=PROGRAM)
    assert output.count("start its watchdog: is not there") == 2, output
    assert served.unchanged(program=PROGRAM).count("its watchdog is as declared") == 2
    assert "No change" in served.unchanged()
    make_hasty(cluster)
    wait_for(cluster, "serving")
    wait_for(cluster, "following", 2)
    document, _ = Tool(served).document("status")
    assert [r["watchdog"]["duty"] for r in document["ranks"]] == ["serving", "following"]

    before = lives(cluster)
    freeze(cluster, 2, WORKER)
    until = time.monotonic() + 60
    while any(a == b for a, b in zip(before, lives(cluster), strict=True)):
        assert time.monotonic() < until, journal(cluster)
        time.sleep(1)
    wait_for(cluster, "serving")
    assert serves(cluster)
    (event,) = state(cluster)["events"]
    assert event["what"] == "restart" and "rank 1 /health: no answer" in event["why"]
    (event,) = state(cluster, 2)["events"]
    assert event["what"] == "end" and "the head began generation" in event["why"]
    assert [state(cluster, n)["counts"] for n in (1, 2)] == [{"group-restart": 1}] * 2
    document, _ = Tool(served).document("doctor")
    assert [p["where"] for p in document["ailments"] if p["key"] == "group-restart"] == [
        "spark-01",
        "spark-02",
    ]

    # stopped by hand: left alone
    cluster.node(2).run(f"docker stop -t 1 {WORKER}")
    wait_for(cluster, "off")
    time.sleep(10)
    assert states(cluster)[WORKER] == "exited"
    assert len(state(cluster)["events"]) == 1

    assert served.succeeds(program=PROGRAM, watchdog="off").count("remove its watchdog") == 2
    left = "ls /etc/systemd/system /usr/local/lib /run | grep spark-watchdog | grep -v service.d"
    assert [cluster.node(n).run(left, check=False).stdout for n in (1, 2)] == ["", ""]
    served.unchanged(program=PROGRAM, watchdog="off")
