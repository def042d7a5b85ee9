"""From an inventory to each node's change of its firewall. Once for the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.fabric import choose_fabric
from cluster.findings import Finding, Level, Refused, error, refuse_errors
from cluster.node.firewall import (
    RuleContext,
    UfwChange,
    find_obstacles,
    peer_addresses,
    plan_changes,
    plan_removal,
    required_rules,
)
from cluster.node.ufw import Ufw
from cluster.settings.declaration import Declaration
from control import gather
from control.converge import fabric_options
from control.inventory import all_hosts, declared_settings
from facts.firewall import UfwState
from operations import shell

READ_SECONDS = 60


def plan_firewall(state: State) -> dict[str, UfwChange]:
    """Node name → its change, for every host of the run; told, or Refused as a whole."""
    everyone = all_hosts(state.inventory)
    wanted = declared_settings(everyone)
    hosts = {host.name: host for host in everyone if state.is_host_in_limit(host)}
    if wanted.common.firewall == "present":
        _refuse_limit(wanted, hosts)
    seen = _read(hosts)
    places = _places(wanted, hosts)
    made = {name: _one(seen[name], places[name], wanted) for name in hosts}
    _tell(made)
    return {name: one.change for name, one in made.items()}


@dataclass(frozen=True)
class _One:
    change: UfwChange
    findings: tuple[Finding, ...]


def _one(seen: Ufw, place: RuleContext, wanted: Declaration) -> _One:
    settings = wanted.common
    if settings.firewall == "absent":
        return _One(*plan_removal(seen, place, settings.group))
    ours = required_rules(seen, place, settings)
    found = tuple(dict.fromkeys(find_obstacles(seen, ours, place, settings)))
    return _One(plan_changes(seen, ours, settings.group), found)


def _places(wanted: Declaration, hosts: dict[str, Host]) -> dict[str, RuleContext]:
    facts = gather.light(hosts, wanted)
    if wanted.common.firewall == "absent":
        return {name: RuleContext(facts[name], {}, head=False) for name in hosts}
    fabric = choose_fabric([facts[name] for name in wanted.names], fabric_options(wanted))
    peers = peer_addresses(facts, fabric)
    return {
        name: RuleContext(
            facts[name], peers if name in wanted.names else {}, head=name == wanted.head
        )
        for name in hosts
    }


def _refuse_limit(wanted: Declaration, hosts: dict[str, Host]) -> None:
    if left_out := [name for name in wanted.names if name not in hosts]:
        raise Refused(
            error(
                f"--limit leaves out {', '.join(left_out)}: each node's rules name the others",
                cure="run without --limit",
            )
        )


def _read(hosts: dict[str, Host]) -> dict[str, Ufw]:
    fact = UfwState()
    found = shell.on_all(
        hosts.values(), lambda h: shell.read_fact(h, fact, fact.command(), READ_SECONDS)
    )
    refuse_errors(_unread(name, seen.why) for name, seen in found.items() if not seen.value)
    return {name: seen.value for name, seen in found.items() if seen.value}


def _unread(node: str, why: str) -> Finding:
    if "sudo" in why:
        return error(
            f"ufw needs root: {why}",
            node,
            "allow the login sudo without a password, or: pyinfra --sudo --use-sudo-password …",
        )
    what = f"its firewall could not be read: {why or 'no answer'}"
    return error(what, node, "sudo ufw status")


def _tell(made: dict[str, _One]) -> None:
    """Findings, and each line of the plan; Refused where there is an error."""
    findings = [finding for one in made.values() for finding in one.findings]
    refuse_errors(findings)
    for finding in findings:
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")
    for name, one in made.items():
        for line in one.change.lines() or ("its firewall is as wanted",):
            logger.info(f"    plan: {name}: {line}")
