"""deploys/network.py on the simulated cluster, with real netplan and networkd."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploying import Deploy, combined_output
from sparks import GROUP_DATA, Cluster

from cluster.node.netplan import FILE, Half
from operations.network import arm, hold_change

PROGRAM = "deploys/network.py"
# A fault: applying takes the management network down, until it is applied again.
CUTS = """
f=/usr/local/sbin/netplan; cat >$f <<'E'
#!/bin/sh
if [ -e /run/cut ]; then up=up; else up=down; touch /run/cut; fi
ip link set enP7s7 $up
exec /usr/sbin/netplan "$@"
E
chmod 755 $f
"""
GLOB = """
network:
  ethernets:
    all: {match: {name: "en*np1"}, dhcp4: true}
  wifis:
    wlP9s9: {access-points: {home: {password: "planted"}}}
"""
HALVES = ("enp1s0f1np1", "enP2p1s0f1np1")
# networkd runs on as netplan started it, and would give its addresses again.
STOP = """
rm -f /etc/netplan/40-*; rm -rf /run/systemd/network /run/netplan
systemctl stop 'spark-serving-network-*'; systemctl daemon-reload
systemctl stop systemd-networkd.socket systemd-networkd
"""


@pytest.fixture(autouse=True)
def without_networkd(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.each(lambda node: node.run(STOP, check=False))


def links(cluster: Cluster, node: int) -> dict[str, tuple[int, list[str]]]:
    """MTU and IPv4 addresses of each interface."""
    addresses: list[dict[str, Any]] = json.loads(cluster.node(node).run("ip -j -4 addr").stdout)
    return {
        link["ifname"]: (
            link["mtu"],
            [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]],
        )
        for link in addresses
        if link
    }


def halves(cluster: Cluster, node: int) -> list[tuple[int, list[str]]]:
    interfaces = links(cluster, node)
    return [interfaces.get(name, (0, [])) for name in HALVES]


def test_both_halves_get_addresses_that_stay_and_carry_a_deploy(deploy: Deploy) -> None:
    cluster = deploy.cluster
    cluster.each(
        lambda node: node.run(f"ip link set {HALVES[1]} mtu 1500; ip addr flush {HALVES[1]}")
    )
    management = [links(cluster, node)["enP7s7"] for node in (1, 2)]

    shown = deploy.succeeds("--dry", "--diff", program=PROGRAM)
    assert '+       addresses: ["192.168.101.2/24"]' in shown, shown
    assert cluster.node(1).run(f"ls {FILE}", check=False).returncode

    output = deploy.succeeds(program=PROGRAM)
    assert "enp1s0f1np1: 169.254.1.1/16 -> 192.168.100.1/24" in output
    for rank in (1, 2):
        assert halves(cluster, rank) == [
            (9000, [f"192.168.100.{rank}/24"]),
            (9000, [f"192.168.101.{rank}/24"]),
        ]
        stat = cluster.node(rank).run(
            f"stat -c '%a %U' {FILE}; ls -d /run/spark-serving-network", check=False
        )
        assert stat.stdout == "600 root\n"
    assert [links(cluster, node)["enP7s7"] for node in (1, 2)] == management
    ping = "ping -q -c1 -W2 -M do -s 8972 -I {} 192.168.{}.2"
    cluster.node(1).run(ping.format(HALVES[0], 100))
    cluster.node(1).run(ping.format(HALVES[1], 101))

    deploy.unchanged(program=PROGRAM)
    assert "QSFP port 1, both halves (rocep1s0f1,roceP2p1s0f1)" in deploy.succeeds()
    assert "sglang-head is running, and its addresses would change" in deploy.refused(
        program=PROGRAM, fabric_mtu=4200
    )


def test_a_change_a_peer_cannot_ping_is_reverted(deploy: Deploy) -> None:
    cluster = deploy.cluster
    before = {node: links(cluster, node) for node in (1, 2)}
    files = cluster.snapshot()
    cluster.link(2, "q1b", "down")

    output = deploy.fails(program=PROGRAM)
    what = "192.168.101.2 (spark-02 enP2p1s0f1np1) does not answer a ping of 8972 bytes"
    assert f"spark-01: {what} from enP2p1s0f1np1" in output, output
    assert "spark-01: network restored" in output
    assert "spark-02: network restored" in output
    assert {node: links(cluster, node) for node in (1, 2)} == before
    cluster.link(2, "q1b", "up")
    now = cluster.snapshot()
    assert all(FILE.lstrip("/") not in now[name]["files"] for name in files)
    for node in (1, 2):
        left = cluster.node(node).run("systemctl list-units; ls /run").stdout
        assert "spark-serving-network" not in left


@pytest.mark.faults
def test_a_node_that_ssh_can_no_longer_reach_reverts(deploy: Deploy) -> None:
    cluster = deploy.cluster
    before = {node: links(cluster, node) for node in (1, 2)}
    cluster.node(2).run(CUTS)
    hasty = Path(__file__).parents[1] / "support" / "hasty_guard.py"
    words = ("-y", "--group-data", GROUP_DATA, deploy.inventory, PROGRAM)
    done = cluster.ctl(sys.executable, hasty, *words, timeout=120, GUARD="14")
    assert done.returncode == 1, combined_output(done)
    # The command that cut the connection ends once the guard has brought it back.
    assert "192.168.100.2 (spark-02 enp1s0f1np1) does not answer a ping" in combined_output(done)
    for node in ("spark-01", "spark-02"):
        assert f"{node}: network restored" in combined_output(done)
    assert "Traceback" not in combined_output(done)
    assert {node: links(cluster, node) for node in (1, 2)} == before


def test_a_node_that_loses_contact_reverts_by_itself(deploy: Deploy) -> None:
    cluster = deploy.cluster
    node = cluster.node(1)
    before = links(cluster, 1)
    wanted = tuple(Half(name, "192.0.2.1/24", 9000) for name in HALVES[:1])
    node.run(f"mkdir -p /etc/netplan; echo {{}} >{FILE}")
    node.run(shlex.join(arm(wanted, seconds=6).bounded))
    node.run(f"echo network: >{FILE}; ip addr flush {HALVES[0]}; ip link set {HALVES[0]} mtu 1400")
    node.run(f"ip addr add 192.0.2.1/24 dev {HALVES[0]}")
    assert "spark-01: an earlier run failed or is still going" in deploy.fails(program=PROGRAM)
    deadline = time.monotonic() + 20
    while links(cluster, 1) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert links(cluster, 1) == before
    assert node.run(f"cat {FILE}").stdout == "{}\n"
    late = node.run(shlex.join(hold_change().bounded), check=False)
    assert late.returncode, "a guard that has acted can't be called off"


def test_refusals_leave_every_node_as_it_is(deploy: Deploy) -> None:
    cluster = deploy.cluster
    networks = ["198.18.0.0/24", "192.168.101.0/24"]
    output = deploy.refused(program=PROGRAM, fabric_networks=networks)
    assert "198.18.0.0/24 overlaps with 198.18.0.1/24 of enP7s7" in output

    other = "network: {version: 2, ethernets: {enp1s0f1np1: {mtu: 9000}}}"
    cluster.node(2).run(f"mkdir -p /etc/netplan; echo '{other}' >/etc/netplan/40-cx7.yaml")
    output = deploy.refused(program=PROGRAM)
    assert "spark-02: /etc/netplan/40-cx7.yaml already configures enp1s0f1np1" in output

    cluster.node(2).run(f"rm /etc/netplan/40-cx7.yaml; cat >/etc/netplan/60.yaml <<'E'\n{GLOB}E")
    output = deploy.refused("-vvv", program=PROGRAM)
    assert f"/etc/netplan/60.yaml already configures {HALVES[1]}, {HALVES[0]}" in output
    assert "planted" not in output

    cluster.node(2).run("rm /etc/netplan/60.yaml; echo >/etc/sudoers.d/nvidia")
    output = deploy.refused(program=PROGRAM)
    assert "spark-02: the login cannot become root without a password: sudo:" in output
