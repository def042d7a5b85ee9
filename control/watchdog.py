"""From an inventory to each node's watchdog. Once for the whole cluster."""

from collections.abc import Mapping

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.fabric import choose_fabric
from cluster.findings import Finding, error, refuse_errors
from cluster.plan.decide import fabric_options
from cluster.printable import printable
from cluster.settings.schema import Settings
from cluster.watchdog import units
from control import converge, deployment as nodes, lease, run
from facts import watchdog as reading
from operations import shell
from operations.watchdog import WatchdogChange


def watchdog_changes(host: Host) -> Mapping[str, WatchdogChange]:
    """Node → what its operation does, one plan for all hosts; DeployError if it is refused."""
    return run.shared(host.state, _plan)


def _plan(state: State) -> Mapping[str, WatchdogChange]:
    deployment = converge.declared_deployment(state)
    run.report_on(deployment)
    settings, declaration = deployment.settings, deployment.declaration
    on = settings.watchdog == "on"
    refuse_errors(_unfit(settings) if on else [])
    lease.take(state, declaration)
    configs: dict[str, dict[str, object] | None] = dict.fromkeys(deployment.hosts)
    if on:
        facts = nodes.read_light(deployment.hosts, declaration)
        findings = list(units.settings_findings(declaration, facts))
        refuse_errors(findings)
        for finding in findings:
            logger.warning(f"    warning: {finding}")
        serving = [facts[name] for name in declaration.names]
        fabric = choose_fabric(serving, fabric_options(declaration))
        # A single node has no fabric, and nobody to talk to.
        addresses = [node.address or "127.0.0.1" for node in fabric.nodes]
        for rank, name in enumerate(declaration.names):
            configs[name] = units.node_config(declaration, rank, addresses)
    there = _read(deployment)
    steps = {n: units.plan_watchdog(settings.group, configs[n], there[n]) for n in configs}
    refuse_errors([f for n in steps for f in units.watchdog_obstacles(n, steps[n], there[n])])
    for name, step in steps.items():
        what = str(step) if step.reasons else "its watchdog is as declared"
        logger.info(f"    plan: {name}: {printable(what)}")
    return {n: WatchdogChange(step, lambda: lease.lost(state)) for n, step in steps.items()}


def _unfit(settings: Settings) -> list[Finding]:
    """What the watchdog can't work with."""
    if settings.runtime != "docker":
        what = f"runtime = {settings.runtime!r}: the watchdog restarts containers"
        return [error(what, cure="an inventory whose nodes have Docker", key="watchdog-runtime")]
    if settings.restart_policy == "no":
        what = "restart_policy = 'no': Docker would not start again what the watchdog ends"
        return [
            error(
                what,
                cure="--data restart_policy=unless-stopped, with deploy.py",
                key="watchdog-no-restart",
            )
        ]
    return []


def _read(deployment: nodes.Deployment) -> dict[str, units.WatchdogReading]:
    """What each node has; Refused where one can't be read."""
    group, fact = deployment.settings.group, reading.WatchdogFiles()
    command = fact.command(
        unit=f"{units.unit_name(group)}.service",
        config=units.config_path(group),
        files=tuple(units.node_files(group, {})),
    )
    readings = shell.on_all(
        deployment.hosts.values(),
        lambda host: shell.read_fact(host, fact, command, reading.SECONDS),
    )
    return shell.require_all(
        readings,
        lambda node, why: error(
            f"its watchdog could not be read: {printable(why or 'no answer')}",
            node,
            f"ssh {node} systemctl status {units.unit_name(group)}",
            key="watchdog-unreadable",
        ),
    )
