"""What the inventory says about the fabric, and whether each node has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from cluster.fabric.seats import Seat, primary
from cluster.findings import Finding, error
from cluster.node import Interface, NodeFacts


@dataclass(frozen=True)
class NodeWishes:
    """One node's explicit settings; "" leaves the choice to us.

    + address: IPv4 address to meet the others at
    + nccl_ib_hca: HCAs, comma between ("rocep1s0f1,roceP2p1s0f1"; NCCL's "=" and ":1" allowed)
    + nccl_socket_ifname, gloo_socket_ifname: interfaces, comma between
    """

    address: str = ""
    nccl_ib_hca: str = ""
    nccl_socket_ifname: str = ""
    gloo_socket_ifname: str = ""

    @property
    def hcas(self) -> tuple[str, ...]:
        return tuple(word.partition(":")[0] for word in words(self.nccl_ib_hca))

    @property
    def ifnames(self) -> tuple[str, ...]:
        return words(self.nccl_socket_ifname)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Settings that name interfaces, with the names."""
        gloo = words(self.gloo_socket_ifname)
        return {"nccl_socket_ifname": self.ifnames, "gloo_socket_ifname": gloo}


@dataclass(frozen=True)
class FabricWishes:
    """What the inventory wants of the fabric.

    + rdma: "auto" takes what is active; "on" also refuses a cabled half whose HCA is not active;
      "off" is TCP
    + twins: both halves of the port ("both"), one ("first"), or both where that is safe ("auto")
    + by_node: explicit settings by node name; they win over any choice
    """

    rdma: Literal["auto", "on", "off"] = "auto"
    twins: Literal["auto", "both", "first"] = "auto"
    by_node: Mapping[str, NodeWishes] = field(default_factory=dict)

    def of(self, node: NodeFacts) -> NodeWishes:
        return self.by_node.get(node.name, NodeWishes())


def words(value: str) -> tuple[str, ...]:
    """The names of an NCCL list; its leading "=" (exact match) is how we read every name."""
    return tuple(w for w in value.removeprefix("=").replace(" ", "").split(",") if w)


def wrong_wishes(node: NodeFacts, wish: NodeWishes, *, rdma: bool) -> Iterator[Finding]:
    """Explicit settings that this node cannot fulfil."""
    interfaces = {i.name: i for i in every_interface(node)}
    for setting, names in wish.names.items():
        yield from (unknown(node, setting, n, interfaces) for n in names if n not in interfaces)
    if rdma:
        yield from wrong_hcas(node, wish)
    if wish.address:
        yield from wrong_address(node, wish.address)
    elif wish.ifnames and (first := interfaces.get(wish.ifnames[0])) and not primary(first):
        what = f"nccl_socket_ifname {first.name} has no IPv4 address"
        yield error(what, node.name, f"ip -4 addr show dev {first.name}")


def wrong_hcas(node: NodeFacts, wish: NodeWishes) -> Iterator[Finding]:
    ports = {p.hca: p for p in node.rdma}
    for hca in wish.hcas:
        if hca not in ports:
            yield unknown(node, "nccl_ib_hca", hca, ports)
        elif not ports[hca].up:
            what = f"nccl_ib_hca {hca} is {ports[hca].state} ({ports[hca].phys_state}), not ACTIVE"
            yield error(what, node.name, f"plug its cable in: ip link show dev {ports[hca].netdev}")


def unknown(node: NodeFacts, setting: str, value: str, known: Mapping[str, object]) -> Finding:
    what = f"{setting} {value!r} does not exist here; there is {', '.join(sorted(known)) or 'none'}"
    return error(what, node.name, f"set {setting} of {node.name} to one of these, or leave it out")


def wrong_address(node: NodeFacts, wanted: str) -> Iterator[Finding]:
    cure = f"set address of {node.name} to one of these, or leave it out"
    here = [a for i in every_interface(node) for a in i.ipv4 if not a.startswith("127.")]
    held = sorted(a.partition("/")[0] for a in here)
    if not is_ipv4(wanted):
        yield error(f"address {wanted!r} is not an IPv4 address", node.name, "ip -4 addr")
    elif wanted not in held:
        what = f"address {wanted} is not on this node; there is {', '.join(held) or 'none'}"
        yield error(what, node.name, cure)


def is_ipv4(text: str) -> bool:
    try:
        return bool(IPv4Address(text))
    except ValueError:
        return False


def every_interface(node: NodeFacts) -> list[Interface]:
    """The node's interfaces by name, those under HCAs among them."""
    found = {i.name: i for i in (*node.interfaces, *(p.interface for p in node.rdma))}
    return [found[name] for name in sorted(found)]


def wished_seat(node: NodeFacts, wish: NodeWishes) -> Seat | None:
    """The seat that the settings name outright; they are known to be right."""
    ports = {p.netdev: p for p in node.rdma}
    for interface in every_interface(node):
        for address in (a for a in interface.ipv4 if ":" not in a):
            by_address = wish.address == address.partition("/")[0]
            by_name = not wish.address and wish.ifnames[:1] == (interface.name,)
            if by_address or by_name:
                return Seat.at(interface, address, ports.get(interface.name))
    return None
