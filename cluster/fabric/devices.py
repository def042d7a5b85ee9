"""Which interface lies on which: bonds, VLANs, bridges and the like on top of a port's halves."""

from cluster.node.readings import Interface, NodeFacts, RdmaPort

NAMES = {
    "vlan": "a VLAN",
    "vrf": "a VRF",
    "ipvlan": "an ipvlan",
    "openvswitch": "an Open vSwitch bridge",
}
SECTIONS = {"bond": "bonds", "vlan": "vlans", "bridge": "bridges", "vrf": "vrfs"}
"""Where netplan keeps what is not a plain interface ("ethernets")."""
ROUTABLE = ("", "bond", "vlan", "macvlan")
"""Kinds whose addresses the kernel makes GIDs of that lead anywhere (drivers/infiniband/core/
roce_gid_mgmt.c). A bridge's or a team's get GIDs as well, but RDMA passes by their forwarding."""


def every_interface(node: NodeFacts) -> list[Interface]:
    """The node's interfaces by name, those under HCAs among them."""
    by_name = {i.name: i for i in (*node.interfaces, *(p.interface for p in node.rdma))}
    return [by_name[name] for name in sorted(by_name) if name]


def interface_title(interface: Interface) -> str:
    """ "bond0 (a bond)"; the name alone where its kind was not read."""
    kind = interface.kind
    return f"{interface.name} ({NAMES.get(kind, f'a {kind}')})" if kind else interface.name


def below(node: NodeFacts, interface: Interface) -> frozenset[str]:
    """The names of all interfaces that it lies on, without itself. A VRF lies on nothing: what
    belongs to one keeps its own addresses."""
    there = every_interface(node)
    if not any(i.master or i.link for i in there):
        return frozenset()
    by_name = {i.name: i for i in there}
    names: set[str] = set()
    open_ends = [interface]
    while open_ends:
        top = open_ends.pop()
        members = [i for i in there if i.master == top.name] if top.kind != "vrf" else []
        direct = [by_name[top.link]] if top.link in by_name else []
        for lower in (*members, *direct):
            if lower.name not in names:
                names.add(lower.name)
                open_ends.append(lower)
    return frozenset(names - {interface.name})


def above(node: NodeFacts, netdev: str) -> list[Interface]:
    """Every interface that lies on this one, those with an address first."""
    upper = [i for i in every_interface(node) if netdev in below(node, i)]
    return sorted(upper, key=lambda i: (not i.ipv4, i.name))


def vrf(node: NodeFacts, interface: Interface) -> str:
    """The VRF that it belongs to; "" where to none."""
    kinds = {i.name: i.kind for i in every_interface(node)}
    return interface.master if kinds.get(interface.master) == "vrf" else ""


def carries(node: NodeFacts, port: RdmaPort, interface: Interface, address: str) -> bool:
    """Whether RDMA to this address of an interface over the half goes through its HCA: it has a GID
    for it. Where the node's GIDs were not read at all, the interface's kind decides.

    A bond that keeps one half idle has GIDs on the other alone.
    """
    if not port.up or interface.kind not in ROUTABLE:
        return False
    if any(p.gids for p in node.rdma):
        return address in {gid.address for gid in port.gids}
    return True


def in_other_namespace(node: NodeFacts, port: RdmaPort) -> bool:
    """Whether the half's interface is in another network namespace: its HCA is active, but the
    node's own namespace has no interface for it."""
    here = {i.name for i in node.interfaces}
    return port.state == "ACTIVE" and bool(here) and port.netdev not in here
