"""The one-time way between two nodes, over real sshds: what it carries, refuses and leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from deploying import combined_output
from sparks import Cluster, Completed

ADDRESS = "169.254.1.1"
KEYS = "cat /home/nvidia/.ssh/authorized_keys; stat -c %a%U /home/nvidia/.ssh/authorized_keys"
LEFT = "ls -d /dev/shm/spark-serving* /tmp/spark-serving* /home/nvidia/.ssh/.spark* 2>/dev/null"
SIZE = 30_000_000

Carry = Callable[..., Completed]


@pytest.fixture
def carry(cluster: Cluster, tmp_path: Path) -> Carry:
    """Open the way from node 1 to node 2, ask, close; the answers are in tmp_path/out."""
    inventory = cluster.inventory(tmp_path)

    def carry(*asks: list[str], address: str = ADDRESS, **data: object) -> Completed:
        given = {"asks": asks, "out": str(tmp_path / "out"), "address": address, **data}
        return cluster.pyinfra("tests/support/carrying.py", inventory=inventory, data=given)

    return carry


def left(cluster: Cluster) -> list[str]:
    return [cluster.node(n).run(LEFT, check=False).stdout for n in (1, 2)]


def management_bytes(cluster: Cluster) -> int:
    """What nodes 1 and 2 have sent over the management network."""
    read = "cat /sys/class/net/enP7s7/statistics/tx_bytes"
    return sum(int(cluster.node(n).run(read).stdout) for n in (1, 2))


def test_files_go_over_the_fabric_and_nothing_else_does(
    cluster: Cluster, carry: Carry, tmp_path: Path
) -> None:
    source, target = cluster.node(1), cluster.node(2)
    source.run(f"printf '# no newline' >> /home/nvidia/.ssh/authorized_keys; {RANDOM}")
    keys, sent = source.run(KEYS).stdout, management_bytes(cluster)
    done = carry(
        ["0/-/some\n", "sh", "-c", '"$@" send >/var/hf-cache/came', "sh", "WAY"],
        ["", "WAY", "id"],
        ["", "WAY"],
        ["x", "WAY", "cat >/home/nvidia/written"],
        ["", "WAY", "docker save stub-engine"],
        ["0/-/../../etc/hostname\n", "WAY", "send"],
        folder="/var/hf-cache",
    )
    assert done.returncode == 0, combined_output(done)
    sent = management_bytes(cluster) - sent
    came, *refused = json.loads((tmp_path / "out").read_text())[target.name]
    assert came[0], came
    read = "sha256sum < /var/hf-cache/"
    assert source.run(f"{read}some").stdout == target.run(f"{read}came").stdout
    assert sent < SIZE / 20
    for ok, reply in refused:
        assert not ok
        assert "this key only sends files and images" in reply
    assert source.run(KEYS).stdout == keys
    assert left(cluster) == ["", ""]
    assert not (source.root / "home/nvidia/written").exists()


def test_remains_of_a_killed_controller_are_cleared_by_the_next(
    cluster: Cluster, carry: Carry
) -> None:
    source = cluster.node(1)
    keys = source.run(KEYS).stdout
    assert carry(killed=True).returncode == -9
    assert "spark-serving-carry-" in source.run(KEYS).stdout
    assert left(cluster)[1]
    assert carry().returncode == 0
    assert source.run(KEYS).stdout == keys
    assert left(cluster) == ["", ""]


def test_a_failed_tunnel_is_reported_and_cleaned_up(cluster: Cluster, carry: Carry) -> None:
    source = cluster.node(1)
    keys = source.run(KEYS).stdout
    source.run(f"iptables -A INPUT -d {ADDRESS} -p tcp --dport 22 -j REJECT")
    done = carry()
    assert done.returncode == 1
    reply = f"sshd on spark-01 does not answer at its fabric address {ADDRESS} port 22"
    assert f"spark-02: {reply}" in combined_output(done)
    done = carry(address="169.254.2.2")
    assert "what answers on 169.254.2.2 port 22 is not spark-01" in combined_output(done)
    assert source.run(KEYS).stdout == keys
    assert left(cluster) == ["", ""]


RANDOM = f"head -c {SIZE} /dev/urandom > /var/hf-cache/some"
