"""The fabric's network: read every node, assign addresses, refuse. Once for the whole cluster."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.util import get_template

from cluster.findings import refuse_errors
from cluster.node import netplan
from cluster.settings.declaration import Declaration
from control import deployment, inventory, run
from facts.machine import NetworkSetup
from operations import shell
from operations.network import NetworkChange

TEMPLATE = "templates/netplan.yaml.j2"
SETUP_SECONDS = 30


@dataclass(frozen=True)
class Network:
    """What the nodes are to have; nothing at all for a single node.

    + texts: node -> its netplan file
    + reasons: node -> what differs there, a line each
    """

    hosts: Mapping[str, Host]
    wanted: Mapping[str, netplan.Halves]
    texts: Mapping[str, str]
    reasons: Mapping[str, tuple[str, ...]]

    def halves(self, host: Host) -> netplan.Halves:
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


def plan_network(host: Host) -> Network:
    """The run's network, one for all hosts; DeployError if it is refused."""
    return run.shared(host.state, _plan)


def _plan(state: State) -> Network:
    everyone = inventory.all_hosts(state.inventory)
    declaration = inventory.declared_settings(everyone)
    names = [*declaration.names, *declaration.idle]
    if len(names) < 2:
        logger.info("    one node: no fabric network is needed")
        return Network({}, {}, {}, {})
    inventory.refuse_limit(state, everyone, ": every node must answer the others")
    by_name = {host.name: host for host in everyone}
    network = _plan_nodes({n: by_name[n] for n in names}, declaration)
    for name, why in network.reasons.items():
        for line in why:
            logger.info(f"    {name}: {line}")
    return network


def _plan_nodes(hosts: Mapping[str, Host], declaration: Declaration) -> Network:
    settings = {**declaration.nodes, **declaration.idle}
    common = declaration.common
    facts = deployment.read_light(hosts, declaration)
    nodes = [facts[name] for name in hosts]
    hcas = {name: settings[name].nccl_ib_hca for name in hosts}
    halves = netplan.assign(nodes, common.fabric_networks, common.fabric_mtu, hcas)
    fact = NetworkSetup()
    # Interfaces, and MAC addresses, to look for in configuration files.
    ports = {
        node.name: [w for p in node.rdma for w in (p.netdev, p.interface.mac) if w]
        for node in nodes
    }
    readings = shell.on_all(
        hosts.values(),
        lambda host: shell.read_fact(host, fact, fact.command(ports[host.name]), SETUP_SECONDS),
    )
    setups = shell.values_for_operations(readings, "its network")
    refuse_errors(
        finding
        for node in nodes
        for finding in netplan.network_objections(
            node, setups[node.name], halves[node.name], by_hand=node.name.startswith("@local")
        )
    )
    texts = {name: netplan_text(own) for name, own in halves.items()}
    reasons = {
        node.name: tuple(
            netplan.address_changes(node, setups[node.name], halves[node.name], texts[node.name])
        )
        for node in nodes
    }
    if any(reasons.values()):
        refuse_errors(netplan.in_use(nodes))
    return Network(hosts, halves, texts, reasons)


def netplan_text(halves: netplan.Halves) -> str:
    """The netplan file of these halves."""
    return str(get_template(TEMPLATE).render(halves=halves))
