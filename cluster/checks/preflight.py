"""All checks of all nodes, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cluster.checks import machine, network, software, storage
from cluster.checks.needs import Needs
from cluster.fabric import Fabric
from cluster.findings import Finding, error, ok
from cluster.node.peers import PeerReport, reachability
from cluster.node.readings import NodeFacts


def preflight(
    nodes: Sequence[NodeFacts],
    *,
    wanted: Needs,
    fabric: Fabric | None,
    peers: Mapping[str, PeerReport],
    latency: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """Findings about nodes that were read in full, in rank order; ERROR refuses the deploy.

    + fabric: None where its choice was refused; its own findings say why
    + peers: reports of the reachability probe by node name; empty where it did not run
    + latency: seconds of a trivial command over SSH, by node name
    """
    found: list[Finding] = [*machine.same_machine(nodes)]
    for node in nodes:
        found += unread(node, wanted, several=len(nodes) > 1)
        found += [f for check in CHECKS for f in check(node, wanted)]
    found += machine.clocks(nodes)
    found += machine.shell(latency or {})
    found += network.ports(nodes, wanted)
    if fabric:
        found += [ok(fabric.summary), *network.links(nodes, fabric), *fabric.findings]
        found += reachability(fabric, peers)
    return tuple(found)


CHECKS = (software.gpu, software.engine, storage.cache, storage.room, machine.memory)


def unread(node: NodeFacts, wanted: Needs, *, several: bool) -> Iterator[Finding]:
    """Sections that failed to be read, but for those that another check tells or nobody needs."""
    told = {"gpus"}
    if not several:
        told |= {"rdma", "interfaces"}
    if node.engine and node.engine.error:
        told |= {"ranks", "image"}
    for section, words in sorted(node.unread.items()):
        if section not in told:
            yield _unread(section, words, node.name, wanted.image)


# What Docker's client was asked for.
OF_DOCKER = ("image", "ranks")


def _unread(section: str, words: str, node: str, image: str) -> Finding:
    from cluster.engine.diagnosis import docker_error  # a cluster in order does without

    known = docker_error(words, image) if section in OF_DOCKER else None
    if known is None:
        cure = f"ssh {node}, fix it and run this again"
        return error(f"{section} could not be read: {words}", node, cure)
    return error(f"{section} could not be read: {known.cause} ({words})", node, known.cure)
