"""From an inventory to each node's monitoring. Once for the whole cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyinfra import logger
from pyinfra.api import Host, State

from cluster.fabric import Fabric, choose_fabric
from cluster.findings import Finding, error, refuse_errors, warning
from cluster.monitoring import metrics_timer, wanted
from cluster.monitoring.alertmanager import read_receiver
from cluster.monitoring.parts import MonitoringReading, compare_secrets
from cluster.node.firewall import scraped_ports
from cluster.node.readings import NodeFacts
from cluster.plan.decide import fabric_options
from cluster.plan.specs import cache_root
from cluster.printable import printable
from cluster.rank.spec import EVERYWHERE
from cluster.settings.declaration import parse_monitor
from cluster.settings.schema import Settings
from cluster.transfer import images
from control import converge, deployment as nodes, inventory, lease, run
from control.secrets import find_private
from facts import monitoring as reading
from operations import shell
from operations.images import ImageOrder
from operations.monitoring import NodeChange


@dataclass(frozen=True)
class MonitoringRun:
    """One run's monitoring.

    + changes: node → what its operation does
    + orders: images to bring, each with whether a node lacks it, or a registry is queried
    + head: its node, whose operations bring the images to all
    """

    changes: Mapping[str, NodeChange]
    orders: tuple[tuple[ImageOrder, bool], ...]
    head: str


def monitoring_run(host: Host) -> MonitoringRun:
    """The run's monitoring, one for all hosts; DeployError if it is refused."""
    return run.shared(host.state, _plan)


def _plan(state: State) -> MonitoringRun:
    deployment, monitor = _declared(state)
    settings, declaration = deployment.settings, deployment.declaration
    lease.take(state, declaration)
    facts = nodes.read_light(deployment.hosts, declaration)
    there = _read(deployment)
    desired = dict.fromkeys(deployment.hosts, wanted.NodeWanted())
    fabric_address = ""
    if settings.monitoring == "present":
        fabric = choose_fabric([facts[n] for n in declaration.names], fabric_options(declaration))
        fabric_address = fabric.nodes[0].address
        desired |= _wanted(deployment, facts, fabric, monitor)
        there = _compared(deployment, desired, there)
    orders = _image_orders(deployment, facts, desired, there, fabric_address)
    plans = {n: wanted.plan_node(desired[n], there[n], settings) for n in deployment.hosts}
    findings = [
        finding
        for name in plans
        for finding in wanted.obstacles(name, desired[name], plans[name], there[name], settings)
    ]
    refuse_errors(findings)
    remarks = _remarks(deployment) if settings.monitoring == "present" else ()
    for finding in (*findings, *remarks):
        logger.warning(f"    warning: {finding}")
    for name, steps in plans.items():
        for line in list(steps.lines()) or ["its monitoring is as declared"]:
            logger.info(f"    plan: {name}: {printable(line)}")
    fetched = {name for order, needed in orders if needed for name in order.hosts}

    def change(host: Host) -> NodeChange:
        def again() -> wanted.NodeSteps:
            now = _compared(deployment, desired, _read(deployment, host))
            return wanted.plan_node(desired[host.name], now[host.name], settings)

        return NodeChange(plans[host.name], host.name in fetched, again, lambda: lease.lost(state))

    changes = {name: change(host) for name, host in deployment.hosts.items()}
    return MonitoringRun(changes, orders, declaration.head)


def _declared(state: State) -> tuple[nodes.Deployment, str]:
    """What the inventory declares, and the host that only monitors ("" for none), which is read and
    changed as a node that serves nothing. Refused where containers can't run, or only some nodes
    would be changed."""
    deployment = converge.declared_deployment(state)
    watched = deployment.declaration
    hosts = state.inventory.groups.get(inventory.MONITOR, [])
    only = parse_monitor([inventory.declared_data(host) for host in hosts], watched)
    limited = {host.name: host for host in hosts if state.is_host_in_limit(host)}
    deployment.hosts = {**deployment.hosts, **limited}
    beyond = {host.name: host for host in hosts if host.name not in limited}
    deployment.left_out = {**deployment.left_out, **beyond}
    deployment.decision = replace(
        deployment.decision, declaration=replace(watched, idle={**watched.idle, **only})
    )
    run.report_on(deployment)
    settings = deployment.settings
    if settings.runtime != "docker":
        what = f"runtime = {settings.runtime!r}: monitoring runs in containers"
        refuse_errors(
            [
                error(
                    what, cure="an inventory whose nodes have Docker", key="monitoring-needs-docker"
                )
            ]
        )
    if settings.monitoring == "present":
        hosts = [*deployment.hosts.values(), *deployment.left_out.values()]
        inventory.refuse_limit(state, hosts, ": Prometheus scrapes every node")
    return deployment, next(iter(only), "")


