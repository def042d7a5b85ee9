"""A cure mends: no warning's leads to a refusal, and refusals' lead to a fabric.

`mended` does to a made-up cluster what a cure says, as a reader of it would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fabric_samples import IPV4, NETDEV, WISHES, any_nodes, node, port
from hypothesis import given, settings, strategies as st

from cluster.fabric import FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Finding, Refused
from cluster.node.readings import Interface, NodeFacts, RdmaPort

Cluster = tuple[list[NodeFacts], FabricOptions]


@st.composite
def wished(draw: st.DrawFn) -> Cluster:
    """Any cabling, with a bond or a VLAN here and there, and any settings for some nodes."""
    bare = draw(st.one_of(any_nodes(), careful_nodes(), careful_nodes()))
    nodes = [draw(with_device(n)) for n in bare]
    wishes: FabricOptions = draw(WISHES)
    by_node = {n.name: draw(wishes_of(n)) for n in nodes if draw(st.integers(0, 3)) == 0}
    return nodes, replace(wishes, by_node=by_node)


@st.composite
def careful_nodes(draw: st.DrawFn) -> list[NodeFacts]:
    """Nodes that meet over port 1, with links, frames and twins that could be better."""
    mtu = draw(st.sampled_from([1500, 9000]))
    return [
        node(
            f"s{rank}",
            port(1, "A", f"192.168.100.{rank + 10}/24", mtu=mtu, rate=draw(RATE)),
            port(1, "B", *draw(twin_address(rank)), mtu=mtu, rate=draw(RATE), up=draw(UP)),
            lan=f"10.0.0.{rank + 1}/24",
        )
        for rank in range(draw(st.integers(2, 4)))
    ]


RATE, UP = st.sampled_from([100.0, 200.0]), st.sampled_from([True, True, False])


def twin_address(rank: int) -> st.SearchStrategy[tuple[str, ...]]:
    last = rank + 110
    held = [(), (f"192.168.100.{last}/24",), (f"192.168.{101 + rank}.{last}/24",)]
    return st.sampled_from([(f"192.168.101.{last}/24",), *held])


@st.composite
def with_device(draw: st.DrawFn, bare: NodeFacts) -> NodeFacts:
    kind = draw(st.sampled_from(["", "", "", "bond", "vlan", "bridge", "macvlan"]))
    if not kind:
        return bare
    halves = [p for p in bare.rdma if p.qsfp == 1 and p.interface.up]
    member = kind in ("bond", "bridge")
    link = "" if member or not halves else halves[0].netdev
    device = Interface("over0", 9000, True, "", draw(IPV4), kind, link=link)
    if not member:
        return replace(bare, interfaces=(*bare.interfaces, device))
    facts = bare
    for half in halves:
        facts = changed(facts, half.netdev, lambda i: replace(i, ipv4=(), master="over0"))
    return replace(facts, interfaces=(*facts.interfaces, device))


@st.composite
def wishes_of(draw: st.DrawFn, facts: NodeFacts) -> NodeOverrides:
    names = [i.name for i in facts.interfaces]
    addresses = [a.partition("/")[0] for i in facts.interfaces for a in i.ipv4]
    hcas = draw(st.lists(st.sampled_from([p.hca for p in facts.rdma]), max_size=2, unique=True))
    some = st.sampled_from
    return NodeOverrides(
        address=draw(some(["", "", "", *addresses, "10.250.0.1"])),
        nccl_ib_hca=draw(some(["", "", "", ",".join(hcas), "mlx5_0"])),
        nccl_socket_ifname=draw(some(["", "", "", "", *names, "eth9"])),
        env=draw(
            some([{}, {}, {}, {}, {"NCCL_IB_HCA": "rocep1s0f1"}, {"NCCL_SOCKET_IFNAME": "eth0"}])
        ),
    )


def changed(facts: NodeFacts, netdev: str, how: Callable[[Interface], Interface]) -> NodeFacts:
    """The node with one interface changed, also where it stands under an HCA."""
    ports = (
        replace(p, interface=how(p.interface)) if p.netdev == netdev else p for p in facts.rdma
    )
    others = (how(i) if i.name == netdev else i for i in facts.interfaces)
    return replace(facts, rdma=tuple(ports), interfaces=tuple(others))


def plugged(facts: NodeFacts, netdev: str) -> NodeFacts:
    def active(port: RdmaPort) -> RdmaPort:
        return replace(port, state="ACTIVE", phys_state="LinkUp")

    up = changed(facts, netdev, lambda i: replace(i, up=True))
    return replace(up, rdma=tuple(active(p) if p.netdev == netdev else p for p in up.rdma))


def with_wish(cluster: Cluster, name: str, **fields: object) -> Cluster:
    nodes, wishes = cluster
    mine = replace(wishes.by_node.get(name, NodeOverrides()), **fields)  # type: ignore[arg-type]
    return nodes, replace(wishes, by_node={**wishes.by_node, name: mine})


def mended(cluster: Cluster, finding: Finding) -> Cluster:
    """The cluster after the cure of one finding."""
    nodes, wishes = cluster
    cure, where = finding.cure, finding.where
    at = [i for i, n in enumerate(nodes) if n.name == where]
    if match := re.search(r"remove (\w+) from env", cure):
        env = {k: v for k, v in wishes.of(nodes[at[0]]).env.items() if k != match[1]}
        cluster = with_wish(cluster, where, env=env)
        if own := re.search(r"set (nccl_\w+) = '(\S+)' of", cure):
            cluster = with_wish(cluster, where, **{own[1]: own[2]})
        return cluster
    if match := re.search(r"set (\w+) of \S+ to one of these, or leave it out", cure):
        return with_wish(cluster, where, **{match[1]: ""})
    if "leave address and nccl_socket_ifname out, on all nodes" in cure:
        for facts in nodes:
            cluster = with_wish(cluster, facts.name, address="", nccl_socket_ifname="")
        return cluster
    if match := re.search(r"nccl_socket_ifname = '(\S+)' of", cure):
        return with_wish(cluster, where, nccl_socket_ifname=match[1])
    if match := re.search(r"rdma=(auto|off)", cure):
        return nodes, replace(wishes, rdma=match[1])  # type: ignore[arg-type]
    if match := re.search(r"give (\S+) another address", cure):
        return renumbered(cluster, at[0], match[1])
    for name in re.findall(r"on (\S+): take [^;]+ out, or name one in", cure):
        own = {"address": "", "nccl_socket_ifname": "", "nccl_ib_hca": "", "env": {}}
        cluster = with_wish(cluster, name, **own)
    commands = re.findall(r"on (\S+): (pyinfra .*?)(?=; on |; a ring|$)", cure)
    for name, command in commands:
        there = [i for i, n in enumerate(nodes) if n.name == name]
        cluster = with_nodes(cluster, there, command)
    return cluster if commands and where else with_nodes(cluster, at, cure)


def renumbered(cluster: Cluster, at: int, netdev: str) -> Cluster:
    """Another address in the same subnet, that no other node has."""
    nodes, wishes = cluster
    held = {a.partition("/")[0] for n in nodes for i in n.interfaces for a in i.ipv4}

    def other(address: str) -> str:
        ip, _, bits = address.partition("/")
        start = ip.rpartition(".")[0]
        free = next(f"{start}.{n}" for n in range(1, 255) if f"{start}.{n}" not in held)
        return f"{free}/{bits}"

    def moved(interface: Interface) -> Interface:
        return replace(interface, ipv4=tuple(map(other, interface.ipv4[:1])))

    facts = changed(nodes[at], netdev, moved)
    return [*nodes[:at], facts, *nodes[at + 1 :]], wishes


def with_nodes(cluster: Cluster, at: list[int], cure: str) -> Cluster:
    nodes, wishes = cluster
    given_address = re.search(r"ethernets\.(\S+?)=\{addresses: \[(\S+?)\].* mtu: (\d+)\}", cure)
    for i in at:
        facts = nodes[i]
        if given_address:
            name, address, mtu = given_address.groups()
            with_it = {"ipv4": (address,), "mtu": int(mtu)}
            facts = changed(facts, name, lambda f, new=with_it: replace(f, **new))
        for name, mtu in re.findall(r"sudo ip link set dev (\S+) mtu (\d+)", cure):
            facts = changed(facts, name, lambda f, m=mtu: replace(f, mtu=int(m)))
        for name in re.findall(
            r"sudo ip link set dev (\S+) up|plug its cable in: ip link show dev (\w+)", cure
        ):
            facts = plugged(facts, "".join(name))
        for name in re.findall(r"ethtool (\S+)`", cure):
            ports = (replace(p, rate_gbps=200.0) if p.netdev == name else p for p in facts.rdma)
            facts = replace(facts, rdma=tuple(ports))
        nodes = [*nodes[:i], facts, *nodes[i + 1 :]]
    if "on all nodes at once" in cure:
        nodes = [jumbo(node_facts) for node_facts in nodes]
    return nodes, wishes


def jumbo(facts: NodeFacts) -> NodeFacts:
    for netdev in [i.name for i in facts.interfaces if i.name in QSFP or i.kind]:
        facts = changed(facts, netdev, lambda f: replace(f, mtu=9000))
    return facts


QSFP = {names[0] for names in NETDEV.values()}


def refusal(cluster: Cluster) -> tuple[Finding, ...]:
    try:
        choose_fabric(*cluster)
    except Refused as refused:
        return refused.findings
    return ()


def text_of(findings: Iterable[Finding]) -> str:
    return "\n".join(map(str, findings))


def held_twice(nodes: Sequence[NodeFacts]) -> bool:
    """Whether an address off the machine's own bridges is on more than one interface."""
    held = [a.partition("/")[0] for n in nodes for i in n.interfaces for a in i.ipv4]
    shared = {a for a in held if held.count(a) > 1}
    return any(not a.startswith(("127.", "172.")) for a in shared)


