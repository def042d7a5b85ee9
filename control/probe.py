"""Nodes as they are, read for a first inventory: any of them may be silent."""

from pyinfra.api import Host, State

from cluster.command import Command
from cluster.findings import Refused
from cluster.reports import probe
from cluster.settings.schema import Settings
from control import check, deployment, inventory, run, status
from operations import shell

CONNECT_SECONDS = 10
# The reading's own parts give up after 30 s each.
SECONDS = 100


def print_probe(state: State) -> None:
    """Print the document on stdout. Findings are in it if every node answers."""
    probed = status.named_state(state, CONNECT_SECONDS)
    hosts = inventory.all_hosts(probed.inventory)
    declaration = inventory.declared_settings(hosts)
    settings = {**declaration.nodes, **declaration.idle}
    nodes = shell.on_all(hosts, lambda host: _probe_node(host, settings[host.name]))
    try:
        lost = any(node.lost for node in nodes.values())
        findings = [] if lost else check.find_problems(probed)[0]
    except Refused as refused:
        findings = list(refused.findings)
    document = probe.probe_document(list(nodes.values()), list(dict.fromkeys(findings)))
    run.print_document(document)


def _probe_node(host: Host, settings: Settings) -> probe.ProbedNode:
    options = {
        "node": host.name,
        "runtime": settings.runtime,
        "disks": [settings.hf_cache],
        "full": True,
    }
    reading = deployment.read_node(host, options, SECONDS)
    if reading.value is None:
        user = str(host.data.get("ssh_user") or "")
        return probe.unreachable_node(host.name, reading.why, user)
    python = shell.run_command(host, Command(("python3", "--version"), SECONDS, kill=False))
    version = python.out[0].removeprefix("Python ") if python.ok and python.out else ""
    return probe.probed_node(reading.value, settings.hf_cache, version)
