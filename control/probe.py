"""Nodes as they are, read for a first inventory: any of them may be silent."""

import msgspec
from pyinfra.api import Host, State

from cluster.command import Command
from cluster.findings import Finding, Refused
from cluster.printable import json_text
from cluster.reports import probe
from cluster.reports.probe import ProbedNode
from cluster.settings.schema import Settings
from control import read
from control.check import find_problems
from control.inventory import all_hosts, declared_settings
from control.survey import named_state
from operations import shell

CONNECT_SECONDS = 10
# The reading's own parts give up after 30 s each.
SECONDS = 100


def print_probe(state: State) -> None:
    """Print the document on stdout; pyinfra's own words go to stderr."""
    asked = named_state(state, CONNECT_SECONDS)
    hosts = all_hosts(asked.inventory)
    wanted = declared_settings(hosts)
    settings = {**wanted.nodes, **wanted.idle}
    nodes = shell.on_all(hosts, lambda host: _probe(host, settings[host.name]))
    found = [] if any(node.lost for node in nodes.values()) else _findings(asked)
    told = probe.probe_document(list(nodes.values()), list(dict.fromkeys(found)))
    print(json_text(msgspec.json.encode(told)), flush=True)


def _findings(asked: State) -> list[Finding]:
    try:
        return find_problems(asked)
    except Refused as refused:
        return list(refused.findings)


def _probe(host: Host, settings: Settings) -> ProbedNode:
    user = str(host.data.get("ssh_user") or "")
    asked = {
        "node": host.name,
        "runtime": settings.runtime,
        "disks": [settings.hf_cache],
        "full": True,
    }
    found = read.read_node(host, asked, SECONDS)
    if found.value is None:
        return probe.unreachable_node(host.name, found.why, user)
    python = shell.run_command(host, Command(("python3", "--version"), SECONDS, kill=False))
    version = python.out[0].removeprefix("Python ") if python.ok and python.out else ""
    return probe.probed_node(found.value, settings.hf_cache, version)