@settings(max_examples=60)
@given(wished())
def test_no_warning_s_cure_leads_to_a_refusal(cluster: Cluster) -> None:
    # A cable that is not plugged in hides an address that two interfaces have.
    if refusal(cluster) or held_twice(cluster[0]):
        return
    for finding in choose_fabric(*cluster).findings:
        after = mended(cluster, finding)
        assert text_of(refusal(after)) == "", f"the cure of: {finding}"


@settings(max_examples=60)
@given(wished())
def test_following_the_suggested_fixes_gives_a_fabric(cluster: Cluster) -> None:
    """Round by round, as far as they are commands and not questions ("ip -4 addr")."""
    if held_twice(cluster[0]) and any(w.explicit for w in cluster[1].effective.by_node.values()):
        return  # nobody can tell which of the two a setting means
    rounds = []
    for _ in range(12):
        findings = refusal(cluster)
        if not findings or any(QUESTION.search(f.cure) for f in findings):
            return
        rounds.append(text_of(findings))
        after = cluster
        for finding in findings:
            after = mended(after, finding)
        assert after != cluster, text_of(findings)
        cluster = after
    raise AssertionError("round and round:\n" + "\n".join(rounds[-3:]))


QUESTION = re.compile(r"ip -4 addr|where it is configured|netns")
