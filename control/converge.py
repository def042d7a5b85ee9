"""From an inventory to a decision: read, decide, check, refuse. Once for the whole cluster, and
once more when an image or weights have come."""

from dataclasses import replace

import gevent
from pyinfra import logger
from pyinfra.api import Host, State

from cluster.catalog.models import find_model
from cluster.engine import serving
from cluster.findings import Finding, Level, Refused
from cluster.plan.decide import Decision, Readings, decide, exposure_findings, probes_off
from cluster.plan.plan import find_split_group
from cluster.plan.previous_group import members
from cluster.rank.api_key import compare_key
from cluster.reports.status import start_time
from cluster.settings.resolve import resolve, source_lines
from control import deployment as nodes, inventory, lease, run, secrets
from operations import outcome, shell

# Seconds until a serving group is queried again: one odd answer is no reason to restart it.
PAUSES = (3, 6)
LEFT_OUT_SECONDS = 40


def current_deployment(host: Host) -> nodes.Deployment:
    """The run's deployment, one for all hosts; DeployError if it is refused."""
    return run.shared(host.state, _begin)


def _begin(state: State) -> nodes.Deployment:
    outcome.begin_step("check")
    deployment = declared_deployment(state)
    run.report_on(deployment)
    lease.take(state, deployment.declaration)
    redecide(deployment)
    return deployment


def declared_deployment(state: State) -> nodes.Deployment:
    """What is declared, before any node is read."""
    hosts = inventory.all_hosts(state.inventory)
    declaration = inventory.declared_settings(hosts)
    model = find_model(declaration.common.model)
    if declaration.common.state == "running":
        inventory.refuse_limit(
            state,
            [h for h in hosts if h.name in declaration.nodes],
            " of the group: its ranks run together",
            cure="run without --limit, or add --data head_only=true to serve from the head",
        )
    return nodes.Deployment(
        hosts={h.name: h for h in hosts if state.is_host_in_limit(h)},
        left_out={h.name: h for h in hosts if not state.is_host_in_limit(h)},
        decision=Decision(resolve(declaration, model), model, Readings(), {}),
    )


def read_deployment(state: State) -> nodes.Deployment:
    """What is declared and what runs, for reports; the head's image is not queried for
    its version."""
    deployment = declared_deployment(state)
    readings = Readings(nodes.read_light(deployment.hosts, deployment.declaration))
    deployment.decision = decide(deployment.declaration, deployment.model, readings)
    return deployment


def redecide(deployment: nodes.Deployment) -> None:
    """Read the nodes, decide and check anew, and log it; Refused before anything stops."""
    deployment.served = None
    read_and_decide(deployment)
    if deployment.decision.refusal:
        raise Refused(*deployment.decision.refusal)
    restart = ""
    if deployment.running and not deployment.plan.restart:
        restart = _reason_to_restart(deployment)
    if deployment.running and (deployment.plan.changes or restart):
        # Everything that can be refused, before the first change.
        from control import preflight  # a converged run does not need it

        findings, full = preflight.preflight(deployment)
        deployment.decision = _decide(deployment, deployment.readings.updated(full), restart)
        if deployment.decision.refusal:
            raise Refused(*deployment.decision.refusal)
        deployment.served = None if deployment.plan.restart else deployment.served
        differing = preflight.image_differs(deployment.decision, full)
        deployment.findings = tuple(dict.fromkeys([*deployment.findings, *findings, *differing]))
    if deployment.left_out and any(step.stop for step in deployment.plan.steps):
        # A node that does not answer runs nothing that we could split.
        readings = shell.on_all(
            deployment.left_out.values(),
            lambda host: nodes.read_node(
                host, nodes.reading_options(host.name, deployment.declaration), LEFT_OUT_SECONDS
            ),
        )
        left_out = {node: reading.value for node, reading in readings.items() if reading.value}
        group = deployment.settings.group
        deployment.findings += tuple(find_split_group(deployment.plan, left_out, group))
    if any(finding.level is Level.ERROR for finding in deployment.findings):
        raise Refused(*deployment.findings)
    _log_decision(deployment)


