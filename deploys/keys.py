"""Where the API key must be, and where it must no longer be."""

from __future__ import annotations

from pyinfra.api import Host

from cluster import keyed
from deploys.deployment import Deployment
from operations import shell

SECONDS = 30


def needed(made: Deployment, host: Host) -> bool:
    """Whether a rank that asks for a key will start on this node."""
    spec = made.specs.get(host.name)
    return made.plan.restart and spec is not None and keyed.is_keyed(spec.volumes)


def left(made: Deployment, host: Host) -> bool:
    """Whether a key lies on this node that nothing reads. A run that ends no rank does not look."""
    spec = made.specs.get(host.name)
    if made.settings.runtime != "docker" or (spec is not None and keyed.is_keyed(spec.volumes)):
        return False
    if made.settings.state != "absent" and not made.plan.restart:
        return False
    return shell.ask(host, ("test", "-d", keyed.folder(made.settings.group)), SECONDS).ok
