"""What is wrong with a fabric, and how to mend it: refusals first, then warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.fabric import cures
from cluster.fabric.seats import Row, Seat, halves, primary, twin
from cluster.fabric.wishes import FabricWishes, every_interface
from cluster.findings import Finding, error, warning
from cluster.node import Interface, NodeFacts, RdmaPort

JUMBO = 9000
"""MTU that gives RoCE its 4096-byte packets; at 1500 the HCA's active_mtu is 1024."""
FULL_RATE = 200.0
"""Gb/s that a Spark's QSFP port negotiates with a good cable."""

BY_HAND = "address, nccl_socket_ifname and nccl_ib_hca of each node in the inventory"


def no_seat(rank: int, node: NodeFacts, hcas: Sequence[str]) -> Finding:
    """A node without an Up half that has an address; `hcas` are those that its settings name."""
    bare = [p for p in halves(node) if p.up and (p.hca in hcas or not hcas)]
    if bare:
        what = f"{bare[0].netdev} ({bare[0].hca}) is Up but has no IPv4 address"
        return error(what, node.name, cures.give_address(bare[0], rank))
    tcp = "or serve over TCP with `--data rdma=off`"
    if unread := node.unread.get("rdma") or node.unread.get("interfaces"):
        return error(f"the RDMA ports could not be read: {unread}", node.name, tcp)
    if not node.rdma:
        return error("there is no RDMA port", node.name, f"`ls /sys/class/infiniband`, {tcp}")
    states = ", ".join(state(p) for p in halves(node))
    cure = f"plug the QSFP cable in at both ends and look at `ibdev2netdev`, {tcp}"
    return error(f"no QSFP port is Up: {states}", node.name, cure)


def state(port: RdmaPort) -> str:
    carrier = "" if port.interface.up else ", no carrier"
    return f"{port.hca} ({port.netdev}) {port.state}/{port.phys_state}{carrier}"


def apart(nodes: Sequence[NodeFacts], options: Sequence[Sequence[Seat]]) -> Finding:
    """No subnet reaches all nodes: also a ring, whose every cable is a subnet of its own."""
    seen = "; ".join(f"{n.name} {listed(s)}" for n, s in zip(nodes, options, strict=True))
    last, rank = nodes[-1].name, len(nodes) - 1
    commands = (cures.give_address(s.port, rank) for s in options[-1] if s.port)
    cure = f"on {last}: {next(commands, 'ip -4 addr')}"
    ring = f"; a ring of cables has no common subnet: set {BY_HAND}" if len(nodes) > 2 else ""
    return error(f"the nodes' addresses are in no common subnet: {seen}", "", f"{cure}{ring}")


def listed(seats: Sequence[Seat]) -> str:
    return ", ".join(f"{s.address} ({s.interface.name})" for s in seats) or "none"


def no_tcp_seat(node: NodeFacts) -> Finding:
    what = "no interface with carrier and an IPv4 address leads to another node"
    return error(what, node.name, f"`ip -4 addr`; or set {BY_HAND}")


def no_hca(node: NodeFacts, interface: str) -> Finding:
    """A rendezvous off the QSFP ports, or on one that is down, says nothing about the HCA."""
    what = f"{interface}, as set, is not an Up half of a QSFP port, so no HCA is known"
    return error(what, node.name, f"set nccl_ib_hca of {node.name} too, or `--data rdma=off`")


Held = frozenset[tuple[str, str]]
"""Addresses with their interface: ("192.168.100.10", "enp1s0f1np1")."""


def same_addresses(nodes: Sequence[NodeFacts], chosen: Sequence[Held]) -> Iterator[Finding]:
    """A chosen address that another node holds as well, on whatever interface."""
    for i, node in enumerate(nodes):
        for j, other in enumerate(nodes):
            for ip, name in sorted(chosen[i]):
                for clash in sorted(n for held, n in chosen[j] | holds(other) if held == ip):
                    if i < j or (i > j and (ip, clash) not in chosen[j]):
                        what = f"{ip} is on {node.name} ({name}) and on {other.name} ({clash})"
                        yield error(what, other.name, f"give {clash} another address: ip -4 addr")


def holds(node: NodeFacts) -> Held:
    up = (i for i in every_interface(node) if i.up)
    return frozenset((a.partition("/")[0], i.name) for i in up for a in i.ipv4)


