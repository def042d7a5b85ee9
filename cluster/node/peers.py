"""Whether every node reaches every other over the fabric: a probe's result, and what it means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cluster.fabric import Fabric, NodeFabric
from cluster.findings import Finding, error, ok, warning
from cluster.node.readings import Shown

PROBE_PORT = 47918
"""Any port of the ephemeral range (32768-60999): SGLang's ranks also meet on random ports there."""
HEADERS = 28
"""Bytes of an IPv4 and an ICMP header: what the MTU holds beside a ping's payload."""


@dataclass(frozen=True)
class Reach(Shown):
    """How a node reached one peer.

    + peer: the peer's address
    + ping, full_ping: "ok", "lost", "too big" or "unknown" (ping can't be used); full_ping fills
      the MTU and forbids fragments
    + ports: "open", "refused", "timeout" or "unreachable" by port
    """

    peer: str
    ping: str = "unknown"
    full_ping: str = "unknown"
    ports: Mapping[int, str] = field(default_factory=dict)

    def having(self, state: str) -> list[int]:
        return sorted(port for port, actual in self.ports.items() if actual == state)


@dataclass(frozen=True)
class PeerReport(Shown):
    """One node's probe. `busy` ports were in use already, so the probe did not listen there."""

    address: str = ""
    busy: tuple[int, ...] = ()
    peers: tuple[Reach, ...] = ()
    error: str = ""


def reachability(fabric: Fabric, reports: Mapping[str, PeerReport]) -> Iterator[Finding]:
    """Findings from the nodes' reports (by node name); none if there are no reports."""
    members = {n.address: n for n in fabric.nodes}
    for node in fabric.nodes if reports and len(members) > 1 else ():
        report = reports.get(node.name, PeerReport(error="the probe did not run"))
        if report.error:
            what = f"reachability over {node.interface} could not be read: {report.error}"
            yield error(
                what,
                node.name,
                f"ping -I {node.interface} {other(fabric, node)}",
                key="peers-unchecked",
            )
        for reach in report.peers:
            if peer := members.get(reach.peer):
                yield from one_way(node, peer, reach, reports.get(peer.name))


def other(fabric: Fabric, node: NodeFabric) -> str:
    return next(n.address for n in fabric.nodes if n.name != node.name)


def one_way(
    node: NodeFabric, peer: NodeFabric, reach: Reach, theirs: PeerReport | None
) -> Iterator[Finding]:
    """Findings about one node's way to one peer."""
    target = f"{peer.name} ({peer.address})"
    if reach.ping != "ok" and not reach.having("open") and not reach.having("refused"):
        what = f"does not reach {target} over {node.interface}: no ping, no port answers"
        cure = f"check cable, subnet and firewall: ping -I {node.interface} {peer.address}"
        yield error(what, node.name, cure, key="peer-unreachable")
        return
    problems = [*frames(node, peer, reach, target), *firewall(node, peer, reach, target, theirs)]
    yield from problems
    if reach.having("open") and not problems:
        opened = ", ".join(map(str, reach.having("open")))
        size = f"{node.mtu} bytes unfragmented, " if reach.full_ping == "ok" else ""
        yield ok(f"reaches {target} over {node.interface}: {size}ports {opened}", node.name)


def frames(node: NodeFabric, peer: NodeFabric, reach: Reach, target: str) -> Iterator[Finding]:
    """Ping, and whether a frame of the whole MTU passes."""
    if reach.ping == "lost":
        what = f"{target} does not answer ping, though its ports do"
        yield warning(
            what,
            node.name,
            f"allow ICMP echo on {peer.name}'s {peer.interface}",
            key="ping-blocked",
        )
    elif reach.full_ping in ("lost", "too big"):
        what = f"{node.mtu} bytes do not pass to {target} in one piece: fragmentation needed"
        cure = f"set MTU {node.mtu} on both ends and on any switch between, then "
        yield error(
            what,
            node.name,
            f"{cure}ping -M do -s {node.mtu - HEADERS} {peer.address}",
            key="mtu-blocked",
        )


def firewall(
    node: NodeFabric, peer: NodeFabric, reach: Reach, target: str, theirs: PeerReport | None
) -> Iterator[Finding]:
    """Ports that do not answer though the peer's own probe listened on them."""
    listened = theirs is not None and not theirs.error
    held = theirs.busy if theirs else ()
    rejected = [p for p in reach.having("refused") if listened and p not in held]
    dropped = sorted([*reach.having("timeout"), *reach.having("unreachable")])
    cure = f"on {peer.name}: sudo ufw allow in on {peer.interface} from {node.address}"
    for ports, how in ((dropped, "drops"), (rejected, "rejects")):
        if ports:
            which = ", ".join(map(str, ports))
            yield error(
                f"a firewall {how} TCP to {target}, port {which}",
                node.name,
                cure,
                key="firewall-blocks",
            )
