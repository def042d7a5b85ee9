"""spark-cluster status: the truth, in bounded time, whatever is dead."""

from __future__ import annotations

import os
import signal
import time

from clusterctl import Tool
from deploying import HEAD, MODEL, WORKER, Deploy, rank

# Connecting and reading 9 s, asking the ranks 5 s; the rest is a busy machine's.
BOUND = 30
RANK = {"rank", "node", "container", "state", "health", "phase", "uptime", "image", "spec", "drift"}
RANK |= {
    "memory_used",
    "memory_total",
    "gpu_watts",
    "restarts",
    "exit_code",
    "oom_killed",
    "lost",
    "nccl",
    "watchdog",
}


def test_a_group_that_serves(served: Deploy) -> None:
    tool = Tool(served)
    before = served.cluster.snapshot()
    document, _ = tool.document("status")
    assert (document["version"], document["ok"], document["state"]) == (1, True, "ready")
    assert document["served"] == [document["wanted"]] == [MODEL]
    assert document["url"] == served.cluster.head_url
    assert (document["load"]["running"], document["load"]["queued"]) == (0, 0)
    assert (document["leftovers"], document["drift"], document["unread"], document["holder"]) == (
        [],
        [],
        [],
        None,
    )
    for number, status in enumerate(document["ranks"], start=1):
        assert set(status) == RANK
        container = rank(served.cluster, number)
        assert status["container"] == container["Name"].lstrip("/")
        assert status["image"] == container["Image"].removeprefix("sha256:")[:12]
        assert (status["state"], status["health"], status["drift"]) == ("running", 200, [])
        assert status["gpu_watts"] == 3.74
        assert status["nccl"] == ["2.29.7"]
        assert 0 < status["memory_used"] < status["memory_total"]
        assert 0 <= status["uptime"] < 3600
    assert served.cluster.snapshot() == before

    done = tool("status")
    assert done.returncode == 0
    assert f"{MODEL}  ready" in done.stdout
    assert "0 requests running, 0 queued" in done.stdout
    assert "NCCL       2.29.7" in done.stdout
    assert "\x1b" not in done.stdout

    other, _ = tool.document("status", code=1, mem_fraction=0.5)
    assert (other["ready"], other["ok"]) == (True, False), other
    assert any("mem_fraction: 0.8 -> 0.5" in line for line in other["drift"])


def test_a_worker_that_was_killed_is_named(served: Deploy) -> None:
    served.cluster.changed = True
    served.cluster.node(2).run(f"docker kill {WORKER}")
    time.sleep(1)
    document, _ = Tool(served).document("status", code=1)
    assert document["state"] in ("degraded", "down")
    worker = document["ranks"][1]
    assert (worker["node"], worker["state"], worker["exit_code"]) == ("spark-02", "exited", 137)
    assert any(line.startswith("spark-02: is exited, exit code 137") for line in document["drift"])


def test_a_dead_node_and_a_hung_one_are_reported_in_time(served: Deploy) -> None:
    cluster, tool = served.cluster, Tool(served)
    cluster.changed = True
    cluster.off(2)
    document, seconds = tool.document("status", code=1)
    assert seconds < BOUND
    assert (document["state"], document["unsure"]) == ("degraded", "spark-02 could not be read")
    head, worker = document["ranks"]
    assert (head["container"], head["lost"]) == (HEAD, "")
    assert worker["state"] == "unknown" and worker["lost"]
    assert [line.partition(":")[0] for line in document["unread"]] == ["spark-02"]

    cluster.hang(1)
    document, seconds = tool.document("status", code=1)
    assert seconds < BOUND
    assert document["state"] == "unknown"
    assert all(r["lost"] for r in document["ranks"])


def test_a_daemon_that_is_frozen_or_dead(served: Deploy) -> None:
    """Its containers keep serving, and the status says so."""
    cluster, tool = served.cluster, Tool(served)
    cluster.changed = True
    node = cluster.node(2)
    node.run("kill -STOP $(cat /run/docker.pid)")
    try:
        document, seconds = tool.document("status", code=1)
    finally:
        node.run("kill -CONT $(cat /run/docker.pid)")
    assert seconds < BOUND
    worker = document["ranks"][1]
    assert worker["lost"].startswith("Docker does not respond")
    assert (worker["state"], worker["health"]) == ("unknown", 200)
    assert document["ready"] is True
    assert document["ok"] is False

    node.run("systemctl stop docker.socket docker; true")
    document, _ = tool.document("status", code=1)
    assert document["ranks"][1]["lost"].startswith("Docker does not respond")


def test_watch_repeats_until_ctrl_c(served: Deploy) -> None:
    process = Tool(served).begin("status", "--watch", "--every", "0.2")
    rounds = 0
    assert process.stdout
    for line in process.stdout:
        rounds += MODEL in line
        if rounds == 2:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err