def _wanted(
    deployment: nodes.Deployment, facts: Mapping[str, NodeFacts], fabric: Fabric, monitor: str
) -> dict[str, wanted.NodeWanted]:
    """Node → what it should have; Refused where Prometheus could not reach it, or has no such
    address."""
    settings, declaration = deployment.settings, deployment.declaration
    scraped = wanted.fabric_addresses(declaration, fabric)
    if monitor:
        scraped = {n: inventory.address(host) for n, host in deployment.serving.items()}
        refuse_errors(wanted.unreached(declaration, facts, scraped, monitor))
        ports = " and ".join(scraped_ports(settings))
        logger.info(
            f"    note: {monitor} must reach the ports {ports} of each node that serves; where ufw "
            "is on, run deploys/firewall.py: it opens them to it alone"
        )
    at = monitor or declaration.head
    management = inventory.address(deployment.hosts[at])
    address = wanted.listen_address(settings, facts[at], management)
    return wanted.wanted_parts(declaration, scraped, address, _private(settings), monitor)


def _read(deployment: nodes.Deployment, *only: Host) -> dict[str, MonitoringReading]:
    """What each node has; Refused where one can't be read."""
    settings, fact = deployment.settings, reading.Monitoring()
    command = fact.command(
        names=wanted.all_names(settings.group),
        images=tuple(wanted.part_images(settings).values()),
        timer=f"{metrics_timer.unit_name(settings.group)}.timer",
        files=tuple(metrics_timer.unit_paths(settings.group)),
    )
    readings = shell.on_all(
        only or deployment.hosts.values(),
        lambda host: shell.read_fact(host, fact, command, reading.SECONDS),
    )
    return shell.require_all(
        readings,
        lambda node, why: error(
            f"its monitoring could not be read: {printable(why or 'no answer')}",
            node,
            f"ssh {node} docker ps",
            key="monitoring-unreadable",
        ),
    )


def _private(settings: Settings) -> wanted.Private:
    """What the controller's own files say."""
    receiver = find_private(
        "alert_receiver", settings.alert_receiver, "write a webhook's URL to it"
    )
    password = find_private(
        "grafana_password_file", settings.grafana_password_file, "openssl rand -hex 16 > it"
    )
    if not password.isprintable():
        what = "grafana_password_file holds more than one line of printable characters"
        refuse_errors(
            [error(what, cure="umask 077; openssl rand -hex 16 > FILE", key="secret-invalid")]
        )
    return wanted.Private(read_receiver(receiver) if receiver else None, password)


def _compared(
    deployment: nodes.Deployment,
    desired: Mapping[str, wanted.NodeWanted],
    there: Mapping[str, MonitoringReading],
) -> dict[str, MonitoringReading]:
    """The readings, with whether secrets in containers are ours; only where there are any."""
    compared = dict(there)
    for name in there:
        secrets = {}
        for each in (each for each in desired[name].parts if each.secrets):
            output = shell.run_command(deployment.hosts[name], compare_secrets(each))
            secrets[each.part.name] = output.out[0] if output.ok and output.out else ""
        compared[name] = replace(there[name], secrets=secrets)
    return compared


def _image_orders(
    deployment: nodes.Deployment,
    facts: Mapping[str, NodeFacts],
    desired: Mapping[str, wanted.NodeWanted],
    there: Mapping[str, MonitoringReading],
    address: str,
) -> tuple[tuple[ImageOrder, bool], ...]:
    """Each image for the nodes that run it, the head first: pulled there, and spread from it. A
    host that only monitors pulls its own."""
    settings, orders = deployment.settings, []
    for kind, image in wanted.part_images(settings).items():
        at = [n for n in desired if kind in {w.part.kind for w in desired[n].parts}]
        if not at:
            continue
        order = ImageOrder(
            image=image,
            pull=settings.pull,
            hosts={name: deployment.hosts[name] for name in at},
            records={
                n: cache_root(deployment.settings_of(deployment.hosts[n]), facts[n]) for n in at
            },
            address=address,
            seconds=settings.pull_timeout,
        )
        have = {name: there[name].images.get(image) for name in at}
        needed = images.needs_delivery(image, have, settings.pull, restart=True)
        orders.append((order, needed))
    return tuple(orders)


def _remarks(deployment: nodes.Deployment) -> list[Finding]:
    """What a user must know of monitoring as it is declared."""
    settings, remarks = deployment.settings, []
    if not settings.enable_metrics:
        what = "enable_metrics = false: Prometheus scrapes the nodes, and nothing of SGLang"
        remarks.append(
            warning(what, cure="--data enable_metrics=true, with deploy.py", key="metrics-off")
        )
    if settings.monitoring_address == EVERYWHERE:
        what = f"monitoring_address = {EVERYWHERE!r}: anyone who reaches their host may use them"
        remarks.append(
            warning(what, cure="--data monitoring_address=loopback", key="monitoring-open")
        )
    if not settings.alert_receiver:
        what = "alert_receiver is not set: nobody is notified of an alert"
        remarks.append(
            warning(
                what, cure="--data alert_receiver=FILE: see docs/monitoring.md", key="no-receiver"
            )
        )
    if settings.grafana_anonymous and not settings.grafana_password_file:
        what = "grafana_anonymous = true: there is no Grafana without grafana_password_file"
        remarks.append(
            warning(what, cure="--data grafana_password_file=FILE", key="grafana-anonymous")
        )
    if settings.api_key_file:
        logger.info("    note: the API requires a key, and SGLang leaves /metrics open without it")
    return remarks
