"""Where each node could meet the others, and the best choice of one such seat on every node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from cluster.fabric.devices import below, carries, every_interface, vrf
from cluster.node.readings import Interface, NodeFacts, RdmaPort

# Interfaces that containers, virtual machines and tunnels make: no other node is behind them.
VIRTUAL = (
    *("lo", "docker", "br-", "veth", "virbr", "vnet", "lxc", "lxd", "cni", "flannel", "cali"),
    *("podman", "tun", "tap", "wg", "tailscale", "zt"),
)
WIRELESS = "wl"


@dataclass(frozen=True)
class Seat:
    """One interface of a node with one of its IPv4 addresses.

    + ports: the halves of QSFP ports that carry its traffic: itself, or those that a bond or a VLAN
      lies on; () off the QSFP ports
    """

    interface: Interface
    address: IPv4Interface
    ports: tuple[RdmaPort, ...] = ()

    @property
    def port(self) -> RdmaPort | None:
        """The half that stands for it; None off the QSFP ports."""
        return self.ports[0] if self.ports else None

    @property
    def upper(self) -> bool:
        """It is no half itself, but a device over one."""
        return bool(self.port) and self.interface.name != self.ports[0].netdev

    @property
    def network(self) -> IPv4Network:
        return self.address.network

    @property
    def number(self) -> int:
        """The QSFP port's number; -1 off the QSFP ports."""
        return self.port.qsfp if self.port else -1

    @property
    def half(self) -> str:
        return self.port.half if self.port else ""

    @property
    def wireless(self) -> bool:
        return self.interface.name.startswith(WIRELESS)

    @property
    def order(self) -> tuple[bool, bool, int, str, str]:
        """Sorts the better seat first: wired, a half itself, lower port, half A; then by name."""
        return self.wireless, self.upper, self.number, self.half, self.interface.name


Row = tuple[Seat, ...]


def primary(interface: Interface) -> IPv4Interface | None:
    """The first IPv4 address; the kernel lists secondary ones after it. Never IPv6."""
    return next((IPv4Interface(a) for a in interface.ipv4 if ":" not in a), None)


def halves(node: NodeFacts) -> list[RdmaPort]:
    """The node's halves of QSFP ports, in an order that does not depend on how they were listed."""
    return sorted(node.rdma, key=lambda p: (p.qsfp, p.half, p.hca))


def carrying(
    node: NodeFacts, interface: Interface, address: IPv4Interface, *, rdma: bool
) -> tuple[RdmaPort, ...]:
    """The halves that carry what goes to an address; with rdma, only those whose HCA does."""
    own = [p for p in halves(node) if p.netdev == interface.name]
    if own:
        return tuple(p for p in own if (p.up if rdma else p.interface.up))
    beneath = below(node, interface)
    lower = [p for p in halves(node) if p.netdev in beneath and p.interface.up]
    return tuple(p for p in lower if not rdma or carries(node, p, interface, str(address.ip)))


def qsfp_seats(node: NodeFacts, *, rdma: bool) -> list[Seat]:
    """Halves with carrier and an address, and what lies on them and has one; with rdma, only where
    an HCA carries it too.

    A half that belongs to a bond, a bridge or a VRF has no use for an address of its own here.
    """
    found = []
    for interface in every_interface(node):
        if not interface.up or interface.kind == "vrf" or vrf(node, interface):
            continue
        address = primary(interface)
        if address and not interface.master:
            ports = carrying(node, interface, address, rdma=rdma)
            found += [Seat(interface, address, ports)] if ports else []
    return sorted(found, key=lambda s: s.order)


def management_seats(node: NodeFacts) -> list[Seat]:
    """Interfaces beside the QSFP ports that could lead to another node."""
    fabric = {p.netdev for p in node.rdma}
    plain = [
        (i, address)
        for i in node.interfaces
        if i.up and i.name not in fabric and not i.master and i.kind != "vrf"
        if (address := primary(i)) and not i.name.startswith(VIRTUAL)
    ]
    found = (Seat(i, address) for i, address in plain if not below(node, i) & fabric)
    return sorted(found, key=lambda s: s.order)


def twin(node: NodeFacts, port: RdmaPort) -> RdmaPort | None:
    """The other half of the same QSFP port."""
    others = (p for p in halves(node) if p.qsfp == port.qsfp and p.half != port.half)
    return next(others, None)


def twin_row(nodes: Sequence[NodeFacts], row: Row) -> Row:
    """Every node's seat on the other half, Up and with an address; () where one node lacks it."""
    found = tuple(t for n, s in zip(nodes, row, strict=True) if (t := twin_seat(n, s)))
    return found if len(found) == len(row) else ()


def twin_seat(node: NodeFacts, seat: Seat) -> Seat | None:
    """The seat on the other half alone: for a VLAN rather a VLAN, for a half the half itself."""
    other = seat.port and twin(node, seat.port)
    if not other or other in seat.ports:
        return None
    there = [s for s in qsfp_seats(node, rdma=True) if s.ports == (other,)]
    return min(there, key=lambda s: (s.upper != seat.upper, s.order), default=None)


def separate(row: Row, twins: Row) -> bool:
    """Each half has one subnet of its own over all nodes, the same half on each node.

    Twins in one subnet (also in overlapping ones) answer ARP with each other's MAC; halves that
    are crossed between nodes pair NCCL's rails wrongly.
    """
    networks, others = {s.network for s in row}, {t.network for t in twins}
    one_each = len(networks) == len(others) == len({s.half for s in row}) == 1
    return one_each and not any(a.overlaps(b) for a in networks for b in others)


def rows(options: Sequence[Sequence[Seat]]) -> Iterator[Row]:
    """Every sensible row of seats in one subnet: by common port number, and each node's best."""
    for network in set.intersection(*({s.network for s in seats} for seats in options)):
        inside = [[s for s in seats if s.network == network] for seats in options]
        for number in set.intersection(*({s.number for s in seats} for seats in inside)):
            yield tuple(best([s for s in seats if s.number == number]) for seats in inside)
        yield tuple(best(seats) for seats in inside)


def best(seats: Sequence[Seat]) -> Seat:
    return min(seats, key=lambda s: s.order)


def meet(nodes: Sequence[NodeFacts], options: Sequence[Sequence[Seat]]) -> Row | None:
    """The best row of seats, one for each node, in one subnet; None where no subnet is common.

    Wired first, then one port number on all nodes, both halves usable, the higher rate, half A.
    """

    def cost(row: Row) -> tuple[object, ...]:
        twins = twin_row(nodes, row)
        return (
            sum(s.wireless for s in row),
            len({s.number for s in row}) > 1,
            not (twins and separate(row, twins)) and not all(len(s.ports) > 1 for s in row),
            sum(s.upper for s in row),
            -min((s.port.rate_gbps for s in row if s.port), default=0.0),
            sum(s.half == "B" for s in row),
            tuple(s.order for s in row),
            row[0].network,
        )

    return min(rows(options), key=cost, default=None)
