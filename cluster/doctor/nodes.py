"""Nodes that can't be asked, container engines that don't answer, disks that fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.doctor.report import Ailment
from cluster.node.readings import DiskReading, NodeFacts

# A disk that is full to this share will soon stop a log, a container's start, a download.
FULL_SHARE = 0.95
FULL_BYTES = 2 * 10**9


def silent(nodes: Mapping[str, str]) -> Iterator[Ailment]:
    """Nodes that could not be asked: node → why."""
    for node, why in nodes.items():
        yield Ailment(
            level="error",
            key="node-unreachable",
            cause="it cannot be reached by SSH: off, frozen, or cut off",
            where=node,
            evidence=why,
            cure=f"ssh {node} true; ping {node}; where it is off or frozen, power-cycle it",
        )


ENGINES = {
    "missing": ("docker-missing", "Docker is not installed", "sudo apt-get install docker.io"),
    "denied": (
        "docker-denied",
        "the login may not use Docker",
        "sudo usermod -aG docker $USER, and log in again",
    ),
    "stopped": (
        "docker-stopped",
        "the Docker daemon does not run",
        "sudo systemctl enable --now docker; journalctl -u docker tells why it stopped",
    ),
    "broken": (
        "docker-silent",
        "the Docker daemon does not answer",
        "sudo systemctl restart docker; journalctl -u docker and df -h /var/lib/docker tell why",
    ),
}


def engines(facts: Mapping[str, NodeFacts]) -> Iterator[Ailment]:
    """Nodes whose container engine can't be asked."""
    for node, seen in facts.items():
        blind = seen.unread.get("ranks", "")
        kind = seen.engine.error if seen.engine else ""
        if not kind and not blind:
            continue
        key, cause, cure = ENGINES.get(kind, ENGINES["broken"])
        detail = seen.engine.detail if seen.engine and seen.engine.error else blind
        yield Ailment(
            level="error", key=key, cause=cause, where=node, evidence=detail, cure=f"on it: {cure}"
        )


def disks(facts: Mapping[str, NodeFacts]) -> Iterator[Ailment]:
    """File systems that are nearly full."""
    for node, seen in facts.items():
        systems = {(d.total, d.free): d for d in reversed(seen.disks) if d.total}
        yield from (_full(node, d) for d in systems.values() if _nearly_full(d))


def _nearly_full(disk: DiskReading) -> bool:
    return disk.free < FULL_BYTES or disk.total - disk.free > FULL_SHARE * disk.total


def _full(node: str, disk: DiskReading) -> Ailment:
    share = 100 * (disk.total - disk.free) / disk.total
    return Ailment(
        level="error" if disk.free < FULL_BYTES else "warning",
        key="disk-nearly-full",
        cause=f"the disk under {disk.path} is nearly full",
        where=node,
        evidence=f"{share:.0f} % used, {disk.free / 1e9:.1f} GB free",
        cure=f"on it: df -h {disk.path}; docker system df; docker image prune",
    )
