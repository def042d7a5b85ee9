"""Ports that must be free, and the links that carry the traffic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cluster.checks.needs import Needs
from cluster.fabric import Fabric
from cluster.findings import Finding, error, ok
from cluster.node.readings import Listener, NodeFacts, Rank


def ports(nodes: Sequence[NodeFacts], needs: Needs) -> Iterator[Finding]:
    """Every node's serving port, and the head's rendezvous port where there are workers."""
    for rank, node in enumerate(nodes):
        yield from taken(node, "port", needs.port, needs)
        if rank == 0 and len(nodes) > 1:
            yield from taken(node, "dist_port", needs.dist_port, needs)


def taken(node: NodeFacts, setting: str, port: int, needs: Needs) -> Iterator[Finding]:
    """Who holds the port, unless it is a rank of this group, which a deploy stops or keeps."""
    held = [at for at in node.listeners if at.port == port]
    if not held:
        if "listeners" not in node.unread:
            yield ok(f"{setting} {port} is free", node.name)
        return
    owner = next((r for at in held if (r := holder(node, at))), None)
    if owner and owner.name in needs.our_names:
        yield ok(f"{setting} {port} is {owner.name}'s", node.name)
        return
    who = f"{owner.name}, a rank of another group" if owner else program(held)
    cure = f"sudo ss -ltnp 'sport = :{port}', stop it, or choose another: --data {setting}=PORT"
    yield error(f"{setting} {port} is taken by {who}", node.name, cure)


def holder(node: NodeFacts, listener: Listener) -> Rank | None:
    """The rank behind a listener: by its pid, else the living one whose spec has this port.

    A container's listener shows a pid that Docker does not tell; its spec carries our label.
    """
    alive = [r for r in node.ranks if r.alive and r.label is not None]
    by_pid = [r for r in alive if listener.pid is not None and r.id == str(listener.pid)]
    word = re.compile(rf"(?<![\d.]){listener.port}(?![\d.])")
    return next(iter([*by_pid, *(r for r in alive if word.search(r.label or ""))]), None)


def program(held: Sequence[Listener]) -> str:
    """The best-known owner among the sockets of one port."""
    best = min(held, key=lambda at: (not at.process, at.address))
    if not best.process:
        return f"a program that the login may not see, on {best.address}"
    pid = f" (pid {best.pid})" if best.pid is not None else ""
    return f"{best.process}{pid} on {best.address}"


def links(nodes: Sequence[NodeFacts], fabric: Fabric) -> Iterator[Finding]:
    """The halves that carry the traffic, as they are; the fabric's warnings say what is amiss."""
    for node, member in zip(nodes, fabric.nodes, strict=True):
        for port in sorted(node.rdma, key=lambda p: p.hca):
            if port.hca in member.hcas:
                told = f"{port.hca} ({port.netdev}) {port.state}, {port.rate_gbps:g} Gb/s"
                yield ok(f"{told}, MTU {port.interface.mtu}", node.name)
