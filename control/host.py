"""Settings of the nodes' systems: read every node, refuse. Once for the whole cluster."""

from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.findings import refuse_errors
from cluster.node import host
from cluster.node.host import HostSetup
from cluster.settings.schema import Settings
from control.inventory import all_hosts, declared_settings
from control.shared import shared
from facts.fact import quote
from facts.machine import HostSettings
from operations import shell

SECONDS = 30


@dataclass(frozen=True)
class HostRun:
    """What was asked for, and each node as it is."""

    settings: Settings
    setups: dict[str, HostSetup]

    def setup(self, host: Host) -> HostSetup:
        return self.setups[host.name]

    def needs_linger(self, host: Host) -> bool:
        return self.settings.linger and not self.setup(host).linger


def host_run(host: Host) -> HostRun:
    """The run's settings and nodes, one for all hosts; DeployError where it is refused."""
    return shared(host.state, _make)


def _make(state: State) -> HostRun:
    everyone = all_hosts(state.inventory)
    settings = declared_settings(everyone).common
    setups = _read([host for host in everyone if state.is_host_in_limit(host)])
    refuse_errors(
        finding
        for node, s in setups.items()
        for finding in host.setting_objections(node, s, settings)
    )
    for node, setup in setups.items():
        for line in host.untouched_settings(setup, settings):
            logger.info(f"    {node}: {line}")
    return HostRun(settings, setups)


def _read(hosts: list[Host]) -> dict[str, HostSetup]:
    fact = HostSettings()
    words = quote(("sh", "-c", fact.command()))
    readings = shell.on_all(hosts, lambda host: shell.read_fact(host, fact, words, SECONDS))
    return shell.values_for_operations(readings, "its settings")