def read_and_decide(deployment: nodes.Deployment) -> None:
    """Read every node as far as a converged run needs it, and decide."""
    readings = Readings(nodes.read_light(deployment.hosts, deployment.declaration))
    deployment.decision = _decide(deployment, readings)
    exposed = exposure_findings(deployment.decision, runs=False) if deployment.running else ()
    unproven = probes_off(deployment.settings)
    deployment.findings = (*deployment.decision.findings, *exposed, *unproven)


def _decide(deployment: nodes.Deployment, readings: Readings, restart: str = "") -> Decision:
    """The decision on these readings; the head's image is queried for its version if it must be."""
    declaration, model = deployment.declaration, deployment.model
    decision = decide(declaration, model, readings, restart)
    if decision.undecided_image:
        version = nodes.read_image_version(deployment.head, deployment.settings.image)
        decision = decide(declaration, model, replace(readings, version=version), restart)
    return decision


def _reason_to_restart(deployment: nodes.Deployment) -> str:
    """Why a group that needs no change must restart: it does not serve. "" if it serves, or may
    still become ready by itself."""
    served, problems = _ask_group(deployment)
    if problems and deployment.docker:
        # How long it may take to start depends on what its nodes have compiled before.
        full = nodes.read_full(deployment.serving, deployment.decision)
        deployment.decision = _decide(deployment, deployment.readings.updated(full))
    for pause in PAUSES:
        if not problems or serving.locked(served) or _is_starting(deployment):
            break
        gevent.sleep(pause)
        served, problems = _ask_group(deployment)
    if not problems:
        deployment.served = served
        return ""
    if serving.locked(served) or not _is_starting(deployment):
        return str(problems[0])
    # Rank 0 can't start if its node has no key, or a different one.
    settings = deployment.settings
    if settings.runtime != "docker" or not (key := secrets.find_api_key(settings.api_key_file)):
        return ""
    command = compare_key(settings.group, settings.image, key)
    answer = shell.run_command(deployment.head, command)
    state = answer.out[0] if answer.out else ""
    return f"api key: {state} on its node" if state in ("missing", "different") else ""


def _ask_group(deployment: nodes.Deployment) -> tuple[serving.GroupAnswers, tuple[Finding, ...]]:
    """What the group answers, and what is wrong with it. A completion that waits its turn behind a
    real load, while every rank is healthy, is not a problem."""
    served = nodes.read_answers(deployment, deployment.urls, deployment.model_name)
    if serving.busy(served, deployment.model_name):
        return served, ()
    names = deployment.declaration.names
    return served, serving.serving_problems(served, names, deployment.model_name)


def _is_starting(deployment: nodes.Deployment) -> bool:
    """Whether any running rank is younger than the time its group may take to become ready."""
    return any(
        reading.clock - begun < deployment.ready_limits.ready
        for reading in deployment.facts.values()
        for rank in members(reading, deployment.settings.group)
        if rank.running and (begun := start_time(rank)) is not None
    )


def _log_decision(deployment: nodes.Deployment) -> None:
    """Log each warning once, where values come from in a dry run, and what will change."""
    for finding in deployment.findings:
        if finding.level is Level.WARNING and finding not in deployment.reported:
            deployment.reported.add(finding)
            logger.warning(f"    warning: {finding}")
    if deployment.fabric.summary:
        logger.info(f"    fabric: {deployment.fabric.summary}")
    if inventory.only_reads() and deployment.running:
        for line in source_lines(deployment.declaration):
            logger.info(f"    value: {line}")
        from cluster.checks.declared_use import memory_lines  # a converged run does not need it

        decision = deployment.decision
        serving_nodes = [deployment.facts[name] for name in deployment.declaration.names]
        for line in memory_lines(
            deployment.declaration,
            deployment.described or decision.model,
            serving_nodes,
            decision.version,
        ):
            logger.info(f"    memory: {line}")
    for line in deployment.plan.lines():
        logger.info(f"    plan: {line}")
    if deployment.served:
        logger.info(
            f"    serving: {deployment.model_name} on {len(deployment.declaration.names)} node(s), "
            f"answered in {deployment.served.seconds:.2f} s"
        )
