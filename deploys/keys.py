"""Where the API key must be, and where it must no longer be."""

from __future__ import annotations

from pyinfra.api import Host

from cluster.keyed import is_keyed
from cluster.spec import label
from deploys.deployment import Deployment


def needed(made: Deployment, host: Host) -> bool:
    """Whether a rank that asks for a key will start on this node."""
    return made.plan.restart and _reads(made, host)


def left(made: Deployment, host: Host) -> bool:
    """Whether the rank that read a key on this node goes, and no other one comes."""
    gone = [s.seen for s in made.plan.of(host.name) if s.seen and (s.remove or s.recreate)]
    read = any(is_keyed(label(rank).get("volumes", ())) for rank in gone)
    return read and not _reads(made, host)


def _reads(made: Deployment, host: Host) -> bool:
    spec = made.specs.get(host.name)
    return spec is not None and is_keyed(spec.volumes)
