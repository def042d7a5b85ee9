"""Addresses on bonds, VLANs, bridges and the like over the halves of a port."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabric_samples import by_node, node, pair, port, refused, warnings

from cluster.fabric import FabricOptions, NodeOverrides, choose_fabric
from cluster.node.readings import Gid, Interface, NodeFacts, RdmaPort

A, B = "enp1s0f1np1", "enP2p1s0f1np1"


def bare(half: str, *gids: str, master: str = "") -> RdmaPort:
    """Half A or B of port 1 without an address of its own."""
    half_ = port(1, half)
    interface = replace(half_.interface, master=master)
    numbered = tuple(Gid(3 + i, address) for i, address in enumerate(gids))
    return replace(half_, interface=interface, gids=numbered)


def over(
    rank: int, kind: str, name: str, address: str, *halves: RdmaPort, link: str = "", **more: object
) -> NodeFacts:
    """A Spark whose halves lie under one device that has the address."""
    ipv4 = (address,) if address else ()
    device = Interface(name, 9000, True, "", ipv4, kind, link=link)
    facts = node(f"s{rank}", *halves, lan=f"10.1.0.{rank + 1}/24")
    return replace(facts, interfaces=(*facts.interfaces, replace(device, **more)))  # type: ignore[arg-type]


def bonds(kind: str = "bond", *gids: str) -> list[NodeFacts]:
    return [
        over(
            rank,
            kind,
            "bond0",
            f"192.168.50.{rank + 1}/24",
            *(bare(half, *(g.format(rank + 1) for g in gids), master="bond0") for half in "AB"),
        )
        for rank in (0, 1)
    ]


def vlans(*gids: str) -> list[NodeFacts]:
    return [
        over(rank, "vlan", f"{A}.100", f"10.7.0.{rank + 1}/24", bare("A", *gids), link=A)
        for rank in (0, 1)
    ]


def test_a_bond_of_both_halves_carries_the_traffic() -> None:
    fabric = choose_fabric(bonds())
    head = fabric.nodes[0]
    assert (head.interface, head.address) == ("bond0", "192.168.50.1")
    assert head.hcas == ("rocep1s0f1", "roceP2p1s0f1")
    assert head.env["NCCL_SOCKET_IFNAME"] == head.env["GLOO_SOCKET_IFNAME"] == "bond0"
    assert head.env["NCCL_IB_HCA"] == "rocep1s0f1,roceP2p1s0f1"
    assert head.env["NCCL_IB_ADDR_RANGE"] == "192.168.50.0/24"
    assert fabric.findings == ()
    assert "both halves under bond0 (a bond)" in fabric.summary


def test_an_active_backup_bond_uses_the_hca_with_its_gid() -> None:
    nodes = bonds()
    active = [
        replace(n, rdma=tuple(with_gid(p, i) if p.half == "B" else p for p in n.rdma))
        for i, n in enumerate(nodes)
    ]
    fabric = choose_fabric(active)
    assert fabric.nodes[1].hcas == ("roceP2p1s0f1",)
    assert f"{A} belongs to bond0 (a bond): only bond0 carries the traffic" in warnings(fabric)
    assert "netplan" not in warnings(fabric)


def with_gid(half_: RdmaPort, rank: int) -> RdmaPort:
    return replace(half_, gids=(Gid(5, f"192.168.50.{rank + 1}"),))


def test_a_vlan_over_the_cabled_port_carries_the_traffic() -> None:
    fabric = choose_fabric(vlans())
    assert fabric.nodes[1].interface == f"{A}.100"
    assert fabric.nodes[1].hcas == ("rocep1s0f1",)
    assert fabric.nodes[1].env["NCCL_IB_ADDR_RANGE"] == "10.7.0.0/24"


def test_vlans_over_both_halves_in_subnets_of_their_own_both_carry() -> None:
    nodes = []
    for rank, first in enumerate(vlans()):
        second = Interface(f"{B}.200", 9000, True, "", (f"10.8.0.{rank + 1}/24",), "vlan", link=B)
        both = node(f"s{rank}", bare("A"), bare("B"))
        vlan = next(i for i in first.interfaces if i.kind == "vlan")
        nodes.append(replace(both, interfaces=(*both.interfaces, vlan, second)))
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].hcas == ("rocep1s0f1", "roceP2p1s0f1")
    assert "NCCL_IB_ADDR_RANGE" not in fabric.nodes[0].env
    assert fabric.findings == ()


def test_a_vlan_over_a_bond() -> None:
    nodes = []
    for rank, facts in enumerate(bonds()):
        vlan = Interface(
            "bond0.9", 9000, True, "", (f"10.9.0.{rank + 1}/24",), "vlan", link="bond0"
        )
        plain = tuple(replace(i, ipv4=()) if i.name == "bond0" else i for i in facts.interfaces)
        nodes.append(replace(facts, interfaces=(*plain, vlan)))
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].interface == "bond0.9"
    assert len(fabric.nodes[0].hcas) == 2


def test_a_halfs_own_address_is_preferred_to_a_vlans() -> None:
    nodes = []
    for rank in (0, 1):
        facts = node(f"s{rank}", *pair(rank))
        vlan = Interface(f"{A}.9", 9000, True, "", (f"10.9.0.{rank + 1}/24",), "vlan", link=A)
        nodes.append(replace(facts, interfaces=(*facts.interfaces, vlan)))
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].interface == A
    # Without "=" NCCL would take the VLAN for it as well.
    assert fabric.nodes[0].env["NCCL_SOCKET_IFNAME"] == f"={A}"
    assert fabric.nodes[0].env["GLOO_SOCKET_IFNAME"] == A
    named = NodeOverrides(nccl_socket_ifname=f"{A}.9")
    fabric = choose_fabric(nodes, by_node(s0=named, s1=named))
    assert (fabric.nodes[0].interface, fabric.nodes[0].address) == (f"{A}.9", "10.9.0.1")
    assert fabric.nodes[0].hcas == ("rocep1s0f1", "roceP2p1s0f1")


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("bridge", "a bridge"),
        ("team", "a team"),
        ("ipvlan", "an ipvlan"),
        ("openvswitch", "an Open vSwitch"),
    ],
)
def test_devices_rdma_cannot_use_are_refused_by_kind(kind: str, title: str) -> None:
    message = refused(bonds(kind))
    assert f"belongs to bond0 ({title}" in message
    assert "which has 192.168.50.1/24, and RDMA does not work over it" in message
    assert "`--data rdma=off` serves over it with TCP" in message
    assert "netplan set" not in message
    assert "network.py" not in message
    fabric = choose_fabric(bonds(kind), FabricOptions(rdma="off"))
    assert (fabric.transport, fabric.nodes[1].interface) == ("tcp", "bond0")


def test_a_vlan_whose_address_no_gid_has_is_refused() -> None:
    message = refused(vlans("10.200.0.1"))
    assert f"lies under {A}.100 (a VLAN), which has 10.7.0.1/24" in message
    assert "rocep1s0f1 has no GID for that address" in message
    assert "netplan set" not in message


def test_a_bond_without_an_address_is_refused_by_name() -> None:
    bonded = [
        over(r, "bond", "bond0", "", *(bare(h, master="bond0") for h in "AB")) for r in (0, 1)
    ]
    message = refused(bonded)
    assert f"{A} (rocep1s0f1) belongs to bond0 (a bond), which has no IPv4 address" in message
    assert "give bond0 an address where it is configured" in message
    assert "netplan set" not in message


def test_a_half_in_a_vrf_is_reported_with_a_fix() -> None:
    nodes = []
    for rank in (0, 1):
        half = port(1, "A", f"10.7.0.{rank + 1}/24")
        half = replace(half, interface=replace(half.interface, master="fabric"))
        nodes.append(over(rank, "vrf", "fabric", "", half))
    message = refused(nodes)
    assert f"{A} (rocep1s0f1) is in the VRF fabric" in message
    assert f"sudo ip link set dev {A} nomaster" in message


@pytest.mark.parametrize("netdev", [A, ""])
def test_a_half_in_another_network_namespace(netdev: str) -> None:
    gone = Interface(netdev, 0, up=False)
    nodes = []
    for rank in (0, 1):
        facts = node(f"s{rank}", lan=f"10.1.0.{rank + 1}/24")
        half = replace(port(1, "A"), interface=gone)
        others = tuple(i for i in facts.interfaces if i.name != A)
        rdma = (*(p for p in facts.rdma if p.hca != half.hca), half)
        nodes.append(replace(facts, rdma=rdma, interfaces=others))
    message = refused(nodes)
    assert "is in another network namespace of the node" in message
    assert "netns 1" in message
    assert "plug" not in message


def test_the_named_half_of_a_bond_points_to_the_bond() -> None:
    wish = NodeOverrides(nccl_socket_ifname=A)
    message = refused(bonds(), by_node(s0=wish))
    assert f"{A} has no IPv4 address: it is bond0 (a bond)'s, which has 192.168.50.1/24" in message
    assert "nccl_socket_ifname = 'bond0' of s0" in message


def test_the_mtu_of_a_vlan_is_set_from_the_half_up() -> None:
    nodes = []
    for facts in vlans():
        small = {i.name: replace(i, mtu=1500) for i in facts.interfaces if i.name.startswith(A)}
        ports = tuple(
            replace(p, interface=small[p.netdev]) if p.netdev in small else p for p in facts.rdma
        )
        there = tuple(small.get(i.name, i) for i in facts.interfaces)
        nodes.append(replace(facts, rdma=ports, interfaces=there))
    message = warnings(choose_fabric(nodes))
    assert f"sudo ip link set dev {A} mtu 9000 && sudo ip link set dev {A}.100 mtu 9000" in message
    assert f"vlans.{A}.100.mtu=9000" in message
