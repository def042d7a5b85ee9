"""deploys/watchdog.py on the simulated cluster: converged by systemd, and a group that heals."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from clusterctl import Tool
from deploying import WORKER, Deploy, lives, serves, states
from sparks import Cluster
from watchdogs import CLEAN, PROGRAM, journal, make_hasty, strike, wait_for, written


@pytest.fixture(autouse=True)
def as_before(testbed: Cluster) -> Iterator[None]:
    yield
    testbed.changed = True
    testbed.each(lambda node: node.run(CLEAN, check=False))


def test_a_worker_that_hangs_is_restarted_with_its_group(served: Deploy) -> None:
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
    strike(cluster, 2, WORKER, "STOP")
    until = time.monotonic() + 60
    while any(a == b for a, b in zip(before, lives(cluster), strict=True)):
        assert time.monotonic() < until, journal(cluster)
        time.sleep(1)
    wait_for(cluster, "serving")
    assert serves(cluster)
    (event,) = written(cluster)["events"]
    assert event["what"] == "restart" and "rank 1 /health: no answer" in event["why"]
    (event,) = written(cluster, 2)["events"]
    assert event["what"] == "end" and "the head began generation" in event["why"]
    assert [written(cluster, n)["counts"] for n in (1, 2)] == [{"group-restart": 1}] * 2
    document, _ = Tool(served).document("doctor")
    restarted = [p["where"] for p in document["ailments"] if p["key"] == "group-restart"]
    assert restarted == ["spark-01", "spark-02"]

    # stopped by hand: left alone
    cluster.node(2).run(f"docker stop -t 1 {WORKER}")
    wait_for(cluster, "off")
    time.sleep(10)
    assert states(cluster)[WORKER] == "exited"
    assert len(written(cluster)["events"]) == 1

    assert served.succeeds(program=PROGRAM, watchdog="off").count("remove its watchdog") == 2
    left = "ls /etc/systemd/system /usr/local/lib /run | grep spark-watchdog | grep -v service.d"
    assert [cluster.node(n).run(left, check=False).stdout for n in (1, 2)] == ["", ""]
    served.unchanged(program=PROGRAM, watchdog="off")


LEASE = "/run/lock/spark-serving/sglang.lease"


@pytest.mark.faults
def test_nothing_happens_while_a_deploy_holds_the_lease(served: Deploy) -> None:
    cluster, head = served.cluster, served.cluster.node(1)
    served.succeeds(program=PROGRAM)
    make_hasty(cluster)
    wait_for(cluster, "serving")
    wait_for(cluster, "following", 2)
    head.run(f"mkdir -p {LEASE.rpartition('/')[0]}")
    head.run(f"systemd-run -q --unit=lease bash -c 'while touch {LEASE}; do sleep 5; done'")
    wait_for(cluster, "held")
    wait_for(cluster, "held", 2)
    before = lives(cluster)
    strike(cluster, 2, WORKER, "STOP")
    time.sleep(40)
    assert lives(cluster) == before
    assert [written(cluster, n)["events"] for n in (1, 2)] == [[], []]

    head.run(f"systemctl stop lease; rm -r {LEASE.rpartition('/')[0]}")
    wait_for(cluster, "serving", seconds=90)
    assert all(a != b for a, b in zip(before, lives(cluster), strict=True)), journal(cluster)
    done = [written(cluster, n)["events"] for n in (1, 2)]
    assert all(done)

    # a deploy that starts the group anew, with the watchdogs there
    served.mends(mem_fraction=0.5)
    wait_for(cluster, "serving")
    assert [written(cluster, n)["events"] for n in (1, 2)] == done, journal(cluster)
    served.succeeds(state="stopped")
    wait_for(cluster, "off")
    time.sleep(10)
    assert set(states(cluster).values()) == {"exited"}
    assert [written(cluster, n)["events"] for n in (1, 2)] == done, journal(cluster)
