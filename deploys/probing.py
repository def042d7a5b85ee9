"""Nodes as they are, read for a first inventory: any of them may be silent."""

from __future__ import annotations

import msgspec
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError

from cluster import declaration, probe
from cluster.findings import Finding, Refused
from cluster.probe import Probed
from cluster.settings import Settings
from deploys import declared, examine
from deploys.tolerant import inventory
from facts.node import NodeReading
from operations import shell

CONNECT_SECONDS = 10
# The reading's own parts give up after 30 s each.
SECONDS = 100


def show(state: State) -> None:
    """Print the document on stdout; pyinfra's own words go to stderr."""
    asked = inventory(state, CONNECT_SECONDS)
    hosts = declared.hosts(asked.inventory)
    wanted = declaration.wanted([declared.declared(host) for host in hosts])
    settings = {**wanted.nodes, **wanted.idle}
    nodes = shell.on_all(hosts, lambda host: _probe(host, settings[host.name]))
    found = [] if any(node.lost for node in nodes.values()) else _findings(asked)
    told = probe.document(list(nodes.values()), list(dict.fromkeys(found)))
    print(msgspec.json.encode(told).decode(), flush=True)


def _findings(asked: State) -> list[Finding]:
    try:
        return examine.findings(asked)
    except Refused as refused:
        return list(refused.findings)


def _probe(host: Host, settings: Settings) -> Probed:
    user = str(host.data.get("ssh_user") or "")
    reading = NodeReading()
    try:
        asked = reading.command(
            node=host.name, runtime=settings.runtime, disks=[settings.hf_cache], full=True
        )
        answer = shell.ask(host, asked, SECONDS)
        if answer.lost or not answer.out:
            return probe.silent(host.name, answer.lost or answer.text or "no answer", user)
        python = shell.ask(host, ("python3", "--version"), SECONDS)
    # A key file that is missing, for one.
    except PyinfraError as error:
        return probe.silent(host.name, str(error), user)
    facts = reading.process(list(answer.out))
    version = python.out[0].removeprefix("Python ") if python.ok and python.out else ""
    return probe.read(facts, settings.hf_cache, version)
