"""What the probe reports of a node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import half, spark

from cluster.node.readings import DiskReading, Engine, Gpu
from cluster.reports.probe import probed_node, unreachable_node

CACHE = DiskReading("/raid/hf-cache", exists=True, writable=True, total=9, free=5)
GB10 = Gpu(0, "NVIDIA GB10", "580.126.09", "12.1")


def test_a_healthy_spark() -> None:
    node = spark(0, gpus=(GB10,), engine=Engine("29.1.0", ("nvidia",)), disks=(CACHE,))
    reading = probed_node(node, "/raid/hf-cache", "3.12.3")
    assert (reading.gpu, reading.driver, reading.docker) == ("NVIDIA GB10", "580.126.09", "29.1.0")
    assert (reading.hf_cache, reading.free_bytes, reading.python) == ("writable", 5, "3.12.3")
    assert reading.ports == (
        "enp1s0f1np1 192.168.100.10/24",
        "enP2p1s0f1np1 192.168.101.10/24",
    )


def test_a_machine_that_lacks_everything() -> None:
    bare = half("A", "10.1.1.1/24")
    bare = replace(bare, interface=replace(bare.interface, ipv4=()))
    node = replace(
        spark(0, engine=Engine(error="denied"), disks=(replace(CACHE, writable=False),)),
        rdma=(bare, replace(half("B", "10.2.1.1/24"), state="DOWN")),
        unread={"gpus": "driver mismatch"},
    )
    reading = probed_node(node, "/raid/hf-cache", "")
    assert (reading.gpu, reading.docker, reading.hf_cache) == (
        "driver mismatch",
        "denied",
        "not writable",
    )
    assert (reading.ports, reading.python) == (("enp1s0f1np1 no IPv4 address",), "missing")


def test_a_cache_below_the_logins_home() -> None:
    home = replace(CACHE, path="/home/me/hf", exists=False, writable=False)
    assert probed_node(spark(0, disks=(home,)), "~/hf", "3").hf_cache == "missing"


@pytest.mark.parametrize(
    ("why", "cure"),
    [
        pytest.param(
            "ConnectError: Authentication error (username=me)", "ssh-copy-id me@s", id="key"
        ),
        pytest.param(
            "SSH host key error (Host key for 10.0.0.5 does not match.)",
            "if the machine was set up anew: ssh-keygen -R 10.0.0.5 && ssh me@s true",
            id="a-changed-host-key",
        ),
        pytest.param(
            "SSH error (StrictPolicy: No host key for s found in known_hosts)",
            "ssh me@s true, and accept its key",
            id="an-unknown-host-key",
        ),
        pytest.param(
            "Could not connect (timed out)",
            "ssh me@s true; Host s in ~/.ssh/config can give another Port",
            id="no-answer",
        ),
        pytest.param("EOF error ()", "ssh me@s true", id="else"),
    ],
)
def test_every_unreachable_node_has_a_fix(why: str, cure: str) -> None:
    node = unreachable_node("s", why, "me")
    assert (node.cure, node.lost) == (cure, why.removeprefix("ConnectError: "))
