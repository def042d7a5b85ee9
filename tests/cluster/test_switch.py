"""A switch that fails leaves the group that served before, on every node, and says why."""

from __future__ import annotations

import signal
from uuid import uuid4

import pytest
from deploying import (
    HEAD,
    MODEL,
    WORKER,
    Deploy,
    cases,
    combined_output,
    lives,
    meanwhile,
    serves,
    states,
)
from killing import kill_all
from sparks import Cluster

OTHER = "Qwen/Qwen2.5-14B-Instruct"
KEPT = {HEAD: "running", WORKER: "running"}


def weights(deploy: Deploy) -> None:
    deploy.cluster.each(lambda node: node.add_weights(OTHER))


def ids(cluster: Cluster) -> dict[str, str]:
    return {c["Name"].lstrip("/"): c["Id"] for n in cluster.nodes.values() for c in n.containers()}


FAILURES = {
    "a worker that dies": ({"STUB_EXIT_RANK": "1"}, "CUDA out of memory"),
    "no completion": ({"STUB_COMPLETION_FAILS": "1"}, "a completion is answered 500"),
    "another model than the wanted one": (
        {"STUB_SERVE_AS": "other/model"},
        f"spark-01: serves other/model, expected {OTHER}",
    ),
}


# What the others say is a symptom of `test_symptoms` and an answer of `test_readiness`.
@pytest.mark.parametrize("name", cases(FAILURES, "no completion"))
def test_a_group_that_fails_is_replaced_by_the_one_before_it(served: Deploy, name: str) -> None:
    env, why = FAILURES[name]
    cluster = served.cluster
    weights(served)
    before = ids(cluster)
    output = served.fails(model="qwen14b", env=env)
    assert why in output
    assert f"{MODEL} serves again, as before this run" in output
    assert serves(cluster, MODEL)
    assert {k: v for k, v in ids(cluster).items() if not k.endswith(".failed")} == before
    assert states(cluster) == {
        **KEPT,
        f"{HEAD}.failed": "exited",
        f"{WORKER}.failed": "exited",
    }
    policies = cluster.node(2).run(
        "docker inspect -f '{{.Name}} {{.HostConfig.RestartPolicy.Name}}' $(docker ps -aq)"
    )
    assert sorted(policies.stdout.split("\n")[:2]) == [
        f"/{WORKER} unless-stopped",
        f"/{WORKER}.failed no",
    ]
    # What failed can be read until the next deploy, which clears it away and restarts nothing.
    assert "sglang" in cluster.node(1).logs(f"{HEAD}.failed")
    running = ids(cluster)[HEAD]
    output = served.succeeds()
    assert "was kept for inspection after it had failed" in output
    assert states(cluster) == KEPT
    assert ids(cluster)[HEAD] == running
    served.unchanged()
    # The switch can be made again.
    served.succeeds(model="qwen14b")
    assert serves(cluster, OTHER)
    assert states(cluster) == KEPT


def test_a_taken_name_stops_nothing(served: Deploy) -> None:
    """Somebody's container is called as ours would be while it is kept."""
    cluster = served.cluster
    weights(served)
    cluster.node(2).run(f"docker create --name {WORKER}.previous lmsysorg/sglang:spark")
    before = lives(cluster)
    output = served.fails(model="qwen14b")
    assert "spark-02: could not set the old rank aside" in output
    assert lives(cluster) == before
    assert serves(cluster, MODEL)
    cluster.node(2).run(f"docker rm {WORKER}.previous")
    served.succeeds(model="qwen14b")
    assert serves(cluster, OTHER)


def test_a_group_that_moves_to_its_head_alone_is_put_back_on_both_nodes(served: Deploy) -> None:
    output = served.fails(head_only=True, env={"STUB_EXIT_RANK": "0"})
    assert f"{MODEL} serves again, as before this run" in output
    assert serves(served.cluster)
    assert states(served.cluster) == {**KEPT, f"{HEAD}.failed": "exited"}
    served.mends()


@pytest.mark.faults
def test_a_node_that_loses_power_during_a_switch(served: Deploy) -> None:
    """The group before can't come back without its worker: kept, until the next deploy."""
    cluster = served.cluster
    cluster.changed = True
    weights(served)
    done = meanwhile(served, lambda c: c.off(2), model="qwen14b", env={"STUB_LOAD_SECONDS": "6"})
    output = combined_output(done)
    assert done.returncode == 1
    assert "its rank on spark-02 is out of reach" in output
    assert f"{HEAD}.previous" in cluster.node(1).run("docker ps -a --format '{{.Names}}'").stdout
    cluster.on(2)
    served.mends()
    assert states(cluster) == KEPT


def test_ctrl_c_puts_back_what_served(served: Deploy) -> None:
    weights(served)
    before, mark = ids(served.cluster), uuid4().hex
    done = meanwhile(
        served,
        lambda _: kill_all(mark, signal.SIGINT),
        environ={"KILLING": mark},
        model="qwen14b",
        env={"STUB_LOAD_SECONDS": "20"},
    )
    assert done.returncode == 1, combined_output(done)
    assert "interrupted by SIGINT" in combined_output(done)
    assert f"{MODEL} serves again, as before this run" in combined_output(done)
    assert serves(served.cluster)
    assert {k: v for k, v in ids(served.cluster).items() if not k.endswith(".failed")} == before