def mtu_mismatch(
    nodes: Sequence[NodeFacts], used: Sequence[Sequence[Interface]], target: int
) -> Iterator[Finding]:
    """Interfaces that should carry the same frames, and do not."""
    seen = {(n.name, i.name): i.mtu for n, mine in zip(nodes, used, strict=True) for i in mine}
    if len(set(seen.values())) < 2:
        return
    what = "; ".join(f"{node} {name} has MTU {mtu}" for (node, name), mtu in sorted(seen.items()))
    for (node, name), mtu in sorted(seen.items()):
        if mtu != target:
            yield error(
                f"the MTU must be one on all nodes: {what}", node, cures.set_mtu(name, target)
            )


def inactive(nodes: Sequence[NodeFacts], row: Row) -> Iterator[Finding]:
    """Halves of the chosen port that have carrier but no active HCA: rdma=on wants them all."""
    for node, seat in zip(nodes, row, strict=True):
        other = seat.port and twin(node, seat.port)
        if other and other.interface.up and not other.up:
            what = f"rdma=on: {other.hca} ({other.netdev}) is {other.state}, not ACTIVE"
            yield error(what, node.name, "`rdma link`; or `--data rdma=auto` to go on without it")


def half_warnings(
    nodes: Sequence[NodeFacts], row: Row, twins: Row, wishes: FabricWishes
) -> Iterator[Finding]:
    """Why only one half of the port works, or why both may not, unless one half was asked for."""
    for rank, (node, seat) in enumerate(zip(nodes, row, strict=True)):
        other, named = seat.port and twin(node, seat.port), wishes.of(node).hcas
        if not other:
            continue
        one = other.hca not in named if named else wishes.twins == "first" and seat.half == "A"
        if not one:
            yield from half_warning(rank, node, seat, other, bool(twins) or other.hca in named)


def half_warning(
    rank: int, node: NodeFacts, seat: Seat, other: RdmaPort, both: bool
) -> Iterator[Finding]:
    carrying, address = f"{seat.interface.name} alone carries the traffic", primary(other.interface)
    if not other.up:
        what = f"only half {seat.half} of QSFP port {seat.number} is Up: {carrying}, at half rate"
        yield warning(what, node.name, cures.bring_up(other))
    elif not address:
        what = f"{other.netdev} is Up but has no IPv4 address: {carrying}, at half rate"
        yield warning(what, node.name, cures.give_address(other, rank))
    elif address.network.overlaps(seat.network):
        which = "both carry traffic, as set" if both else f"{carrying}, at half rate"
        names = f"{seat.interface.name} {seat.address} and {other.netdev} {address}"
        what = f"the halves of QSFP port {seat.number} share a subnet ({names}): {which}"
        yield warning(what, node.name, cures.give_address(b_of(seat.port, other), rank))
    elif not both:
        what = f"{other.netdev} {address} shares no subnet with all other nodes' half: {carrying}"
        yield warning(what, node.name, cures.give_address(other, rank))


def b_of(*ports: RdmaPort | None) -> RdmaPort:
    """The half to move to another subnet: B, which is not the rendezvous."""
    return max((p for p in ports if p), key=lambda p: p.half)


def management_warnings(nodes: Sequence[NodeFacts], row: Row) -> Iterator[Finding]:
    for node, seat in zip(nodes, row, strict=True):
        if not seat.port:
            what = f"{seat.interface.name}, as set, is no QSFP port: only the rendezvous uses it"
            yield warning(what, node.name, "leave address and nccl_socket_ifname out")


def link_warnings(
    nodes: Sequence[NodeFacts], ports: Sequence[Sequence[RdmaPort]]
) -> Iterator[Finding]:
    """Halves that carry traffic below their rate, or in small frames."""
    for node, mine in zip(nodes, ports, strict=True):
        for port in mine:
            if port.rate_gbps < FULL_RATE:
                what = f"{port.hca} runs at {port.rate_gbps:g} Gb/s, not {FULL_RATE:g}"
                cure = f"reseat or replace the cable; `sudo ethtool {port.netdev}` shows its speed"
                yield warning(what, node.name, cure)
            if port.interface.mtu < JUMBO:
                what = f"{port.netdev} has MTU {port.interface.mtu}: RDMA packets stay small"
                yield warning(what, node.name, cures.set_mtu(port.netdev, JUMBO))


def slow(names: str) -> Finding:
    what = f"rdma=off: NCCL runs over TCP on {names}, 10-20 times slower than RDMA"
    return warning(what, "", "leave rdma out, or `--data rdma=auto`, to use the HCAs")
