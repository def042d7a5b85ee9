"""Each fact answers on its own, over SSH, and agrees with the node's own tools."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sparks import Cluster

IMAGE = "lmsysorg/sglang:spark"


def fact(cluster: Cluster, folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    """The fact's JSON by node, from pyinfra's own command line."""
    done = cluster.pyinfra(
        "fact", f"facts.{name}", *arguments, "--json", inventory=cluster.inventory(folder)
    )
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = next(iter(json.loads(done.stdout).values()))
    return value


def test_rdma_ports_agree_with_ibdev2netdev(cluster: Cluster, tmp_path: Path) -> None:
    cluster.link(1, "q1b", "down")
    value = fact(cluster, tmp_path, "rdma.RdmaPorts")
    for number in (1, 2):
        node = cluster.node(number)
        lines = node.run("ibdev2netdev").stdout.splitlines()
        tool = {tuple(re.findall(r"(\S+) port 1 ==> (\S+) \((\w+)\)", x)[0]) for x in lines}
        ours = {
            (
                port["hca"],
                port["interface"]["name"],
                "Up" if port["state"] == "ACTIVE" and port["interface"]["up"] else "Down",
            )
            for port in value[node.name]
        }
        assert ours == tool
        assert len(ours) == 4


def test_rdma_ports_need_no_ibdev2netdev(cluster: Cluster, tmp_path: Path) -> None:
    before = fact(cluster, tmp_path, "rdma.RdmaPorts")
    cluster.each(lambda node: node.run("rm /usr/local/bin/ibdev2netdev"))
    assert fact(cluster, tmp_path, "rdma.RdmaPorts") == before


def test_an_hcas_gid_holds_its_interfaces_address(cluster: Cluster, tmp_path: Path) -> None:
    for ports in fact(cluster, tmp_path, "rdma.RdmaPorts").values():
        (cabled,) = [p for p in ports if p["interface"]["name"] == "enp1s0f1np1"]
        assert f"{cabled['gids'][0]['address']}/16" in cabled["interface"]["ipv4"]
        assert (cabled["rate_gbps"], cabled["interface"]["mtu"]) == (200.0, 9000)


def test_every_fact_answers_on_its_own(cluster: Cluster, tmp_path: Path) -> None:
    model, cache = "Qwen/Qwen2.5-7B-Instruct", "/var/hf-cache"
    cluster.each(lambda node: node.add_weights(model))
    weights = (f"model={model}", f"hf_cache={cache}")
    for name, arguments, key, value in (
        ("system.Gpus", (), "name", "NVIDIA GB10"),
        ("system.Memory", (), "total", 131334144 * 1024),
        ("containers.EngineState", (), "error", ""),
        ("containers.Image", (f"image={IMAGE}",), "reference", IMAGE),
        ("system.Disk", (f"path={cache}",), "exists", True),
        ("weights.ModelWeights", weights, "complete", True),
    ):
        for reading in fact(cluster, tmp_path, name, *arguments).values():
            first = reading[0] if isinstance(reading, list) else reading
            assert first[key] == value, name


def test_sshd_is_seen_listening_with_its_name(cluster: Cluster, tmp_path: Path) -> None:
    for value in fact(cluster, tmp_path, "network.Listeners").values():
        assert 22 in {listener["port"] for listener in value}


def test_a_daemon_that_does_not_answer_is_an_error(cluster: Cluster, tmp_path: Path) -> None:
    cluster.node(1).run("systemctl stop docker.socket docker.service")
    done = cluster.pyinfra(
        "fact", "facts.containers.Containers", inventory=cluster.inventory(tmp_path)
    )
    # pyinfra's own `fact` command prints a default for a host that failed, and exits 0.
    assert "Error: could not load fact: facts.containers.Containers" in done.stderr
    assert "Cannot connect to the Docker daemon" in done.stderr


def test_our_containers_are_reported_with_spec_and_exit(cluster: Cluster, tmp_path: Path) -> None:
    start = f"docker run --name sglang-head --label spark-serving.spec='{{}}' {IMAGE} false"
    cluster.node(1).run(start, check=False)
    (rank,) = fact(cluster, tmp_path, "containers.Containers")["spark-01"]
    assert (rank["label"], rank["status"], rank["exit_code"]) == ("{}", "exited", 1)
    assert rank["image_id"] == cluster.node(1).images()[IMAGE]
