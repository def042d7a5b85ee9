"""The whole deploy, over SSH, on two nodes, one and four."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deploying import (
    DATA,
    HEAD,
    MODEL,
    WORKER,
    Deploy,
    environment,
    lives,
    rank,
    serves,
    spec,
    states,
)
from spark_node import HF_CACHE
from sparks import TESTBED, Cluster


def test_two_nodes_serve_and_a_second_run_changes_nothing(deploy: Deploy) -> None:
    cluster = deploy.cluster
    output = deploy.succeeds()
    assert serves(cluster)
    assert "NCCL over rdma" in output
    for number, name in ((1, HEAD), (2, WORKER)):
        container = rank(cluster, number)
        host = container["HostConfig"]
        assert container["Name"] == f"/{name}"
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert (host["IpcMode"], host["ShmSize"]) == ("private", 32 * 2**30)
        assert spec(container)["rank"] == number - 1
    before = lives(cluster)
    deploy.unchanged()
    assert lives(cluster) == before


@pytest.mark.parametrize("words", [["--dry"], ["--dry", "--diff"]], ids=" ".join)
def test_dry_reports_the_first_deploy_and_changes_nothing(deploy: Deploy, words: list[str]) -> None:
    before = deploy.cluster.snapshot()
    output = deploy.succeeds(*words)
    assert f"plan: spark-01 {HEAD}: is not there" in output
    assert f"plan: spark-02 {WORKER}: is not there" in output
    assert deploy.cluster.snapshot() == before


def test_an_inventory_of_one_node_serves(cluster: Cluster, tmp_path: Path) -> None:
    cluster.node(1).add_weights(MODEL)
    cluster.link(1, "q1", "down")
    deploy = Deploy(cluster, cluster.inventory(tmp_path, workers=(), **DATA))
    deploy.converges()
    assert states(cluster) == {HEAD: "running"}


@pytest.mark.parametrize("number", [1, 2])
def test_a_strangers_container_with_our_name_refuses(deploy: Deploy, number: int) -> None:
    name = {1: HEAD, 2: WORKER}[number]
    deploy.cluster.node(number).run(f"docker run -d --name {name} lmsysorg/sglang:spark sleep 1000")
    output = deploy.refused()
    assert f"spark-0{number}: a container named {name} exists and is not ours" in output


def test_both_nodes_come_back_from_a_power_cut(deploy: Deploy) -> None:
    cluster = deploy.cluster
    deploy.succeeds()
    before = lives(cluster)
    cluster.each(lambda node: cluster.off(node.number))
    cluster.each(lambda node: cluster.on(node.number))
    for (old, was), (new, now) in zip(before, lives(cluster), strict=True):
        assert old == new and was != now, "Docker has started the same container again"
    deploy.succeeds()
    assert serves(cluster)
    deploy.unchanged()


# @local's commands run as the login on node 1: its files, its Docker, its processes.
AS_NODE_1 = """#!/bin/sh
login="setpriv --reuid nvidia --regid nvidia --init-groups env HOME=/home/nvidia USER=nvidia"
TB_STATE={state} exec {tb} exec 1 $login sh "$@"
"""


def test_the_head_deploys_itself_and_reaches_its_workers_over_the_fabric(deploy: Deploy) -> None:
    cluster, folder = deploy.cluster, deploy.inventory.parent
    shell = folder / "as-node-1"
    shell.write_text(AS_NODE_1.format(state=cluster.state, tb=TESTBED / "tb"))
    shell.chmod(0o755)
    keys = (cluster.state / "known_hosts").read_text().replace("198.18.0.2", "169.254.2.1")
    (folder / "known_hosts").write_text(keys)
    worker = {
        "ssh_user": "nvidia",
        "ssh_key": str(cluster.state / "id"),
        "ssh_known_hosts_file": str(folder / "known_hosts"),
    }
    data = {"hf_cache": HF_CACHE, **DATA}
    deploy.inventory.write_text(
        f"head = ([('@local', {{'_shell_executable': {str(shell)!r}}})], {data!r})\n"
        f"workers = ([('169.254.2.1', {worker!r})], {data!r})\n"
    )
    deploy.succeeds(on=1)
    assert serves(cluster)
    assert states(cluster) == {HEAD: "running", WORKER: "running"}
    deploy.unchanged(on=1)


def test_every_container_gets_its_own_fabric_address(served: Deploy) -> None:
    addresses = [environment(rank(served.cluster, n))["SGLANG_HOST_IP"] for n in (1, 2)]
    assert addresses == ["169.254.1.1", "169.254.2.1"]


def test_no_rank_shares_the_hosts_ipc(served: Deploy) -> None:
    for number in (1, 2):
        host = rank(served.cluster, number)["HostConfig"]
        assert (host["IpcMode"], host["ShmSize"]) == ("private", 32 * 2**30)


def test_a_converged_run_sends_each_node_at_most_four_commands(served: Deploy) -> None:
    output = served.unchanged() and served.succeeds("--debug")
    for name in ("spark-01", "spark-02"):
        commands = re.findall(rf"Running command on {name}", output)
        assert 1 <= len(commands) <= 4, commands


@pytest.mark.parametrize("words", [["--dry"], ["--dry", "--diff"]], ids=" ".join)
def test_dry_reports_every_nodes_reasons_and_changes_nothing(
    served: Deploy, words: list[str]
) -> None:
    before = served.cluster.snapshot()
    output = served.succeeds(*words, mem_fraction=0.5, env={"EXTRA": "1"})
    for name in (f"spark-01 {HEAD}", f"spark-02 {WORKER}"):
        assert f"plan: {name}: mem_fraction: 0.8 -> 0.5" in output
        assert f"plan: {name}: env EXTRA: (none) -> '1'" in output
    assert served.cluster.snapshot() == before


SWITCHES = {
    7: "mistralai/Mistral-7B-Instruct-v0.3",
    "some-org/Outside-The-Catalogue": "some-org/Outside-The-Catalogue",
}


def test_a_switch_is_over_when_the_new_model_is_served(served: Deploy) -> None:
    """By number, and by the id of a model that the catalogue lacks."""
    cluster, old = served.cluster, MODEL
    for name, model in SWITCHES.items():
        cluster.each(lambda node, model=model: node.add_weights(model))
        before = lives(cluster)
        output = served.succeeds(model=name)
        assert f"plan: spark-01 {HEAD}: model: '{old}' -> '{model}'" in output
        assert f"serving {model} on 2 node(s)" in output
        assert serves(cluster, model)
        assert not set(before) & set(lives(cluster))
        old = model


def test_a_model_on_the_nodes_is_served_by_its_path_and_workers_have_the_declared_names(
    served: Deploy,
) -> None:
    paths = served.cluster.each(lambda node: node.add_weights("own/model"))
    output = served.succeeds(model=paths[0], worker_container="my-worker", port=31000)
    assert f"serving {paths[0]} on 2 node(s)" in output
    assert states(served.cluster) == {HEAD: "running", "my-worker-1": "running"}
    worker = rank(served.cluster, 2)
    assert f"{paths[0]}:{paths[0]}:ro" in worker["HostConfig"]["Binds"]
    words = worker["Config"]["Cmd"]
    assert words[words.index("--port") + 1] == "31000"


def test_the_head_serves_alone_and_the_group_comes_back(served: Deploy) -> None:
    cluster = served.cluster
    output = served.succeeds(head_only=True)
    assert f"plan: spark-02 {WORKER}: is no longer part of the group" in output
    assert serves(cluster)
    assert states(cluster) == {HEAD: "running"}
    words = rank(cluster, 1)["Config"]["Cmd"]
    assert "--nnodes" not in words or words[words.index("--nnodes") + 1] == "1"
    served.unchanged(head_only=True)

    served.converges()
    assert states(cluster) == {HEAD: "running", WORKER: "running"}


def test_stopped_running_and_absent_and_other_containers_stay(served: Deploy) -> None:
    cluster = served.cluster
    others = {"sglang-foo": "running", "foreign": "running"}
    for words in ("--name sglang-foo", "--name foreign --label other=1"):
        cluster.node(2).run(f"docker run -d {words} lmsysorg/sglang:spark sleep 1000")
    served.succeeds(state="stopped")
    assert states(cluster) == {HEAD: "exited", WORKER: "exited", **others}
    ended = [rank(cluster, n)["State"] for n in (1, 2)]
    assert [state["ExitCode"] for state in ended] == [0, 0], "the worker ends with its head"
    assert "Gracefully exiting" in cluster.node(1).logs(HEAD)
    served.unchanged(state="stopped")

    before = [c["Id"] for c in (rank(cluster, 1), rank(cluster, 2))]
    served.converges()
    assert [c["Id"] for c in (rank(cluster, 1), rank(cluster, 2))] == before

    served.succeeds(state="absent")
    assert states(cluster) == others
    served.unchanged(state="absent")
    cluster.node(2).run(f"docker rm -f {' '.join(others)}")


def test_four_nodes_serve_and_a_rank_goes_and_comes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need(4)
    cluster.each(lambda node: node.add_weights(MODEL))
    four = Deploy(cluster, cluster.inventory(tmp_path, workers=(2, 3, 4), **DATA))
    four.converges()
    assert [spec(rank(cluster, n))["launch"]["tp"] for n in (1, 2, 3, 4)] == [4] * 4
    for number in (1, 2, 3, 4):
        assert cluster.http("/health", node=number).status == 200

    (tmp_path / "two").mkdir()
    two = Deploy(cluster, cluster.inventory(tmp_path / "two", **DATA))
    four.succeeds(state="absent")
    two.converges()
    assert states(cluster) == {HEAD: "running", WORKER: "running"}
    four.succeeds()
    assert len(states(cluster)) == 4
    cluster.keep(2)
