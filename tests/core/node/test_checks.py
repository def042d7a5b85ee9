"""Preflight: every finding and its cure, over a pair of healthy Sparks with one thing wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cluster.checks import Needs, check_nodes
from cluster.fabric import Fabric, choose_fabric
from cluster.findings import Level
from cluster.node.peers import PeerReport
from cluster.node.readings import (
    DiskReading,
    Engine,
    Gpu,
    ImageReading,
    Interface,
    Listener,
    MemoryReading,
    NodeFacts,
    Rank,
    RdmaPort,
    Weights,
)
from cluster.transfer.repository import WantedRepository

GIB = 2**30
SPEC = '{"dist_init_addr":"10.0.0.1:50000","port":30000}'


def half(name: str, letter: str, address: str) -> RdmaPort:
    prefix, domain = ("", "0000") if letter == "A" else ("P2", "0002")
    netdev = Interface(f"en{prefix}p1s0f0np0", 9000, True, "", (address,))
    pci = f"{domain}:01:00.0"
    return RdmaPort(f"roce{prefix}p1s0f0", netdev, pci, 0, letter, "ACTIVE", "LinkUp", 200.0)


def spark(number: int) -> NodeFacts:
    name = f"spark-{number}"
    halves = (half(name, "A", f"10.0.0.{number}/24"), half(name, "B", f"10.0.1.{number}/24"))
    return NodeFacts(
        name,
        machine_id=f"{number:032x}",
        clock=1_700_000_000.0 + number / 10,
        interfaces=tuple(h.interface for h in halves),
        rdma=halves,
        memory=MemoryReading(120 * GIB, 110 * GIB),
        gpus=(Gpu(0, "NVIDIA GB10", "580.126.09", "12.1"),),
        engine=Engine("29.1.3", ("io.containerd.runc.v2", "nvidia", "runc")),
        disks=(
            DiskReading("/raid/hf-cache", True, True, 4000 * GIB, 900 * GIB),
            DiskReading("/var/lib/docker", True, False, 1000 * GIB, 100 * GIB),
        ),
        listeners=(Listener(22, "0.0.0.0", "sshd", 900),),
    )


NEEDS = Needs(
    image="lmsysorg/sglang:spark",
    hf_cache={"spark-1": "/raid/hf-cache", "spark-2": "/raid/hf-cache"},
    repositories=(WantedRepository("org/m", weight_bytes=130 * GIB),),
    image_bytes=30 * GIB,
    our_names=frozenset({"sglang-head", "sglang-worker-1"}),
)
ALONE = replace(NEEDS, runtime="process", gpus=False)


def check(
    *nodes: NodeFacts, needs: Needs = NEEDS, fabric: Fabric | None = None, **more: Any
) -> list[str]:
    """Findings as "level node: what -> cure"."""
    peers: Mapping[str, PeerReport] = more.pop("peers", {})
    findings = check_nodes(nodes, wanted=needs, fabric=fabric, peers=peers, **more)
    assert all(bool(f.cure) == (f.level is not Level.OK) for f in findings)
    return [f"{f.level.value} {f}" for f in findings]


def wrong(*nodes: NodeFacts, **more: Any) -> list[str]:
    return [line for line in check(*nodes, **more) if not line.startswith("ok ")]


def with_rank(node: NodeFacts, name: str, spec: str | None = SPEC, id: str = "c0ffee") -> NodeFacts:
    return replace(node, ranks=(Rank(name, id, "running", label=spec),))


def test_healthy_sparks_with_capability_12_1_have_only_ok_findings() -> None:
    nodes = [spark(1), spark(2)]
    fabric = choose_fabric(nodes)
    findings = check(*nodes, fabric=fabric, latency={"spark-1": 0.02, "spark-2": 0.03})
    assert [line for line in findings if not line.startswith("ok ")] == []
    assert "ok spark-2: NVIDIA GB10, driver 580.126.09, compute capability 12.1" in findings
    assert "ok spark-2: Docker 29.1.3" in findings
    assert "ok spark-1: port 30000 is free" in findings
    assert "ok spark-1: dist_port 50000 is free" in findings
    assert "ok spark-2: dist_port 50000 is free" not in findings
    assert "ok spark-2: roceP2p1s0f0 (enP2p1s0f0np0) ACTIVE, 200 Gb/s, MTU 9000" in findings
    assert f"ok {fabric.summary}" in findings


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"machine_id": f"{1:032x}"},
            "error spark-2: is the same machine as spark-1 (machine-id 0000000000000000000000000000"
            "0001) -> take spark-2 out of the inventory, or give a cloned system its own: "
            "sudo rm /etc/machine-id && sudo systemd-machine-id-setup",
            id="same-machine",
        ),
        pytest.param(
            {"gpus": ()},
            "error spark-2: no NVIDIA GPU: nvidia-smi is missing or lists none -> "
            "sudo apt-get install nvidia-driver-580-open && sudo reboot",
            id="no-gpu",
        ),
        pytest.param(
            {"gpus": (), "unread": {"gpus": "couldn't communicate with the NVIDIA driver"}},
            "error spark-2: nvidia-smi fails: couldn't communicate with the NVIDIA driver -> "
            "sudo reboot loads the right driver",
            id="lost-driver",
        ),
        pytest.param(
            {"gpus": (Gpu(0, "NVIDIA L4", "580", "8.9"),)},
            "warning spark-2: NVIDIA L4, driver 580, compute capability 8.9: the defaults are for "
            "a GB10 (12.1) -> choose an image for it: --data image=IMAGE",
            id="another-gpu",
        ),
        pytest.param(
            {"engine": Engine(error="missing")},
            "error spark-2: Docker is not installed -> sudo apt-get install docker.io",
            id="docker-missing",
        ),
        pytest.param(
            {"engine": Engine(error="stopped"), "unread": {"ranks": "no daemon", "image": "no"}},
            "error spark-2: the Docker daemon is not running -> sudo systemctl enable --now docker",
            id="docker-stopped",
        ),
        pytest.param(
            {"engine": Engine(error="denied")},
            "error spark-2: the login may not use Docker -> "
            "sudo usermod -aG docker $USER, and log in again",
            id="docker-denied",
        ),
        pytest.param(
            {"engine": Engine(error="broken", detail="context not found")},
            "error spark-2: Docker does not respond: context not found -> "
            "sudo systemctl status docker",
            id="docker-broken",
        ),
        pytest.param(
            {"engine": Engine("29.1.3", ("runc",))},
            "error spark-2: Docker 29.1.3 has no NVIDIA runtime -> sudo apt-get install "
            "nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
            "sudo systemctl restart docker",
            id="no-runtime",
        ),
        pytest.param(
            {"disks": (DiskReading("/raid/hf-cache", False, False, 900 * GIB, 900 * GIB),)},
            "error spark-2: hf_cache /raid/hf-cache does not exist -> "
            "sudo mkdir -p /raid/hf-cache && sudo chown -R $USER /raid/hf-cache",
            id="no-cache",
        ),
        pytest.param(
            {"disks": (DiskReading("/raid/hf-cache", True, False, 900 * GIB, 900 * GIB),)},
            "error spark-2: hf_cache /raid/hf-cache is not writable -> "
            "sudo chown -R $USER /raid/hf-cache",
            id="cache-read-only",
        ),
        pytest.param(
            {"disks": (DiskReading("/raid/hf-cache", True, True, 900 * GIB, 129 * GIB),)},
            "error spark-2: /raid/hf-cache: 130.0 GiB weights = 130.0 GiB needed, 129.0 GiB free "
            "-> df -h /raid/hf-cache; docker system df; docker image prune",
            id="disk-full",
        ),
        pytest.param(
            {
                "disks": (
                    DiskReading("/raid/hf-cache", True, True, 900 * GIB, 150 * GIB),
                    DiskReading("/var/lib/docker", True, False, 900 * GIB, 150 * GIB),
                )
            },
            "error spark-2: /raid/hf-cache, /var/lib/docker: 130.0 GiB weights + 30.0 GiB image = "
            "160.0 GiB needed, 150.0 GiB free -> df -h /raid/hf-cache; docker system df; "
            "docker image prune",
            id="disk-shared-and-full",
        ),
        pytest.param(
            {"memory": MemoryReading(120 * GIB, 80 * GIB)},
            "warning spark-2: 80.0 GiB of 120.0 GiB memory available: other programs take the rest"
            " -> ps -eo rss,pid,args --sort=-rss | head; sudo apt-get install earlyoom keeps a "
            "node that runs out from freezing",
            id="memory-shared",
        ),
        pytest.param(
            {"clock": 1_700_000_005.1},
            "warning spark-2: its clock is 5.0 s ahead of spark-1's -> "
            "sudo timedatectl set-ntp true; timedatectl status",
            id="clock",
        ),
        pytest.param(
            {"listeners": (Listener(30000, "0.0.0.0", "nginx", 812),)},
            "error spark-2: port 30000 is taken by nginx (pid 812) on 0.0.0.0 -> sudo ss -ltnp "
            "'sport = :30000', stop it, or choose another: --data port=PORT",
            id="port-taken",
        ),
        pytest.param(
            {"listeners": (Listener(30000, "::1"), Listener(30000, "127.0.0.1"))},
            "error spark-2: port 30000 is taken by a program that the login may not see, on "
            "127.0.0.1 -> sudo ss -ltnp 'sport = :30000', stop it, or choose another: "
            "--data port=PORT",
            id="port-taken-unseen",
        ),
        pytest.param(
            {"unread": {"listeners": "ss: permission denied"}},
            "error spark-2: listeners could not be read: ss: permission denied -> "
            "ssh spark-2, fix it and run this again",
            id="unread",
        ),
        pytest.param(
            {
                "unread": {
                    "image": "Error response from daemon: invalid reference format: repository "
                    "name must be lowercase"
                }
            },
            "error spark-2: image could not be read: lmsysorg/sglang:spark is not a valid "
            "image name (Error response from daemon: invalid reference format: "
            "repository name must be lowercase) -> correct --data image=… "
            "(repository:tag, in lowercase)",
            id="image-name",
        ),
    ],
)
def test_one_thing_wrong(change: dict[str, Any], expected: str) -> None:
    assert wrong(spark(1), replace(spark(2), **change)) == [expected]


def test_a_port_that_could_not_be_read_is_never_called_free() -> None:
    node = replace(spark(1), listeners=(), unread={"listeners": "no"})
    findings = check_nodes([node], wanted=NEEDS, fabric=None, peers={})
    assert "port-free" not in {finding.key for finding in findings}


def test_the_rendezvous_port_matters_on_the_head_of_several_nodes_alone() -> None:
    held = (Listener(50000, "0.0.0.0", "java", 7),)
    head, worker = replace(spark(1), listeners=held), replace(spark(2), listeners=held)
    assert [line.split(" ->")[0] for line in wrong(head, worker)] == [
        "error spark-1: dist_port 50000 is taken by java (pid 7) on 0.0.0.0"
    ]
    assert wrong(head) == []


@pytest.mark.parametrize(
    ("rank", "pid", "expected"),
    [
        pytest.param(("sglang-head", SPEC), 1, None, id="ours"),
        pytest.param(("sglang-head", '{"port":31000}'), 1, "python3 (pid 1)", id="ours-elsewhere"),
        pytest.param(("sglang-head", None), 1, "python3 (pid 1)", id="our-name-not-our-container"),
        pytest.param(("blue", SPEC), 1, "blue, a rank of another group", id="another-group"),
    ],
)
def test_the_owner_of_a_taken_port_is_named(
    rank: tuple[str, str | None], pid: int, expected: str | None
) -> None:
    node = with_rank(spark(1), *rank)
    lines = wrong(replace(node, listeners=(Listener(30000, "0.0.0.0", "python3", pid),)))
    assert [line.split(" ->")[0].partition("taken by ")[2] for line in lines] == (
        [f"{expected} on 0.0.0.0" if expected.startswith("python3") else expected]
        if expected
        else []
    )


def test_a_process_rank_is_known_by_its_pid() -> None:
    node = with_rank(spark(1), "sglang-head", "{}", id="4711")
    node = replace(node, listeners=(Listener(30000, "127.0.0.1", "python3", 4711),))
    assert "ok spark-1: port 30000 is sglang-head's" in check(node, needs=ALONE)


def test_memory_that_our_own_rank_holds_is_no_problem() -> None:
    node = replace(with_rank(spark(1), "sglang-head"), memory=MemoryReading(120 * GIB, 10 * GIB))
    assert wrong(node) == []


def test_weights_and_image_that_are_there_need_no_room() -> None:
    full = (DiskReading("/raid/hf-cache", True, True, 900 * GIB, GIB),)
    there = Weights("m", "/raid/hf-cache/m", True, 130 * GIB)
    assert wrong(replace(spark(1), disks=full, weights=there)) == []
    half = replace(there, complete=False, bytes=100 * GIB)
    assert "30.0 GiB weights" in wrong(replace(spark(1), disks=full, weights=half))[0]
    docker = (DiskReading("/var/lib/docker", True, False, 900 * GIB, GIB),)
    assert "30.0 GiB image" in wrong(replace(spark(1), disks=docker))[0]
    image = ImageReading("lmsysorg/sglang:spark", "sha256:1")
    assert wrong(replace(spark(1), disks=docker, image=image)) == []


def test_a_moved_docker_data_root_is_checked_where_it_is() -> None:
    absent = (DiskReading("/var/lib/docker", False, False, 900 * GIB, GIB),)
    assert wrong(replace(spark(1), disks=absent)) == []
    moved = Engine("29.1.3", ("nvidia",), images="/data/docker")
    full = (DiskReading("/var/lib/docker", True, False, 900 * GIB, GIB),)
    assert wrong(replace(spark(1), disks=full, engine=moved)) == []


def test_images_in_containerds_store_need_room_where_that_is() -> None:
    engine = Engine("29.1.3", ("nvidia",), images="/var/lib/containerd")
    disks = (
        DiskReading("/var/lib/docker", True, False, 900 * GIB, 800 * GIB),
        DiskReading("/var/lib/containerd", True, False, 90 * GIB, GIB),
    )
    (finding,) = wrong(replace(spark(1), disks=disks, engine=engine))
    assert "/var/lib/containerd: 30.0 GiB image = 30.0 GiB needed, 1.0 GiB free" in finding


def test_space_for_partly_downloaded_weights_is_deducted() -> None:
    full = (DiskReading("/raid/hf-cache", True, True, 900 * GIB, 20 * GIB),)
    begun = Weights("a/b", "/raid/hf-cache/x", False, 115 * GIB)
    assert "130.0 GiB weights = 130.0 GiB needed" in wrong(replace(spark(1), disks=full))[0]
    assert wrong(replace(spark(1), disks=full, weights=begun)) == []


def test_a_draft_model_needs_room_beside_the_model() -> None:
    draft = WantedRepository("org/d", weight_bytes=3 * GIB, draft=True)
    needs = replace(NEEDS, repositories=(*NEEDS.repositories, draft))
    disks = (DiskReading("/raid/hf-cache", True, True, 900 * GIB, 131 * GIB),)
    bare = replace(spark(1), disks=disks)
    (line,) = wrong(bare, needs=needs)
    assert "130.0 GiB weights + 3.0 GiB draft = 133.0 GiB needed, 131.0 GiB free" in line
    there = {"org/d": Weights("org/d", "/raid/hf-cache/d", True, 3 * GIB)}
    assert wrong(replace(bare, drafts=there), needs=needs) == []
    whole = Weights("org/m", "/raid/hf-cache/m", True, 130 * GIB)
    assert wrong(replace(bare, weights=whole), needs=needs) == []


def test_a_cache_under_the_login_s_home() -> None:
    disks = (DiskReading("/home/ann/hf cache", False, False, GIB, GIB),)
    node = replace(spark(1), home="/home/ann", disks=disks)
    needs = replace(NEEDS, hf_cache={"spark-1": "~/hf cache"}, repositories=())
    assert wrong(node, needs=needs) == [
        "error spark-1: hf_cache /home/ann/hf cache does not exist -> "
        "sudo mkdir -p '/home/ann/hf cache' && sudo chown -R $USER '/home/ann/hf cache'"
    ]


def test_a_process_needs_neither_docker_nor_a_gpu() -> None:
    bare = replace(spark(1), gpus=(), engine=None, rdma=(), unread={"rdma": "no /sys here"})
    assert wrong(bare, needs=ALONE) == []


def test_a_heavy_shell_profile() -> None:
    (line,) = wrong(spark(1), latency={"spark-1": 0.42})
    assert line.startswith("warning spark-1: a trivial command over SSH takes 0.42 s")
    assert "~/.bashrc" in line


def test_fabric_and_peer_warnings_are_reported() -> None:
    nodes = [spark(1), replace(spark(2), rdma=(replace(spark(2).rdma[0], rate_gbps=100.0),))]
    failed = {"spark-1": PeerReport(error="python3: not found")}
    findings = wrong(*nodes, fabric=choose_fabric(nodes), peers=failed)
    assert any("spark-2: rocep1s0f0 runs at 100 Gb/s, not 200" in line for line in findings)
    assert any("could not be read: python3: not found" in line for line in findings)
