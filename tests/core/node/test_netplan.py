"""Addresses for both halves of the cabled port, and what speaks against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from samples import half, ran, spark, specs_of

from cluster.findings import Refused
from cluster.node.netplan import (
    FILE,
    Claim,
    Half,
    Halves,
    Setup,
    address_changes,
    assign,
    in_use,
    network_objections,
    ping_arguments,
    unanswered_pings,
)
from cluster.node.readings import Interface, NodeFacts, RdmaPort

NETWORKS = ("192.168.100.0/24", "192.168.101.0/24")
A, B = "enp1s0f1np1", "enP2p1s0f1np1"
USUAL = Setup(ssh="enP7s7", own="text\n")


def wanted(rank: int = 0, mtu: int = 9000) -> Halves:
    return (
        Half(A, f"192.168.100.{rank + 1}/24", mtu),
        Half(B, f"192.168.101.{rank + 1}/24", mtu),
    )


def given(nodes: list[NodeFacts], networks: tuple[str, ...] = NETWORKS, **hcas: str) -> Any:
    return assign(nodes, networks, 9000, {k.replace("_", "-"): v for k, v in hcas.items()})


def other_port(letter: str, up: bool) -> RdmaPort:
    """A half of the port that is not cabled in the samples."""
    p, domain = ("", "0000") if letter == "A" else ("P2", "0002")
    interface = Interface(f"en{p}p1s0f0np0", 9000, up)
    state = ("ACTIVE", "LinkUp") if up else ("DOWN", "Disabled")
    return RdmaPort(f"roce{p}p1s0f0", interface, f"{domain}:01:00.0", 0, letter, *state, 200.0)


def with_rdma(rank: int, *ports: RdmaPort) -> NodeFacts:
    node = spark(rank)
    interfaces = {i.name: i for i in (*node.interfaces, *(p.interface for p in ports))}
    return replace(node, rdma=ports, interfaces=tuple(interfaces.values()))


def down(port: RdmaPort) -> RdmaPort:
    return replace(port, state="DOWN", interface=replace(port.interface, up=False, ipv4=()))


def refusal(nodes: list[NodeFacts], networks: tuple[str, ...] = NETWORKS) -> str:
    with pytest.raises(Refused) as refused:
        given(nodes, networks)
    return str(refused.value)


# ---- addresses


def test_rank_n_has_address_n_plus_1_of_each_half_s_network() -> None:
    assert given([spark(0), spark(1), spark(2)]) == {f"spark-{r + 1}": wanted(r) for r in range(3)}


def test_halves_without_address_or_carrier_get_theirs() -> None:
    bare = replace(half("A", "1.1.1.1/24"), interface=Interface(A, 1500, True))
    nodes = [with_rdma(r, down(half("B", "1.1.1.1/24")), bare) for r in range(2)]
    assert given(nodes) == {"spark-1": wanted(0), "spark-2": wanted(1)}


def test_the_port_that_all_nodes_have_cabled_is_taken() -> None:
    both = [half(x, "1.1.1.1/24") for x in "AB"]
    first = with_rdma(0, *(other_port(x, up=True) for x in "AB"), *both)
    second = with_rdma(1, *(other_port(x, up=False) for x in "AB"), *both)
    assert [h.netdev for h in given([first, second])["spark-1"]] == [A, B]


def test_ports_may_differ_where_none_is_common() -> None:
    zero = with_rdma(1, *(other_port(x, up=True) for x in "AB"))
    assert [h.netdev for h in given([spark(0), zero])["spark-2"]] == [
        "enp1s0f0np0",
        "enP2p1s0f0np0",
    ]


def test_named_hcas_choose_the_port() -> None:
    every = [*(other_port(x, up=True) for x in "AB"), *(half(x, "1.1.1.1/24") for x in "AB")]
    nodes = [with_rdma(r, *every) for r in range(2)]
    assert given(nodes)["spark-1"][0].netdev == "enp1s0f0np0"
    named = given(nodes, spark_1="rocep1s0f1", spark_2="rocep1s0f1,roceP2p1s0f1")
    assert named == {"spark-1": wanted(0), "spark-2": wanted(1)}


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        pytest.param(NETWORKS[:1], "has 1 network(s), and the port has 2 halves", id="too few"),
        pytest.param(
            ("192.168.100.5/24", NETWORKS[1]),
            "192.168.100.5/24 has host bits set -> did you mean 192.168.100.0/24?",
            id="an address",
        ),
        pytest.param(
            ("192.168.100.0/23", NETWORKS[1]),
            "192.168.101.0/24 and 192.168.100.0/23 overlap",
            id="overlap",
        ),
        *[
            pytest.param(
                (f"192.168.100.0/{bits}", NETWORKS[1]),
                f"/{bits} has addresses for 0 nodes, there are 2",
                id=f"/{bits}",
            )
            for bits in (31, 32)
        ],
    ],
)  # fmt: skip
def test_networks_that_can_not_be(networks: tuple[str, ...], message: str) -> None:
    assert message in refusal([spark(0), spark(1)], networks)


def test_a_network_just_large_enough() -> None:
    small = ("192.168.100.0/30", "192.168.101.0/30")
    assert given([spark(0), spark(1)], small)["spark-2"][1].address == "192.168.101.2/30"
    assert "has addresses for 2 nodes, there are 3" in refusal([spark(i) for i in range(3)], small)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        pytest.param(replace(spark(1), rdma=()), "no RDMA port exists", id="no port"),
        pytest.param(
            with_rdma(1, *(down(half(x, "1.1.1.1/24")) for x in "AB")),
            "no QSFP port is Up: rocep1s0f1 (enp1s0f1np1) DOWN/LinkUp, no carrier",
            id="no cable",
        ),
        pytest.param(
            replace(spark(1), rdma=(), unread={"rdma": "no answer in time"}),
            "the RDMA ports could not be read: no answer in time",
            id="unread",
        ),
    ],
)
def test_a_node_without_cable(node: NodeFacts, message: str) -> None:
    assert f"spark-2: {message}" in refusal([spark(0), node])


# ---- objections


def objected(setup: Setup, node: NodeFacts | None = None, **more: Any) -> str:
    findings = network_objections(node or spark(0), setup, wanted(), **more)
    return "\n".join(map(str, findings))


def test_a_usual_spark_has_no_objections() -> None:
    routes = (("10.0.0.0/24", "enP7s7"), ("192.168.100.0/24", A), ("192.168.101.0/24", B))
    claims = (Claim("/etc/netplan/01.yaml", "enP7s7"), Claim("/etc/netplan/02.yaml", "wl*"))
    assert objected(replace(USUAL, routes=routes, claims=claims)) == ""


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        pytest.param(replace(USUAL, ssh=B), f"SSH comes in by {B}", id="SSH over a half"),
        pytest.param(replace(USUAL, ssh=""), "the interface that SSH uses is unknown", id="SSH?"),
        pytest.param(
            replace(USUAL, ssh="", by_ssh=False), "SSH uses is unknown", id="no SSH to a node"
        ),
        pytest.param(
            replace(USUAL, guarded=True), "an earlier run failed or is still going", id="guarded"
        ),
        pytest.param(replace(USUAL, netplan=False), "there is no netplan", id="netplan"),
        pytest.param(
            replace(USUAL, no_root="sudo: a password is required"),
            "cannot become root without a password: sudo: a password is required",
            id="sudo",
        ),
        pytest.param(
            replace(USUAL, routes=(("192.168.0.0/16", "enP7s7"),)),
            "192.168.100.0/24 overlaps with 192.168.0.0/16 of enP7s7",
            id="route",
        ),
        *[
            pytest.param(replace(USUAL, claims=(claim,)), f"/f already configures {names}", id=word)
            for claim, names, word in (
                (Claim("/f", A), A, "name"),
                (Claim("/f", "enp1*"), A, "glob"),
                (Claim("/f", "en*"), f"{B}, {A}", "glob of both"),
                (Claim("/f", "mlx5*", driver=True), f"{B}, {A}", "driver"),
            )
        ],
    ],
)
def test_objections_are_named(setup: Setup, message: str) -> None:
    assert message in objected(setup)


def test_a_claim_by_mac() -> None:
    named = replace(
        half("A", "1.1.1.1/24"), interface=Interface(A, 9000, True, "4c:bb:47:00:01:01")
    )
    node = with_rdma(0, named, half("B", "1.1.1.2/24"))
    claim = Claim("/etc/netplan/50.yaml", "4C:BB:47:00:01:01")
    assert f"50.yaml already configures {A}" in objected(replace(USUAL, claims=(claim,)), node)


def test_this_very_machine_needs_no_ssh() -> None:
    assert objected(replace(USUAL, ssh="", by_ssh=False), by_hand=True) == ""
    assert "SSH comes in" in objected(replace(USUAL, ssh=A), by_hand=True)


def test_another_interface_in_a_wanted_network() -> None:
    node = spark(0)
    lan = replace(node.interfaces[0], ipv4=("192.168.101.77/16",))
    node = replace(node, interfaces=(lan, *node.interfaces[1:]))
    message = objected(USUAL, node)
    assert "192.168.100.0/24 overlaps with 192.168.101.77/16 of enP7s7" in message
    assert "192.168.101.0/24 overlaps with" in message


def test_a_half_in_another_network_namespace() -> None:
    node = replace(spark(0), interfaces=spark(0).interfaces[:2])
    assert f"{B} is in another network namespace" in objected(USUAL, node)


def test_a_half_in_a_bond_is_left_alone() -> None:
    facts = spark(0)
    lower = replace(facts.rdma[0].interface, ipv4=(), master="bond0")
    bond = Interface("bond0", 9000, True, "", ("192.168.50.1/24",), "bond")
    others = [i for i in facts.interfaces if i.name != lower.name]
    bonded = replace(facts, interfaces=(*others, lower, bond))
    assert "enp1s0f1np1 belongs to bond0 (a bond): it gets no address" in objected(USUAL, bonded)


# ---- changes


def as_wanted(**changed: Any) -> NodeFacts:
    ports = [
        replace(half(x, h.address), interface=Interface(h.netdev, 9000, True, "", (h.address,)))
        for x, h in zip("AB", wanted(), strict=True)
    ]
    node = with_rdma(0, *ports)
    first = replace(ports[0].interface, **changed)
    return replace(node, interfaces=(node.interfaces[0], first, ports[1].interface))


@pytest.mark.parametrize(
    ("node", "own", "reasons"),
    [
        pytest.param(as_wanted(), "text\n", [], id="as wanted"),
        pytest.param(as_wanted(), "text", [], id="no newline at the end"),
        pytest.param(as_wanted(), None, [f"{FILE} is not there"], id="no file"),
        pytest.param(as_wanted(), "text\nmore", [f"{FILE} differs"], id="edited"),
        pytest.param(
            as_wanted(mtu=1500), "text", [f"{A}: MTU 1500 -> 9000"], id="MTU"
        ),
        pytest.param(
            as_wanted(ipv4=()), "text", [f"{A}: no address -> 192.168.100.1/24"], id="no address"
        ),
        pytest.param(
            as_wanted(ipv4=("169.254.1.1/16", "192.168.100.1/24")),
            "text",
            [f"{A}: 169.254.1.1/16 -> 192.168.100.1/24"],
            id="another comes first",
        ),
        pytest.param(
            as_wanted(ipv4=("192.168.100.1/24", "169.254.1.1/16")), "text", [], id="a further one"
        ),
    ],
)  # fmt: skip
def test_reasons_for_address_changes(node: NodeFacts, own: str | None, reasons: list[str]) -> None:
    assert list(address_changes(node, replace(USUAL, own=own), wanted(), "text\n")) == reasons


def test_ranks_that_run_keep_their_addresses() -> None:
    spec = next(iter(specs_of().values()))
    node = replace(spark(0), ranks=(ran(spec), ran(spec, label=None), ran(spec, status="exited")))
    assert [f.what for f in in_use([node, spark(1)])] == [
        "sglang-head is running, and its addresses would change"
    ]
    unread = replace(spark(0), unread={"ranks": "no answer in time"})
    assert "could not be read: no answer in time" in str(*in_use([unread]))


# ---- the proof


def test_every_half_pings_its_own_subnet() -> None:
    network = {f"spark-{r + 1}": wanted(r) for r in range(3)}
    words = ping_arguments(network, "spark-2")
    assert [words[i : i + 3] for i in range(0, len(words), 3)] == [
        (A, "192.168.100.1", "9000"),
        (B, "192.168.101.1", "9000"),
        (A, "192.168.100.3", "9000"),
        (B, "192.168.101.3", "9000"),
    ]
    (finding,) = unanswered_pings(network, "spark-2", [f"{B} 192.168.101.3 9000"])
    assert str(finding) == (
        f"spark-2: 192.168.101.3 (spark-3 {B}) does not answer a ping of 8972 bytes from {B}"
        f" -> ping -M do -s 8972 -I {B} 192.168.101.3, and look at cable, switch and its MTU"
    )
