"""Settings of the nodes' systems: read every node, refuse. Once for the whole cluster."""

from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.findings import refuse_errors
from cluster.node import host as node_host
from cluster.settings.schema import Settings
from control import inventory, run
from facts.fact import quote
from facts.machine import HostSettings
from operations import shell

SECONDS = 30


@dataclass(frozen=True)
class HostRun:
    """What is declared, and each node as it is."""

    settings: Settings
    setups: dict[str, node_host.HostSetup]

    def setup(self, host: Host) -> node_host.HostSetup:
        return self.setups[host.name]

    def needs_linger(self, host: Host) -> bool:
        return self.settings.linger and not self.setup(host).linger


def host_run(host: Host) -> HostRun:
    """The run's settings and nodes, one for all hosts; DeployError if it is refused."""
    return run.shared(host.state, _read_hosts)


def _read_hosts(state: State) -> HostRun:
    everyone = inventory.all_hosts(state.inventory)
    settings = inventory.declared_settings(everyone).common
    hosts = [host for host in everyone if state.is_host_in_limit(host)]
    fact = HostSettings()
    command = quote(("sh", "-c", fact.command()))
    readings = shell.on_all(hosts, lambda host: shell.read_fact(host, fact, command, SECONDS))
    setups = shell.values_for_operations(readings, "its settings")
    refuse_errors(
        finding
        for node, setup in setups.items()
        for finding in node_host.setting_objections(node, setup, settings)
    )
    for node, setup in setups.items():
        for line in node_host.untouched_settings(setup, settings):
            logger.info(f"    {node}: {line}")
    return HostRun(settings, setups)
