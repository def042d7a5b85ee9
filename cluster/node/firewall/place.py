"""Where a node stands: its own reading, and the addresses of its peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from cluster.fabric import Fabric, NodeFabric
from cluster.node.readings import NodeFacts


@dataclass(frozen=True)
class Place:
    """What the rules of one node depend on, beside the settings.

    + peers: node name → fabric addresses, of the whole group; nothing for a single node
    + head: whether it answers the API
    """

    node: NodeFacts
    peers: Mapping[str, tuple[str, ...]]
    head: bool


def fabric_addresses(node: NodeFacts, member: NodeFabric) -> tuple[str, ...]:
    """Where a node sends from to its peers: the rendezvous, and both halves of its cabled port."""
    ports = {p.qsfp for p in node.rdma if p.netdev == member.interface or p.hca in member.hcas}
    halves = [p.interface for p in node.rdma if p.qsfp in ports]
    named = [i for i in node.interfaces if i.name == member.interface]
    there = [str(a.ip) for i in (*named, *halves) for a in i.addresses]
    return tuple(sorted({member.address, *there}, key=ip_address))


def peer_addresses(facts: Mapping[str, NodeFacts], fabric: Fabric) -> dict[str, tuple[str, ...]]:
    """Node name → its addresses on the fabric, head first; nothing for a single node."""
    if len(fabric.nodes) < 2:
        return {}
    return {m.name: fabric_addresses(facts[m.name], m) for m in fabric.nodes}
