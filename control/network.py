"""The fabric's network: read every node, assign addresses, refuse. Once for the whole cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.util import get_template

from cluster.findings import Refused, error, refuse_errors
from cluster.node import netplan
from cluster.node.netplan import Halves, Setup
from cluster.node.readings import NodeFacts
from cluster.settings.declaration import Declaration
from control import gather
from control.inventory import all_hosts, declared_settings
from control.shared import shared
from facts.machine import NetworkSetup
from operations import shell
from operations.network import NetworkChange
from operations.shell import Reading

TEMPLATE = "templates/netplan.yaml.j2"
SETUP_SECONDS = 30


@dataclass(frozen=True)
class Network:
    """What the nodes shall have; nothing at all for a single node.

    + texts: node → its netplan file
    + reasons: node → what differs there, a line each
    """

    hosts: Mapping[str, Host]
    wanted: Mapping[str, Halves]
    texts: Mapping[str, str]
    reasons: Mapping[str, tuple[str, ...]]

    def halves(self, host: Host) -> Halves:
        return self.wanted.get(host.name, ())

    def changes(self, host: Host) -> bool:
        return bool(self.reasons.get(host.name))

    def leads(self, host: Host) -> bool:
        """Whether this is rank 0, which applies the change on all nodes."""
        return host.name == next(iter(self.hosts), "")

    @property
    def change(self) -> NetworkChange:
        changing = tuple(name for name, why in self.reasons.items() if why)
        return NetworkChange(self.hosts, self.wanted, changing)


def network(host: Host) -> Network:
    """The run's network, one for all hosts; DeployError where it is refused."""
    return shared(host.state, _make)


def _make(state: State) -> Network:
    everyone = all_hosts(state.inventory)
    wanted = declared_settings(everyone)
    names = [*wanted.names, *wanted.idle]
    if len(names) < 2:
        logger.info("    one node: no fabric network is needed")
        return Network({}, {}, {}, {})
    _refuse_limit(state, everyone)
    by_name = {host.name: host for host in everyone}
    made = _decide({n: by_name[n] for n in names}, wanted)
    for name, why in made.reasons.items():
        for line in why:
            logger.info(f"    {name}: {line}")
    return made


def _decide(hosts: Mapping[str, Host], wanted: Declaration) -> Network:
    settings = {**wanted.nodes, **wanted.idle}
    common = wanted.common
    facts = gather.light(dict(hosts), wanted)
    nodes = [facts[name] for name in hosts]
    hcas = {name: settings[name].nccl_ib_hca for name in hosts}
    halves = netplan.assign(nodes, common.fabric_networks, common.fabric_mtu, hcas)
    setups = _setups(hosts, facts)
    refuse_errors(
        finding
        for node in nodes
        for finding in netplan.network_objections(
            node, setups[node.name], halves[node.name], by_hand=node.name.startswith("@local")
        )
    )
    texts = {name: text(mine) for name, mine in halves.items()}
    reasons = {
        node.name: tuple(
            netplan.address_changes(node, setups[node.name], halves[node.name], texts[node.name])
        )
        for node in nodes
    }
    if any(reasons.values()):
        refuse_errors(netplan.in_use(nodes))
    return Network(hosts, halves, texts, reasons)


def text(halves: Halves) -> str:
    """The netplan file of these halves."""
    return str(get_template(TEMPLATE).render(halves=halves))


def _setups(hosts: Mapping[str, Host], facts: Mapping[str, NodeFacts]) -> dict[str, Setup]:
    fact = NetworkSetup()

    def read(host: Host) -> Reading[Setup]:
        ports = facts[host.name].rdma
        names = [w for p in ports for w in (p.netdev, p.interface.mac) if w]
        return shell.read_fact(host, fact, fact.command(names), SETUP_SECONDS)

    return shell.values_for_operations(shell.on_all(hosts.values(), read), "its network")


def _refuse_limit(state: State, everyone: list[Host]) -> None:
    left_out = [host.name for host in everyone if not state.is_host_in_limit(host)]
    if left_out:
        what = f"--limit leaves out {', '.join(left_out)}: every node must answer the others"
        raise Refused(error(what, cure="run without --limit"))
