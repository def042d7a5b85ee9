"""From an inventory to each node's change of its firewall. Once for the whole cluster."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.fabric import choose_fabric
from cluster.findings import Finding, Level, Refused, error, refuse_errors
from cluster.node import firewall
from cluster.node.ufw import Ufw
from cluster.plan.decide import fabric_options
from cluster.settings.declaration import Declaration
from control import deployment, inventory
from facts.machine import UfwState
from operations import shell

READ_SECONDS = 60


def plan_firewall(state: State) -> dict[str, firewall.UfwChange]:
    """Node -> its change, for every host of the run; logged, or Refused as a whole."""
    everyone = inventory.all_hosts(state.inventory)
    declaration = inventory.declared_settings(everyone)
    settings = declaration.common
    if settings.firewall == "present":
        serving = [host for host in everyone if host.name in declaration.nodes]
        inventory.refuse_limit(state, serving, ": each node's rules name the others")
    hosts = {host.name: host for host in everyone if state.is_host_in_limit(host)}
    states = _read_firewalls(hosts)
    contexts = _rule_contexts(declaration, hosts)
    if settings.firewall == "present" and firewall.scraped_ports(settings):
        monitor = inventory.monitor(state)
        came = _monitor_addresses(monitor, hosts, states) if monitor else {}
        for node in set(came) & set(declaration.nodes):
            contexts[node] = replace(contexts[node], monitor=came[node])
    changes: dict[str, firewall.UfwChange] = {}
    findings: list[Finding] = []
    for node, ufw in states.items():
        context = contexts[node]
        if settings.firewall == "absent":
            changes[node], obstacles = firewall.plan_removal(ufw, context, settings.group)
        else:
            rules = firewall.required_rules(ufw, context, settings)
            obstacles = tuple(firewall.find_obstacles(ufw, rules, context, settings))
            changes[node] = firewall.plan_changes(ufw, rules, settings.group)
        findings += dict.fromkeys(obstacles)
    refuse_errors(findings)
    for finding in findings:
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")
    for node, change in changes.items():
        for line in change.lines() or ("its firewall is up to date",):
            logger.info(f"    plan: {node}: {line}")
    return changes


def _read_firewalls(hosts: Mapping[str, Host]) -> dict[str, Ufw]:
    """Node -> its ufw; Refused where it could not be read, or where the login has no root."""
    fact = UfwState()
    readings = shell.on_all(
        hosts.values(), lambda host: shell.read_fact(host, fact, fact.command(), READ_SECONDS)
    )
    states = shell.require_all(
        readings,
        lambda node, why: error(
            f"its firewall could not be read: {why or 'no answer'}",
            node,
            "sudo ufw status",
            key="ufw-unreadable",
        ),
    )
    refuse_errors(
        error(
            f"ufw needs root: {ufw.no_root}",
            node,
            "give the login sudo without a password, or: pyinfra --sudo --use-sudo-password …",
            key="ufw-needs-root",
        )
        for node, ufw in states.items()
        if ufw.no_root
    )
    return states


def _rule_contexts(
    declaration: Declaration, hosts: dict[str, Host]
) -> dict[str, firewall.RuleContext]:
    """Node -> what its rules depend on."""
    facts = deployment.read_light(hosts, declaration)
    if declaration.common.firewall == "absent":
        return {name: firewall.RuleContext(facts[name], {}, head=False) for name in hosts}
    nodes = [facts[name] for name in declaration.names]
    peers = firewall.peer_addresses(facts, choose_fabric(nodes, fabric_options(declaration)))
    return {
        name: firewall.RuleContext(
            facts[name],
            peers if name in declaration.names else {},
            head=name == declaration.head,
        )
        for name in hosts
    }


def _monitor_addresses(
    monitor: Host, hosts: Mapping[str, Host], nodes: Mapping[str, Ufw]
) -> dict[str, str]:
    """Node → the IPv4 address from which a host that only monitors comes to it: the one that SSH
    would connect to; of this machine (`@local`), the one from which SSH came. Refused where there
    is none."""
    name = inventory.address(monitor)
    if name.startswith("@"):
        came = {
            node: ufw.login.client if ufw.login and not inventory.jumps(hosts[node]) else ""
            for node, ufw in nodes.items()
        }
    else:
        with suppress(OSError, UnicodeError):
            name = socket.gethostbyname(name)
        came = dict.fromkeys(nodes, name)
    for node, address in came.items():
        try:
            usable = not IPv4Address(address).is_loopback
        except AddressValueError:
            usable = False
        if not usable:
            what = f"{monitor.name} is let in by its IPv4 address, and has none: {address!r}"
            cure = f'monitor = [("{monitor.name}", {{"ssh_hostname": "ADDRESS"}})]'
            raise Refused(error(what, node, cure, key="monitor-no-address"))
    return came
