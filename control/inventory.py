"""The inventory as pyinfra read it, handed to the pure core."""

from __future__ import annotations

from typing import Any

from pyinfra.api import Host, Inventory, State

from cluster.findings import Refused, error
from cluster.settings.declaration import Declaration, HostData, parse_declaration

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


def refuse_split(state: State, serving: list[Host]) -> None:
    """A group lives and dies together: `--limit` must not leave out one of its ranks."""
    left_out = [host.name for host in serving if not state.is_host_in_limit(host)]
    if left_out:
        raise Refused(
            error(
                f"--limit leaves out {', '.join(left_out)} of the group: its ranks run together",
                cure="run without --limit, or add --data head_only=true to serve from the head",
            )
        )
