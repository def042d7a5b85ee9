"""How each node is attached to networks, and the best rendezvous: one attachment per node."""

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
class Attachment:
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
        """Sorts better attachments first: wired, a half itself, lower port, half A, by name."""
        return self.wireless, self.upper, self.number, self.half, self.interface.name


Attachments = tuple[Attachment, ...]
"""One for each node, in rank order."""


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


def qsfp_attachments(node: NodeFacts, *, rdma: bool) -> list[Attachment]:
    """Halves with carrier and an address, and devices on top of halves that have one; with rdma,
    only those whose traffic an HCA carries.

    A half that belongs to a bond, a bridge or a VRF has no use for an address of its own here.
    """
    attachments = []
    for interface in every_interface(node):
        if not interface.up or interface.kind == "vrf" or vrf(node, interface):
            continue
        address = primary(interface)
        if address and not interface.master:
            ports = carrying(node, interface, address, rdma=rdma)
            attachments += [Attachment(interface, address, ports)] if ports else []
    return sorted(attachments, key=lambda s: s.order)


def management_attachments(node: NodeFacts) -> list[Attachment]:
    """Interfaces beside the QSFP ports that could lead to another node."""
    fabric = {p.netdev for p in node.rdma}
    plain = [
        (i, address)
        for i in node.interfaces
        if i.up and i.name not in fabric and not i.master and i.kind != "vrf"
        if (address := primary(i)) and not i.name.startswith(VIRTUAL)
    ]
    attachments = (Attachment(i, address) for i, address in plain if not below(node, i) & fabric)
    return sorted(attachments, key=lambda s: s.order)


def twin(node: NodeFacts, port: RdmaPort) -> RdmaPort | None:
    """The other half of the same QSFP port."""
    others = (p for p in halves(node) if p.qsfp == port.qsfp and p.half != port.half)
    return next(others, None)


def twin_attachments(nodes: Sequence[NodeFacts], rendezvous: Attachments) -> Attachments:
    """Every node's attachment on the other half, Up and with an address; () if one lacks it."""
    twins = tuple(t for n, s in zip(nodes, rendezvous, strict=True) if (t := twin_attachment(n, s)))
    return twins if len(twins) == len(rendezvous) else ()


def twin_attachment(node: NodeFacts, attachment: Attachment) -> Attachment | None:
    """The attachment on the other half alone: preferably a VLAN for a VLAN, a half for a half."""
    other = attachment.port and twin(node, attachment.port)
    if not other or other in attachment.ports:
        return None
    there = [s for s in qsfp_attachments(node, rdma=True) if s.ports == (other,)]
    return min(there, key=lambda s: (s.upper != attachment.upper, s.order), default=None)


def separate(rendezvous: Attachments, twins: Attachments) -> bool:
    """Whether each half has one subnet of its own over all nodes, the same half on each node.

    Twins in one subnet (also in overlapping ones) answer ARP with each other's MAC; halves that
    are crossed between nodes pair NCCL's rails wrongly.
    """
    networks, others = {s.network for s in rendezvous}, {t.network for t in twins}
    one_each = len(networks) == len(others) == len({s.half for s in rendezvous}) == 1
    return one_each and not any(a.overlaps(b) for a in networks for b in others)


def rendezvous_options(candidates: Sequence[Sequence[Attachment]]) -> Iterator[Attachments]:
    """Sensible rendezvous in one subnet: for each port number that all nodes share, and each
    node's best."""

    def best(attachments: Sequence[Attachment]) -> Attachment:
        return min(attachments, key=lambda s: s.order)

    for network in set.intersection(*({s.network for s in mine} for mine in candidates)):
        inside = [[s for s in mine if s.network == network] for mine in candidates]
        for number in set.intersection(*({s.number for s in mine} for mine in inside)):
            yield tuple(best([s for s in mine if s.number == number]) for mine in inside)
        yield tuple(best(mine) for mine in inside)


def best_rendezvous(
    nodes: Sequence[NodeFacts], candidates: Sequence[Sequence[Attachment]]
) -> Attachments | None:
    """One attachment for each node, all in one subnet; None if the nodes share no subnet.

    Best: wired, then one port number on all nodes, both halves usable, the higher rate, half A.
    """

    def cost(rendezvous: Attachments) -> tuple[object, ...]:
        twins = twin_attachments(nodes, rendezvous)
        return (
            sum(s.wireless for s in rendezvous),
            len({s.number for s in rendezvous}) > 1,
            not (twins and separate(rendezvous, twins))
            and not all(len(s.ports) > 1 for s in rendezvous),
            sum(s.upper for s in rendezvous),
            -min((s.port.rate_gbps for s in rendezvous if s.port), default=0.0),
            sum(s.half == "B" for s in rendezvous),
            tuple(s.order for s in rendezvous),
            rendezvous[0].network,
        )

    return min(rendezvous_options(candidates), key=cost, default=None)
