"""Docker 28 on the nodes: image stores, CDI devices. `make test-docker28` gives them that engine.

The GPUs are stand-ins: device files without a driver behind them, a script for nvidia-smi, a hook
that copies it. The CDI specification is a real one, and Docker itself reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import testbed_image
from deploying import HEAD, Deploy, lives, rank, same_image, serves
from spark_node import Node
from sparks import ENGINE, IMAGE, STORES

pytestmark = [
    pytest.mark.docker28,
    pytest.mark.skipif(not ENGINE, reason="needs Docker 28 on the nodes: make test-docker28"),
]

CDI = """cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- {name: "0", containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
- {name: all, containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes: [{path: /dev/nvidiactl}]
  mounts:
  - hostPath: /usr/local/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev, bind]
"""
INDEX = "lmsysorg/sglang:index"
CONTAINERD = "io.containerd.snapshotter.v1"


@pytest.fixture
def cdi(deploy: Deploy) -> Deploy:
    """Both nodes have CDI devices, and neither NVIDIA's runtime nor its hook."""

    def prepare(node: Node) -> None:
        node.run("mkdir -p /etc/cdi && rm /usr/bin/nvidia-container-runtime-hook")
        (node.root / "etc/cdi/nvidia.yaml").write_text(CDI)
        configure(node, **STORES[ENGINE])

    deploy.cluster.each(prepare)
    return deploy


@pytest.fixture
def mixed(deploy: Deploy) -> Iterator[Deploy]:
    """Node 2 has the other store than node 1, and in it the image, by `docker load`."""
    worker = deploy.cluster.node(2)
    containerd = "features" not in STORES[ENGINE]
    runtimes = {"nvidia": {"path": "/usr/local/sbin/runc"}}
    configure(worker, runtimes=runtimes, features={"containerd-snapshotter": containerd})
    worker.load(testbed_image.tar())
    yield deploy
    # A reset goes back to the other store, and would not see these.
    worker.run("docker ps -aq | xargs -r docker rm -f; docker images -q | xargs -r docker rmi -f")


def configure(node: Node, **daemon: object) -> None:
    (node.root / "etc/docker/daemon.json").write_text(json.dumps({"log-level": "warn", **daemon}))
    node.restart("docker")


def id_of(deploy: Deploy, name: str) -> str:
    """The id of the container that has this name on node 1."""
    return deploy.cluster.node(1).run(f"docker ps -q --no-trunc -f name=^{name}$").stdout


def test_the_nodes_have_the_engine_and_store_under_test(deploy: Deploy) -> None:
    for node in deploy.cluster.nodes.values():
        info = json.loads(node.run("docker info --format '{{json .}}'").stdout)
        assert int(info["ServerVersion"].split(".")[0]) >= 28
        assert (["driver-type", CONTAINERD] in info["DriverStatus"]) == bool(STORES[ENGINE])


def test_gpus_come_through_the_runtimes_hook_where_there_is_one(deploy: Deploy) -> None:
    deploy.converges()
    (request,) = rank(deploy.cluster, 1)["HostConfig"]["DeviceRequests"]
    assert (request["Driver"], request["Count"]) == ("", -1)
    assert "NVIDIA GB10" in deploy.cluster.node(1).run(f"docker exec {HEAD} nvidia-smi -L").stdout


def test_gpus_come_as_cdi_devices_where_there_is_no_runtime(cdi: Deploy) -> None:
    cdi.converges()
    for number in (1, 2):
        (request,) = rank(cdi.cluster, number)["HostConfig"]["DeviceRequests"]
        assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=all"])
    inside = cdi.cluster.node(1).run(f"docker exec {HEAD} sh -c 'ls /dev/nvidia*; nvidia-smi -L'")
    assert inside.stdout.startswith("/dev/nvidia0\n/dev/nvidiactl\nGPU 0: NVIDIA GB10")


def test_a_cdi_device_by_its_name(cdi: Deploy) -> None:
    cdi.converges(gpus="nvidia.com/gpu=0")
    (request,) = rank(cdi.cluster, 1)["HostConfig"]["DeviceRequests"]
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=0"])
    served = id_of(cdi, HEAD)
    output = cdi.fails(gpus="nvidia.com/gpu=7")
    assert "unresolvable CDI devices nvidia.com/gpu=7" in output
    assert id_of(cdi, HEAD) == served
    assert serves(cdi.cluster)


def test_two_kinds_of_image_store_have_one_image_under_two_ids(mixed: Deploy) -> None:
    assert not same_image(mixed.cluster)
    images = [node.images() for node in mixed.cluster.nodes.values()]
    mixed.converges()
    assert [node.images() for node in mixed.cluster.nodes.values()] == images
    mixed.unchanged(pull="never")


def test_the_other_kind_of_store_pulls_the_heads_image(mixed: Deploy) -> None:
    mixed.cluster.node(2).run(f"docker rmi {IMAGE}")
    output = mixed.succeeds()
    assert "[spark-02] pulling lmsysorg/sglang@sha256:" in output
    assert serves(mixed.cluster)
    mixed.unchanged()


def test_the_other_kind_of_store_gets_the_image_from_the_head(mixed: Deploy) -> None:
    worker = mixed.cluster.node(2)
    worker.run(f"docker rmi {IMAGE}; iptables -A OUTPUT -d 198.18.0.200 -j REJECT")
    output = mixed.succeeds()
    assert f"[spark-02] {IMAGE} is being copied from spark-01 over 169.254.1.1" in output
    assert serves(mixed.cluster)
    mixed.unchanged()


def test_an_image_that_is_an_index(deploy: Deploy) -> None:
    head, worker = deploy.cluster.node(1), deploy.cluster.node(2)
    pushed = head.run(f"docker manifest create {INDEX} {IMAGE} && docker manifest push {INDEX}")
    pinned = f"lmsysorg/sglang@{pushed.stdout.split()[-1]}"
    deploy.converges(image=INDEX)
    assert pinned in json.loads(head.run(f"docker image inspect {INDEX}").stdout)[0]["RepoDigests"]
    before = lives(deploy.cluster)
    deploy.succeeds(image=INDEX, pull="always")
    assert lives(deploy.cluster) == before
    deploy.converges(image=pinned, sglang_version="0.5.3.post3")
    # A worker that has lost it, and does not reach the registry.
    deploy.succeeds(state="absent")
    worker.run(f"docker rmi -f {INDEX} {pinned}; iptables -A OUTPUT -d 198.18.0.200 -j REJECT")
    output = deploy.succeeds(image=INDEX)
    assert f"[spark-02] {INDEX} is being copied from spark-01" in output
    deploy.unchanged(image=INDEX)
