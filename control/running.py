"""What runs on the nodes, whatever the settings say, and where it answers."""

from __future__ import annotations

from functools import cache

from pyinfra.api import Host
from pyinfra.connectors.sshuserclient.client import get_ssh_config

from cluster.engine import exposure
from cluster.engine.argv import Launch
from cluster.engine.versions import known_version
from cluster.findings import Finding
from cluster.node.readings import Rank
from cluster.plan.previous_group import members
from cluster.rank.spec import EVERYWHERE
from cluster.settings.schema import Settings
from control.deployment import Deployment


def ranks(made: Deployment) -> dict[str, Rank]:
    """Node name → its running rank of the group, rank order; nodes without one, or with one whose
    label tells no spec, are left out."""
    found = {name: _rank(made, name) for name in made.serving}
    return {name: rank for name, rank in found.items() if rank is not None}


def _rank(made: Deployment, node: str) -> Rank | None:
    if node not in made.facts:
        return None
    ours = (r for r in members(made.facts[node], made.settings.group) if r.running and r.spec)
    return next(ours, None)


def exposed(made: Deployment, *, runs: bool, wanted: bool = True) -> tuple[Finding, ...]:
    """Who may use the API.

    + runs: as it runs now, by its rank's own label; wanted: as the settings have it
    """
    settings, rank = made.settings, _rank(made, made.wanted.head) if runs and made.facts else None
    spec = rank.spec if rank else None
    apis = [exposure.running_access(spec)] if spec else []
    if made.running and (wanted or not apis):
        version = made.version or known_version(settings.image) or ""
        apis.append(exposure.declared_access(settings, len(made.wanted.names), version))
    found = (finding for api in apis for finding in exposure.check_exposure(api, settings))
    return tuple(dict.fromkeys(found))


def reached(head: Host, to: Launch | Settings) -> str:
    """The head's API as the reader reaches it: where it listens, or the address that SSH came to
    (its name may be one that only SSH knows), or would come to where nothing is connected."""
    host = to.host
    if host == EVERYWHERE:
        host = "localhost" if head.name.startswith("@local") else address(head)
    return f"http://{f'[{host}]' if ':' in host else host}:{to.port}"


@cache
def address(head: Host) -> str:
    client = getattr(getattr(head, "connector", None), "client", None)
    if transport := client.get_transport() if client else None:
        came_to = str(transport.getpeername()[0]).removeprefix("::ffff:")
        # The API listens on IPv4: where SSH came by IPv6, the name may lead there.
        if ":" not in came_to:
            return came_to
    name = str(head.data.get("ssh_hostname") or head.name)
    config = get_ssh_config(head.data.get("ssh_config_file"))
    return str(config.lookup(name).get("hostname", name)) if config else name
