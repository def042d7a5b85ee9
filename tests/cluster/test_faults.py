"""Faults in the middle, with nothing to put back: exit code 1, the cause named, no half of a group
left running. After each, the same command without the fault converges.
"""

from __future__ import annotations

import pytest
from clusterctl import Tool
from deploying import (
    HEAD,
    WORKER,
    Deploy,
    cases,
    combined_output,
    meanwhile,
    rank,
    serves,
    states,
)
from sparks import Cluster

SLOW = {"STUB_LOAD_SECONDS": "6"}


def proves_an_end(cluster: Cluster, nodes: tuple[int, ...] = (1, 2)) -> None:
    """No rank runs, and none will come back by itself."""
    for number in nodes:
        container = rank(cluster, number)
        assert container["State"]["Status"] == "exited"
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "no"


FAULTS = {
    "a worker that dies at start": (
        {"STUB_EXIT_RANK": "1"},
        [f"spark-02: {WORKER} has ended", "CUDA out of memory"],
    ),
    "the head dies": ({"STUB_EXIT_RANK": "0"}, [f"spark-01: {HEAD} has ended"]),
    "time-out": (
        {"STUB_NEVER_READY": "1"},
        ["not ready after", "ready_timeout = 6", "spark-01 loading", "spark-02 healthy"],
    ),
    "another model": (
        {"STUB_SERVE_AS": "other/model"},
        ["spark-01: serves other/model, expected Qwen/Qwen2.5-7B-Instruct"],
    ),
    "no completion": ({"STUB_COMPLETION_FAILS": "1"}, ["a completion is answered 500"]),
    "a licence that is not accepted": ({"STUB_GATED": "403"}, ["has ended", "licen"]),
}


# What the others say is a symptom of `test_symptoms` and an answer of `test_readiness`.
@pytest.mark.parametrize("name", cases(FAULTS, "a worker that dies at start", "time-out"))
def test_a_failed_group_is_reported_and_stopped(served: Deploy, name: str) -> None:
    env, words = FAULTS[name]
    output = served.fails(env=env, ready_timeout=6, rollback=False)
    for part in words:
        assert part in output, output
    for line in (f"{HEAD} | ", f"{WORKER} | ", "every rank that could be reached is stopped"):
        assert line in output, output
    assert "serves again" not in output
    proves_an_end(served.cluster)
    served.mends()


def test_an_nccl_that_hangs_with_graphs_fails_the_deploy_at_once(served: Deploy) -> None:
    old = {"STUB_NCCL": "2.28.9"}
    output = served.fails(env=old, disable_cuda_graph=False)
    assert "NCCL 2.28.9 hangs over several nodes with CUDA graphs" in output
    assert "--data variant=release" in output
    assert "Qwen/Qwen2.5-7B-Instruct serves again, as before this run" in output
    assert serves(served.cluster)
    # Without graphs it is a warning, of the deploy and of status.
    assert "warning: NCCL 2.28.9 has hung over several nodes" in served.succeeds(env=old)
    document, _ = Tool(served).document("status", code=1)
    assert [rank["nccl"] for rank in document["ranks"]] == [["2.28.9"], ["2.28.9"]]
    assert any("has hung over several nodes" in text for text in document["warnings"])
    assert document["errors"] == []
    served.mends()


def test_a_capture_that_stops_is_reported_as_one(served: Deploy) -> None:
    output = served.fails(
        env={"STUB_CAPTURE_STOPS": "1"}, disable_cuda_graph=False, ready_timeout=20, rollback=False
    )
    assert "the capture of CUDA graphs has made no progress for 1" in output
    assert "spark-01 loading (capturing CUDA graphs)" in output
    assert "--data disable_cuda_graph=true" in output
    assert "not ready after" not in output
    proves_an_end(served.cluster)
    served.mends()


def test_a_killed_rank_is_not_reported_as_out_of_memory(served: Deploy) -> None:
    done = meanwhile(
        served, lambda c: c.node(1).run(f"docker kill {HEAD}"), env=SLOW, rollback=False
    )
    assert done.returncode == 1
    assert f"spark-01: {HEAD} has ended: exited with exit code 137" in combined_output(done)
    assert "memory" not in combined_output(done).split("has ended")[1].split("\n")[0]
    proves_an_end(served.cluster)
    served.mends()


@pytest.mark.faults
def test_a_rank_that_docker_restarts_while_we_wait_has_failed(served: Deploy) -> None:
    env = {"STUB_EXIT_RANK": "1", "STUB_LOAD_SECONDS": "3"}
    served.fails(env=env, rollback=False)
    cluster = served.cluster
    for number, name in ((2, WORKER), (1, HEAD)):
        cluster.node(number).run(f"docker update --restart unless-stopped {name}")
        cluster.node(number).run(f"docker start {name}")
    output = served.fails(env=env, rollback=False)
    assert "keeps restarting by itself" in output or "has ended" in output
    proves_an_end(cluster)
    served.mends()


def test_ssh_that_drops_while_we_wait_is_taken_up_again(served: Deploy) -> None:
    drop = "pkill -f '^sshd(-session)?: nvidia' || true"
    done = meanwhile(served, lambda c: c.each(lambda node: node.run(drop)), env=SLOW)
    assert done.returncode == 0, combined_output(done)
    assert serves(served.cluster)
    served.unchanged(env=SLOW)


@pytest.mark.faults
def test_a_node_that_loses_power_while_we_wait(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    output = combined_output(meanwhile(served, lambda c: c.off(2), env=SLOW, rollback=False))
    assert "spark-02: does not answer" in output
    assert f"spark-01: {HEAD} has ended" in output
    proves_an_end(cluster, nodes=(1,))
    cluster.on(2)
    served.mends()
    assert states(cluster) == {HEAD: "running", WORKER: "running"}


def test_a_head_that_loses_power_while_we_wait(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    output = combined_output(meanwhile(served, lambda c: c.off(1), env=SLOW, rollback=False))
    assert "spark-01: does not answer" in output
    assert f"spark-02: {WORKER} has ended" in output
    proves_an_end(cluster, nodes=(2,))
    cluster.on(1)
    served.mends()
