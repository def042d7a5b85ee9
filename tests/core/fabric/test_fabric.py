"""The fabric choice: named cases first, then properties over any cabling."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest
from fabric_samples import WISHES, any_nodes, by_node, node, pair, port, refused, sparks, warnings
from hypothesis import given, settings, strategies as st

from cluster.fabric import Fabric, FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Level, Refused
from cluster.node.readings import NodeFacts, RdmaPort


def link_local(rank: int) -> tuple[RdmaPort, RdmaPort]:
    a = port(1, "A", f"169.254.1.{rank + 1}/16")
    return a, port(1, "B", f"169.254.2.{rank + 1}/16")


def test_both_halves_where_each_has_its_own_subnet() -> None:
    fabric = choose_fabric(sparks())
    head, worker = fabric.nodes
    assert (head.address, worker.address) == ("192.168.100.10", "192.168.100.11")
    assert head.interface == worker.interface == "enp1s0f1np1"
    assert head.hcas == ("rocep1s0f1", "roceP2p1s0f1")
    assert fabric.transport == "rdma"
    assert fabric.findings == ()
    assert fabric.summary == (
        "RDMA over QSFP port 1, both halves (rocep1s0f1,roceP2p1s0f1), meeting at "
        "192.168.100.10 (enp1s0f1np1, 192.168.100.0/24): the cabled port of all nodes"
    )


def test_environment_of_a_rank() -> None:
    assert choose_fabric(sparks()).nodes[1].env == {
        "NCCL_IB_DISABLE": "0",
        "NCCL_IB_HCA": "rocep1s0f1,roceP2p1s0f1",
        "NCCL_IGNORE_CPU_AFFINITY": "1",
        "NCCL_SOCKET_IFNAME": "enp1s0f1np1",
        "GLOO_SOCKET_IFNAME": "enp1s0f1np1",
        "TP_SOCKET_IFNAME": "enp1s0f1np1",
        "UCX_NET_DEVICES": "rocep1s0f1:1,roceP2p1s0f1:1",
        "SGLANG_HOST_IP": "192.168.100.11",
    }


def test_three_nodes_route_by_subnet() -> None:
    env = choose_fabric(sparks(3)).nodes[2].env
    assert (env["NCCL_IB_SUBNET_AWARE_ROUTING"], env["NCCL_IB_MERGE_NICS"]) == ("1", "0")


def test_a_single_node_needs_no_fabric() -> None:
    fabric = choose_fabric([NodeFacts("spark-1")], FabricOptions(rdma="on"))
    assert (fabric.transport, fabric.findings) == ("none", ())
    assert (fabric.nodes[0].address, fabric.nodes[0].env) == ("127.0.0.1", {})


def test_no_up_port_is_refused_with_the_reason() -> None:
    message = refused([sparks()[0], node("spark-2")])
    assert (
        "spark-2: no QSFP port is Up: rocep1s0f0 (enp1s0f0np0) DOWN/Disabled, no carrier" in message
    )
    assert "ibdev2netdev" in message
    assert "--data rdma=off" in message
    assert "spark-1" not in message


def test_no_rdma_port_at_all_and_one_that_could_not_be_read() -> None:
    unread = NodeFacts("b", unread={"rdma": "permission denied"})
    message = refused([NodeFacts("a"), unread])
    assert "a: no RDMA port exists" in message
    assert "b: the RDMA ports could not be read: permission denied" in message


def test_a_fabric_is_chosen_where_only_the_enp2p_half_is_up() -> None:
    nodes = [node(f"spark-{i}", port(0, "B", f"192.168.101.1{i}/24")) for i in (1, 2)]
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].interface == "enP2p1s0f0np0"
    assert fabric.nodes[0].hcas == ("roceP2p1s0f0",)
    assert "spark-2: only half B of QSFP port 0 is Up" in warnings(fabric)
    assert "sudo ip link set dev enp1s0f0np0 up" in warnings(fabric)


def test_the_address_is_never_ipv6_or_secondary() -> None:
    nodes = [
        node(f"s{i}", port(1, "A", f"fe80::{i}/64", f"10.1.0.{i}/24", f"10.2.0.{i}/24"))
        for i in (1, 2)
    ]
    assert [n.address for n in choose_fabric(nodes).nodes] == ["10.1.0.1", "10.1.0.2"]


def test_every_rank_gets_sglang_host_ip() -> None:
    for rdma in ("auto", "off"):
        for member in choose_fabric(sparks(3), FabricOptions(rdma=rdma)).nodes:
            assert member.env["SGLANG_HOST_IP"] == member.address


def test_gid_index_and_gdr_level_are_never_set() -> None:
    assert not {"NCCL_IB_GID_INDEX", "NCCL_NET_GDR_LEVEL"} & set(
        choose_fabric(sparks(4)).nodes[0].env
    )


@pytest.mark.parametrize(
    ("twins", "hcas"),
    [
        pytest.param("auto", ("rocep1s0f1",), id="auto-one-half"),
        pytest.param("first", ("rocep1s0f1",), id="first"),
        pytest.param("both", ("rocep1s0f1", "roceP2p1s0f1"), id="both-as-set"),
    ],
)
def test_twins_in_one_subnet(twins: str, hcas: tuple[str, ...]) -> None:
    nodes = [node(f"spark-{i}", *link_local(i)) for i in (0, 1)]
    fabric = choose_fabric(nodes, FabricOptions(twins=twins))  # type: ignore[arg-type]
    assert fabric.nodes[1].hcas == hcas
    assert fabric.nodes[1].interface == "enp1s0f1np1"
    message = warnings(fabric)
    assert ("share a subnet" in message) == (twins != "first")
    assert ("ethernets.enP2p1s0f1np1={addresses: [192.168.101.11/24]" in message) == (
        twins != "first"
    )


def test_twins_in_overlapping_subnets_count_as_one() -> None:
    nodes = [
        node(f"s{i}", port(1, "A", f"10.0.0.{i}/16"), port(1, "B", f"10.0.5.{i}/24"))
        for i in (1, 2)
    ]
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].hcas == ("rocep1s0f1",)
    assert "share a subnet" in warnings(fabric)


def test_first_half_alone_where_it_is_set() -> None:
    fabric = choose_fabric(sparks(), FabricOptions(twins="first"))
    assert (fabric.nodes[0].hcas, fabric.findings) == (("rocep1s0f1",), ())


def test_halves_crossed_between_nodes_use_one_rail() -> None:
    one = node("s1", port(1, "A", "10.0.0.1/24"), port(1, "B", "10.0.1.1/24"))
    two = node("s2", port(1, "A", "10.0.1.2/24"), port(1, "B", "10.0.0.2/24"))
    fabric = choose_fabric([one, two])
    assert [len(n.hcas) for n in fabric.nodes] == [1, 1]
    assert "is not in one subnet with this half elsewhere" in warnings(fabric)


def test_twin_without_an_address_is_left_out() -> None:
    nodes = [node(f"s{i}", port(1, "A", f"10.0.0.{i}/24"), port(1, "B")) for i in (1, 2)]
    fabric = choose_fabric(nodes)
    assert fabric.nodes[0].hcas == ("rocep1s0f1",)
    assert "enP2p1s0f1np1 is Up but has no IPv4 address" in warnings(fabric)


def test_the_port_number_common_to_all_nodes_wins() -> None:
    both = [port(0, "A", "169.254.0.1/16"), port(1, "A", "169.254.0.2/16")]
    fabric = choose_fabric([node("s1", *both), node("s2", port(1, "A", "169.254.0.3/16"))])
    assert [n.address for n in fabric.nodes] == ["169.254.0.2", "169.254.0.3"]


def test_ports_cabled_at_different_numbers() -> None:
    one = node("s1", port(0, "A", "10.0.0.1/24"), port(0, "B", "10.0.1.1/24"))
    two = node("s2", port(1, "A", "10.0.0.2/24"), port(1, "B", "10.0.1.2/24"))
    fabric = choose_fabric([one, two])
    assert [n.interface for n in fabric.nodes] == ["enp1s0f0np0", "enp1s0f1np1"]
    assert fabric.nodes[1].hcas == ("rocep1s0f1", "roceP2p1s0f1")
    assert "QSFP port 0/1, both halves" in fabric.summary


def test_up_port_without_an_address() -> None:
    message = refused([sparks()[0], node("spark-2", port(1, "A"))])
    assert "spark-2: enp1s0f1np1 (rocep1s0f1) is Up but has no IPv4 address" in message
    assert "-> pyinfra -y INVENTORY deploys/network.py, or by hand sudo netplan set" in message
    assert "192.168.100.11/24" in message


def test_no_common_subnet_names_the_addresses() -> None:
    nodes = [node("s1", port(1, "A", "10.0.0.1/24")), node("s2", port(1, "A", "10.7.0.2/24"))]
    message = refused(nodes)
    assert "s1 10.0.0.1/24 (enp1s0f1np1); s2 10.7.0.2/24 (enp1s0f1np1)" in message


def ring() -> list[NodeFacts]:
    """Three nodes, each cable a subnet of its own: no subnet is common to all."""
    return [
        node(
            f"s{i + 1}",
            port(0, "A", f"10.0.{i}.1/24"),
            port(1, "A", f"10.0.{(i - 1) % 3}.2/24"),
            lan=f"192.168.1.{i + 1}/24",
        )
        for i in range(3)
    ]


def test_a_ring_is_refused_with_the_settings_that_make_it_work() -> None:
    assert "a ring of cables has no common subnet: set address" in refused(ring())


def test_a_ring_works_when_its_settings_are_given() -> None:
    hcas = "rocep1s0f0,rocep1s0f1"
    wish = NodeOverrides(nccl_ib_hca=hcas, nccl_socket_ifname="enP7s7")
    fabric = choose_fabric(ring(), by_node(s1=wish, s2=wish, s3=wish))
    assert fabric.nodes[2].address == "192.168.1.3"
    assert fabric.nodes[2].env["NCCL_IB_HCA"] == hcas
    assert fabric.nodes[2].env["NCCL_IB_SUBNET_AWARE_ROUTING"] == "1"
    # To leave them out would end in the refusal before.
    assert fabric.findings == ()


def test_a_needless_rendezvous_override_is_noted() -> None:
    wish = NodeOverrides(nccl_ib_hca="rocep1s0f1", nccl_socket_ifname="enP7s7")
    message = warnings(choose_fabric(sparks(), by_node(spark_1=wish, spark_2=wish)))
    assert "enP7s7, as set, is not a QSFP port: only the rendezvous uses it" in message
    assert "leave address and nccl_socket_ifname out, on all nodes" in message


def test_the_same_address_on_two_nodes() -> None:
    message = refused([node(f"s{i}", port(1, "A", "10.0.0.1/24")) for i in (1, 2)])
    assert "10.0.0.1 is on s1 (enp1s0f1np1) and on s2 (enp1s0f1np1)" in message
    assert message.count("10.0.0.1 is on") == 1


def test_a_chosen_address_that_another_node_holds_elsewhere() -> None:
    two = node("s2", port(1, "A", "10.0.0.2/24"), lan="10.0.0.1/8")
    assert "on s2 (enP7s7)" in refused([node("s1", port(1, "A", "10.0.0.1/24")), two])
    assert "on s2 (enP7s7)" in refused([two, node("s1", port(1, "A", "10.0.0.1/24"))])


def test_mtu_mismatch_names_each_node() -> None:
    message = refused([node("s1", *pair(0)), node("s2", *pair(1, mtu=1500))])
    assert "s1 enp1s0f1np1 has MTU 9000" in message
    assert "s2: the MTU must be the same on all nodes" in message
    assert "sudo ip link set dev enp1s0f1np1 mtu 9000" in message
    assert "\ns1: " not in message


def test_small_mtu_on_all_nodes_is_a_warning() -> None:
    fabric = choose_fabric([node(f"s{i}", *pair(i, mtu=1500)) for i in (0, 1)])
    assert "enp1s0f1np1 has MTU 1500: RDMA packets stay small" in warnings(fabric)


def test_a_rate_below_full_is_a_warning() -> None:
    fabric = choose_fabric([node("s0", *pair(0)), node("s1", *pair(1, rate=100.0))])
    assert "s1: rocep1s0f1 runs at 100 Gb/s, not 200" in warnings(fabric)


def test_rdma_on_wants_every_cabled_half_active() -> None:
    down = port(1, "B", "192.168.101.11/24", state="DOWN")
    nodes = [node("s1", *pair(0)), node("s2", pair(1)[0], down)]
    assert choose_fabric(nodes).nodes[0].hcas == ("rocep1s0f1",)
    assert "s2: rdma=on: roceP2p1s0f1 (enP2p1s0f1np1) is DOWN" in refused(
        nodes, FabricOptions(rdma="on")
    )


def test_tcp_over_the_qsfp_link() -> None:
    fabric = choose_fabric(sparks(), FabricOptions(rdma="off"))
    assert fabric.transport == "tcp"
    assert (fabric.nodes[0].interface, fabric.nodes[0].hcas) == ("enp1s0f1np1", ())
    assert fabric.nodes[0].env["NCCL_IB_DISABLE"] == "1"
    assert "NCCL_IB_HCA" not in fabric.nodes[0].env
    assert "10-20 times slower" in warnings(fabric)


@pytest.mark.parametrize(
    ("lans", "wifis", "interface"),
    [
        pytest.param(("10.0.0.1/24", "10.0.0.2/24"), ("", ""), "enP7s7", id="wired"),
        pytest.param(("", ""), ("10.9.0.1/24", "10.9.0.2/24"), "wlP9s9", id="only-wifi"),
        pytest.param(
            ("10.9.0.3/24", "10.9.0.4/24"), ("10.9.0.1/24", "10.9.0.2/24"), "enP7s7", id="both"
        ),
        pytest.param(
            ("10.8.0.3/24", "10.7.0.4/24"), ("10.9.0.1/24", "10.9.0.2/24"), "wlP9s9", id="apart"
        ),
    ],
)
def test_tcp_over_management(lans: list[str], wifis: list[str], interface: str) -> None:
    both = zip(lans, wifis, strict=True)
    nodes = [node(f"s{i}", lan=lan, wifi=wifi) for i, (lan, wifi) in enumerate(both)]
    fabric = choose_fabric(nodes, FabricOptions(rdma="off"))
    assert {n.interface for n in fabric.nodes} == {interface}
    assert "over the management network" in fabric.summary


def test_tcp_never_over_docker_or_loopback() -> None:
    message = refused([node("s1"), node("s2")], FabricOptions(rdma="off"))
    assert "s1: no interface with carrier and an IPv4 address leads to another node" in message


def test_explicit_settings_win_on_their_node() -> None:
    wish = NodeOverrides(nccl_ib_hca="roceP2p1s0f1", gloo_socket_ifname="enP7s7")
    fabric = choose_fabric(sparks(), by_node(spark_2=wish))
    assert [n.address for n in fabric.nodes] == ["192.168.101.10", "192.168.101.11"]
    assert [n.hcas for n in fabric.nodes] == [("roceP2p1s0f1",)] * 2
    assert fabric.nodes[1].env["GLOO_SOCKET_IFNAME"] == "enP7s7"
    assert fabric.nodes[0].env["GLOO_SOCKET_IFNAME"] == "enP2p1s0f1np1"


def test_explicit_address_may_be_a_secondary_one() -> None:
    one = node("s1", port(1, "A", "10.0.0.1/24", "10.5.0.1/24"))
    two = node("s2", port(1, "A", "10.5.0.2/24"))
    assert choose_fabric([one, two], by_node(s1=NodeOverrides(address="10.5.0.1"))).nodes[
        0
    ].address == ("10.5.0.1")


def test_nccl_list_syntax_is_kept() -> None:
    wish = NodeOverrides(nccl_ib_hca="=rocep1s0f1:1,roceP2p1s0f1:1")
    member = choose_fabric(sparks(), by_node(spark_1=wish)).nodes[0]
    assert member.env["NCCL_IB_HCA"] == "=rocep1s0f1:1,roceP2p1s0f1:1"
    assert member.hcas == ("rocep1s0f1", "roceP2p1s0f1")


def test_both_twins_named_in_one_subnet_still_warns() -> None:
    wish = NodeOverrides(nccl_ib_hca="rocep1s0f1,roceP2p1s0f1")
    nodes = [node(f"s{i}", *link_local(i)) for i in (0, 1)]
    fabric = choose_fabric(nodes, by_node(s0=wish, s1=wish))
    assert len(fabric.nodes[0].hcas) == 2
    assert "both carry traffic, as set" in warnings(fabric)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param(
            NodeOverrides(nccl_ib_hca="mlx5_0"),
            "nccl_ib_hca 'mlx5_0' does not exist here; available: roceP2p1s0f0, roceP2p1s0f1",
            id="hca",
        ),
        pytest.param(
            NodeOverrides(nccl_ib_hca="rocep1s0f0"),
            "nccl_ib_hca rocep1s0f0 is DOWN (Disabled), not ACTIVE",
            id="hca-down",
        ),
        pytest.param(
            NodeOverrides(nccl_socket_ifname="eth0"),
            "nccl_socket_ifname 'eth0' does not exist here; available: docker0, enP2p1s0f0np0",
            id="ifname",
        ),
        pytest.param(
            NodeOverrides(gloo_socket_ifname="enp1s0f1np1,eth1"),
            "gloo_socket_ifname 'eth1' does not exist here",
            id="gloo-ifname",
        ),
        pytest.param(
            NodeOverrides(nccl_socket_ifname="enp1s0f0np0"),
            "nccl_socket_ifname enp1s0f0np0 has no IPv4 address",
            id="ifname-without-address",
        ),
        pytest.param(
            NodeOverrides(address="10.3.3.3"),
            "address 10.3.3.3 is not on this node; available: 10.0.0.1, 10.9.0.1, 172.17.0.1",
            id="address",
        ),
        pytest.param(NodeOverrides(address="127.0.0.1"), "is not on this node", id="loopback"),
        pytest.param(NodeOverrides(address="fe80::1"), "is not an IPv4 address", id="ipv6"),
        pytest.param(
            NodeOverrides(address="10.0.0.1"),
            "no common subnet: spark-1 10.0.0.1/24",
            id="other-net",
        ),
    ],
)
def test_wrong_settings_are_refused(wish: NodeOverrides, expected: str) -> None:
    assert expected in refused(sparks(), by_node(spark_1=wish))


def test_a_management_network_in_the_subnet_of_a_half_is_warned_of() -> None:
    nodes = [node(f"spark-{i + 1}", *pair(i), lan=f"192.168.101.{50 + i}/24") for i in range(2)]
    message = warnings(choose_fabric(nodes))
    for name, lan, half in (("spark-1", 50, 10), ("spark-2", 51, 11)):
        assert (
            f"{name}: enP7s7 192.168.101.{lan}/24 and enP2p1s0f1np1 192.168.101.{half}/24 share"
        ) in message
    assert "192.168.101." not in message.rpartition("addresses: [")[2], "another subnet"
    assert "share a subnet" not in warnings(choose_fabric(sparks()))


def test_rendezvous_on_management_needs_its_hcas_named() -> None:
    wish = NodeOverrides(nccl_socket_ifname="enP7s7")
    message = refused(sparks(), by_node(spark_1=wish, spark_2=wish))
    assert "enP7s7, as set, is not an Up half of a QSFP port" in message


def test_a_refusal_too_does_not_depend_on_the_order_of_interfaces() -> None:
    """Found by hypothesis: the addresses were printed as the node listed them."""
    nodes = [node(f"s{i}", lan=f"10.{i}.0.1/24", wifi=f"10.{i}.9.1/24") for i in (1, 2)]
    turned = [replace(n, interfaces=n.interfaces[::-1]) for n in nodes]
    wishes = FabricOptions(rdma="off")
    assert "s1 10.1.0.1/24 (enP7s7), 10.1.9.1/24 (wlP9s9)" in refused(nodes, wishes)
    assert refused(nodes, wishes) == refused(turned, wishes)


def attempt(nodes: list[NodeFacts], wishes: FabricOptions) -> Fabric | tuple[object, ...]:
    try:
        return choose_fabric(nodes, wishes)
    except Refused as findings:
        return findings.findings


@settings(max_examples=100)
@given(any_nodes(), WISHES)
def test_any_cabling_gives_a_sound_fabric_or_a_cure(
    nodes: list[NodeFacts], wishes: FabricOptions
) -> None:
    try:
        fabric = choose_fabric(nodes, wishes)
    except Refused as findings:
        assert findings.findings
        assert all(f.what and f.cure and f.level is Level.ERROR for f in findings.findings)
        return
    assert [n.name for n in fabric.nodes] == [n.name for n in nodes]
    if len(nodes) > 1:
        sound(nodes, fabric, wishes)


def sound(nodes: list[NodeFacts], fabric: Fabric, wishes: FabricOptions) -> None:
    networks, addresses = set(), set()
    for facts, member in zip(nodes, fabric.nodes, strict=True):
        (held,) = (i for i in facts.interfaces if i.name == member.interface)
        address = IPv4Interface(held.ipv4[0])
        assert str(address.ip) == member.address
        assert held.up
        networks.add(address.network)
        addresses.add(address.ip)
        active = {p.hca for p in facts.rdma if p.up and p.interface.ipv4}
        assert set(member.hcas) <= active
        assert bool(member.hcas) == (wishes.rdma != "off")
        if wishes.rdma != "off":
            assert member.interface in {p.netdev for p in facts.rdma if p.hca in member.hcas}
    assert len(networks) == 1
    assert len(addresses) == len(nodes)
    assert len({len(n.hcas) for n in fabric.nodes}) == 1


@settings(max_examples=50)
@given(any_nodes(), WISHES, st.randoms(use_true_random=False))
def test_the_order_of_interfaces_never_matters(
    nodes: list[NodeFacts], wishes: FabricOptions, random: object
) -> None:
    def shuffled(items: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(random.sample(items, len(items)))  # type: ignore[attr-defined]

    other = [
        replace(n, rdma=shuffled(n.rdma), interfaces=shuffled(n.interfaces))  # type: ignore[arg-type]
        for n in nodes
    ]
    assert attempt(other, wishes) == attempt(nodes, wishes)
