"""Where the API key must be, and where it must no longer be."""

from __future__ import annotations

from pyinfra.api import Host

from cluster.keyed import compare, is_keyed
from cluster.spec import spec_of
from deploys import secrets
from deploys.deployment import Deployment
from operations import shell

SECONDS = 60


def needed(made: Deployment, host: Host) -> bool:
    """Whether a rank that asks for a key will start on this node."""
    return made.plan.restart and _reads(made, host)


def lacking(made: Deployment) -> str:
    """What is wrong with the key on the head's node, which keeps rank 0 from starting; or ""."""
    settings = made.settings
    if settings.runtime != "docker" or not (key := secrets.find_api_key(settings.api_key_file)):
        return ""
    words = compare(settings.group, settings.image)
    answer = shell.ask(made.hosts[made.wanted.head], words, SECONDS, stdin=f"{key}\n")
    state = answer.out[0] if answer.out else ""
    return f"api key: {state} on its node" if state in ("missing", "different") else ""


def left(made: Deployment, host: Host) -> bool:
    """Whether the rank that read a key on this node goes, and no other one comes."""
    gone = [s.seen for s in made.plan.of(host.name) if s.seen and (s.remove or s.recreate)]
    keyed = any(is_keyed(spec.volumes) for rank in gone if (spec := spec_of(rank)))
    return keyed and not _reads(made, host)


def _reads(made: Deployment, host: Host) -> bool:
    spec = made.specs.get(host.name)
    return spec is not None and is_keyed(spec.volumes)
