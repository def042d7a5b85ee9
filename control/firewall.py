"""From an inventory to each node's change of its firewall. Once for the whole cluster."""

from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.fabric import choose_fabric
from cluster.findings import Finding, Level, error, refuse_errors
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
from cluster.plan.decide import fabric_options
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from control import read
from control.inventory import all_hosts, declared_settings, refuse_limit
from facts.firewall import UfwState

READ_SECONDS = 60


@dataclass(frozen=True)
class NodePlan:
    """One node's change of its firewall, and what is to be said of it."""

    change: UfwChange
    findings: tuple[Finding, ...]


def plan_firewall(state: State) -> dict[str, UfwChange]:
    """Node -> its change, for every host of the run; logged, or Refused as a whole."""
    everyone = all_hosts(state.inventory)
    declaration = declared_settings(everyone)
    if declaration.common.firewall == "present":
        serving = [host for host in everyone if host.name in declaration.nodes]
        refuse_limit(state, serving, ": each node's rules name the others")
    hosts = {host.name: host for host in everyone if state.is_host_in_limit(host)}
    fact = UfwState()
    states = read.read_all(hosts.values(), fact, lambda host: fact.command(), READ_SECONDS, _unread)
    contexts = _contexts(declaration, hosts)
    plans = {n: _plan_node(states[n], contexts[n], declaration.common) for n in hosts}
    _log_plans(plans)
    return {name: plan.change for name, plan in plans.items()}


def _plan_node(state: Ufw, context: RuleContext, settings: Settings) -> NodePlan:
    if settings.firewall == "absent":
        return NodePlan(*plan_removal(state, context, settings.group))
    rules = required_rules(state, context, settings)
    findings = tuple(dict.fromkeys(find_obstacles(state, rules, context, settings)))
    return NodePlan(plan_changes(state, rules, settings.group), findings)


def _contexts(declaration: Declaration, hosts: dict[str, Host]) -> dict[str, RuleContext]:
    facts = read.read_light(hosts, declaration)
    if declaration.common.firewall == "absent":
        return {name: RuleContext(facts[name], {}, head=False) for name in hosts}
    nodes = [facts[name] for name in declaration.names]
    peers = peer_addresses(facts, choose_fabric(nodes, fabric_options(declaration)))
    return {
        name: RuleContext(
            facts[name],
            peers if name in declaration.names else {},
            head=name == declaration.head,
        )
        for name in hosts
    }


def _unread(node: str, why: str) -> Finding:
    if "sudo" in why:
        return error(
            f"ufw needs root: {why}",
            node,
            "give the login sudo without a password, or: pyinfra --sudo --use-sudo-password …",
            key="ufw-needs-root",
        )
    what = f"its firewall could not be read: {why or 'no answer'}"
    return error(what, node, "sudo ufw status", key="ufw-unreadable")


def _log_plans(plans: dict[str, NodePlan]) -> None:
    """Findings, and each line of the plan; Refused if there is an error."""
    findings = [finding for plan in plans.values() for finding in plan.findings]
    refuse_errors(findings)
    for finding in findings:
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")
    for name, plan in plans.items():
        for line in plan.change.lines() or ("its firewall is up to date",):
            logger.info(f"    plan: {name}: {line}")
