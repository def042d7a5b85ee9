"""From an inventory to a decision: read, decide, check, refuse. Once for the whole cluster, and
once more when an image or weights have come."""

from dataclasses import replace

import gevent
from pyinfra import logger
from pyinfra.api import Host, State

from cluster.catalog.models import find_model
from cluster.engine import serving
from cluster.findings import Finding, Level, Refused
from cluster.plan.decide import Decision, Readings, decide, exposure_findings
from cluster.plan.plan import find_split_group
from control import lease, read, secrets
from control.deployment import Deployment
from control.inventory import all_hosts, declared_settings, refuse_limit
from control.outcome import follow
from control.shared import shared
from operations import outcome

# One odd answer of a serving group is no reason to restart it: seconds until it is asked again.
PAUSES = (3, 6)


def current_deployment(host: Host) -> Deployment:
    """The run's deployment, one for all hosts; DeployError if it is refused."""
    return shared(host.state, _begin)


def _begin(state: State) -> Deployment:
    outcome.begin_step("check")
    deployment = declared_deployment(state)
    follow(deployment)
    lease.take(state, deployment.declaration)
    redecide(deployment)
    return deployment


def declared_deployment(state: State) -> Deployment:
    """What is declared, before any node is read."""
    hosts = all_hosts(state.inventory)
    declaration = declared_settings(hosts)
    if declaration.common.state == "running":
        refuse_limit(
            state,
            [h for h in hosts if h.name in declaration.nodes],
            " of the group: its ranks run together",
            cure="run without --limit, or add --data head_only=true to serve from the head",
        )
    return Deployment(
        hosts={h.name: h for h in hosts if state.is_host_in_limit(h)},
        left_out={h.name: h for h in hosts if not state.is_host_in_limit(h)},
        decision=Decision(declaration, find_model(declaration.common.model), Readings(), {}),
    )


def read_deployment(state: State) -> Deployment:
    """What is declared and what runs, for reports; the head's image is not asked for anything."""
    deployment = declared_deployment(state)
    nodes = read.read_light(deployment.hosts, deployment.declaration)
    deployment.decision = decide(deployment.declaration, deployment.model, Readings(nodes))
    return deployment


def redecide(deployment: Deployment) -> None:
    """Read the nodes, decide and check anew, and log it; Refused before anything stops."""
    deployment.served = None
    read_and_decide(deployment)
    if deployment.decision.refusal:
        raise Refused(*deployment.decision.refusal)
    restart = _judge(deployment) if deployment.running and not deployment.plan.restart else ""
    if deployment.running and (deployment.plan.changes or restart):
        _check(deployment, restart)
    if deployment.left_out and any(step.stop for step in deployment.plan.steps):
        left_out = read.read_left_out(deployment)
        group = deployment.settings.group
        deployment.findings += tuple(find_split_group(deployment.plan, left_out, group))
    if any(finding.level is Level.ERROR for finding in deployment.findings):
        raise Refused(*deployment.findings)
    _log_decision(deployment)


def read_and_decide(deployment: Deployment) -> None:
    """Read every node as far as a converged run needs it, and decide."""
    nodes = read.read_light(deployment.hosts, deployment.declaration)
    deployment.decision = decide_on(deployment, Readings(nodes))
    exposed = exposure_findings(deployment.decision, runs=False) if deployment.running else ()
    deployment.findings = (*deployment.decision.findings, *exposed)


def decide_on(deployment: Deployment, readings: Readings, restart: str = "") -> Decision:
    """The decision on these readings; the head's image is asked for its version if it must be."""
    declaration, model = deployment.declaration, deployment.model
    decision = decide(declaration, model, readings, restart)
    if decision.undecided_image:
        version = read.read_image_version(deployment.head, deployment.settings.image)
        decision = decide(declaration, model, replace(readings, version=version), restart)
    return decision


def _judge(deployment: Deployment) -> str:
    """A group that needs no change must also serve. Why it must restart; "" if it serves, or may
    yet get ready by itself."""
    served, wrong = _ask(deployment)
    for pause in PAUSES:
        if not wrong or serving.locked(served) or _is_starting(deployment):
            break
        gevent.sleep(pause)
        served, wrong = _ask(deployment)
    if not wrong:
        deployment.served = served
        return ""
    if serving.locked(served) or not _is_starting(deployment):
        return str(wrong[0])
    return secrets.key_problem(deployment)


def _is_starting(deployment: Deployment) -> bool:
    facts, group = deployment.facts, deployment.settings.group
    return read.is_starting(facts, group, deployment.ready_seconds)


def _ask(deployment: Deployment) -> tuple[serving.GroupAnswers, tuple[Finding, ...]]:
    """What the group answers, and what is wrong with it. A completion that waits its turn behind a
    real load, while every rank is healthy, is nothing wrong."""
    served = read.read_answers(deployment, deployment.urls, deployment.model_name)
    if serving.busy(served, deployment.model_name):
        return served, ()
    names = deployment.declaration.names
    return served, serving.serving_problems(served, names, deployment.model_name)


def _check(deployment: Deployment, restart: str) -> None:
    """Everything that can be refused, before the first change."""
    from control import preflight  # a converged run does without

    findings, full = preflight.preflight(deployment)
    readings = deployment.readings.updated(full)
    deployment.decision = decide_on(deployment, readings, restart)
    if deployment.decision.refusal:
        raise Refused(*deployment.decision.refusal)
    deployment.served = None if deployment.plan.restart else deployment.served
    differing = preflight.image_differs(deployment.decision, full)
    deployment.findings = tuple(dict.fromkeys([*deployment.findings, *findings, *differing]))


def _log_decision(deployment: Deployment) -> None:
    """Log each warning once, and what will change."""
    for finding in deployment.findings:
        if finding.level is Level.WARNING and finding not in deployment.reported:
            deployment.reported.add(finding)
            logger.warning(f"    warning: {finding}")
    if deployment.fabric.summary:
        logger.info(f"    fabric: {deployment.fabric.summary}")
    for line in deployment.plan.lines():
        logger.info(f"    plan: {line}")
    if deployment.served:
        logger.info(
            f"    serving: {deployment.model_name} on {len(deployment.declaration.names)} node(s), "
            f"answered in {deployment.served.seconds:.2f} s"
        )
