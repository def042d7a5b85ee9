"""The inventory as pyinfra read it, handed to the pure core."""

from typing import Any

from pyinfra.api import Host, Inventory, State
from pyinfra.connectors.sshuserclient.client import get_ssh_config

from cluster.engine.argv import Launch
from cluster.findings import Refused, error
from cluster.rank.spec import EVERYWHERE
from cluster.settings.declaration import Declaration, HostData, parse_declaration
from cluster.settings.schema import Settings

GROUPS = ("head", "workers")
# Of --data alone: the file of the run's outcome (control/outcome.py). Every program takes it.
REPORT = "report"


def all_hosts(inventory: Inventory) -> list[Host]:
    """Every host, rank order: the head, then the workers as the inventory lists them."""
    grouped = [host for group in GROUPS for host in inventory.groups.get(group, [])]
    return list(dict.fromkeys([*grouped, *inventory]))


def declared_data(host: Host) -> HostData:
    """What the inventory says of a host, with every layer's `env`, weakest first."""
    inventory = host.inventory
    layers = [
        inventory.get_data(),
        *(inventory.get_group_data(group) for group in host.groups),
        inventory.get_host_data(host.name),
        inventory.get_override_data(),
    ]
    data: dict[str, Any] = host.data.dict()
    if REPORT in inventory.get_override_data():
        # It says where this run's outcome is written, and nothing of the cluster.
        data.pop(REPORT, None)
    env = [layer["env"] for layer in layers if "env" in layer]
    return HostData(host.name, tuple(host.groups), data, env)


def declared_settings(hosts: list[Host]) -> Declaration:
    """What the inventory says of all of these hosts together; Refused where it can't be meant."""
    return parse_declaration([declared_data(host) for host in hosts])


def refuse_limit(
    state: State, hosts: list[Host], why: str, cure: str = "run without --limit"
) -> None:
    """Refused if `--limit` leaves out any of these hosts, which must be changed together.

    + why: what follows their names in the message
    """
    if left_out := [host.name for host in hosts if not state.is_host_in_limit(host)]:
        what = f"--limit leaves out {', '.join(left_out)}{why}"
        raise Refused(error(what, cure=cure, key="limit"))


def api_url(head: Host, to: Launch | Settings, reached_at: str = "") -> str:
    """The head's API as the reader reaches it: where it listens, or the address that SSH came to
    (its name may be one that only SSH knows), or would come to where nothing is connected.

    + reached_at: that address, if it is known
    """
    host = to.host
    if host == EVERYWHERE:
        host = "localhost" if head.name.startswith("@local") else reached_at or address(head)
    return f"http://{f'[{host}]' if ':' in host else host}:{to.port}"


def address(head: Host) -> str:
    """The head's address, as SSH came to it or would."""
    client = getattr(getattr(head, "connector", None), "client", None)
    if transport := client.get_transport() if client else None:
        came_to = str(transport.getpeername()[0]).removeprefix("::ffff:")
        # The API listens on IPv4: where SSH came by IPv6, the name may lead there.
        if ":" not in came_to:
            return came_to
    name = str(head.data.get("ssh_hostname") or head.name)
    config = get_ssh_config(head.data.get("ssh_config_file"))
    return str(config.lookup(name).get("hostname", name)) if config else name
