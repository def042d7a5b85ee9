"""From an inventory to a plan: read, decide, refuse. Once for the whole cluster, and once more
when an image has come."""

from __future__ import annotations

import gevent
from pyinfra import logger
from pyinfra.api import Host, State

from cluster.catalog import models
from cluster.engine import serving
from cluster.fabric import FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Finding, Level, Refused
from cluster.plan.plan import find_split_group, make_plan
from cluster.plan.previous_group import undo_interrupted_switch
from cluster.plan.specs import declared_specs
from cluster.settings.declaration import Declaration
from control import gather, lease, running, secrets
from control.deployment import Deployment
from control.inventory import all_hosts, declared_settings, refuse_split
from control.outcome import follow
from control.shared import shared
from operations import outcome

# One odd answer of a serving group is no reason to restart it: seconds until it is asked again.
ASK_AGAIN = (3, 6)


def deployment(host: Host) -> Deployment:
    """The run's deployment, one for all hosts; DeployError where it is refused."""
    return shared(host.state, _make)


def _make(state: State) -> Deployment:
    outcome.begin_step("check")
    made = begin(state)
    follow(made)
    lease.take(state, made.wanted)
    decide(made)
    report(made)
    return made


def begin(state: State) -> Deployment:
    """What is wanted, before any node is read."""
    everyone = all_hosts(state.inventory)
    wanted = declared_settings(everyone)
    if wanted.common.state == "running":
        refuse_split(state, [h for h in everyone if h.name in wanted.nodes])
    return Deployment(
        hosts={h.name: h for h in everyone if state.is_host_in_limit(h)},
        left_out={h.name: h for h in everyone if not state.is_host_in_limit(h)},
        wanted=wanted,
        model=models.find_model(wanted.common.model),
    )


def decide(made: Deployment) -> None:
    """Read, plan and check, now or once more; Refused before anything stops."""
    refresh(made)
    if made.running and not made.plan.restart:
        judge(made)
    if made.running and made.plan.changes:
        check(made)
    if made.left_out and any(step.stop for step in made.plan.steps):
        made.findings += tuple(
            find_split_group(made.plan, gather.left_out(made), made.settings.group)
        )
    if made.errors():
        raise Refused(*made.findings)


def again(made: Deployment) -> None:
    """Decide once more, and tell what that changed."""
    decide(made)
    report(made)


def refresh(made: Deployment) -> None:
    """Read every node, decide the fabric, the specs and the plan."""
    made.served, made.restart, made.full = None, "", {}
    made.facts = gather.light(made.hosts, made.wanted)
    if not made.running:
        made.findings = gather.unreadable(made.facts)
        made.plan = make_plan({}, made.facts, made.settings.state, group=made.settings.group)
        return
    made.fabric = choose_fabric(
        [made.facts[name] for name in made.wanted.names], fabric_options(made.wanted)
    )
    idle = {name: seen for name, seen in made.facts.items() if name in made.wanted.idle}
    made.findings = (*made.fabric.findings, *gather.unreadable(idle))
    made.version = gather.sglang_version(made.serving, made.facts, made.settings)
    made.findings += running.exposed(made, runs=False)
    made.specs = declared_specs(made.wanted, made.model, made.fabric, made.facts, made.version)
    _replan(made)


def judge(made: Deployment) -> None:
    """A group that needs no change must also serve: if it does not, and is not just starting, it
    restarts."""
    served, wrong = _ask(made)
    for pause in ASK_AGAIN:
        if not wrong or serving.locked(served) or _starting(made):
            break
        gevent.sleep(pause)
        served, wrong = _ask(made)
    if not wrong:
        made.served = served
    elif why := _restart(made, served, wrong):
        made.restart = why
        _replan(made)
    else:
        made.full = gather.full(made.serving, made)


def _restart(made: Deployment, served: serving.GroupAnswers, wrong: tuple[Finding, ...]) -> str:
    """Why a group that does not serve must restart; "" where it may yet get ready by itself."""
    if serving.locked(served) or not _starting(made):
        return str(wrong[0])
    return secrets.key_problem(made)


def _starting(made: Deployment) -> bool:
    return gather.starting(made.facts, made.settings.group, made.ready_seconds)


def _ask(made: Deployment) -> tuple[serving.GroupAnswers, tuple[Finding, ...]]:
    """What the group answers, and what is wrong with it. A completion that waits its turn behind a
    real load, while every rank is healthy, is nothing wrong."""
    served = gather.served(made)
    if serving.busy(served, made.model_name):
        return served, ()
    return served, serving.serving_problems(served, made.wanted.names, made.model_name)


def check(made: Deployment) -> None:
    """Everything that can be refused, before the first change."""
    from control import preflight  # a converged run does without

    findings, made.full = preflight.preflight(made)
    # The later reading counts: a container may have come or gone since the first.
    made.facts |= made.full
    _replan(made)
    made.served = None if made.plan.restart else made.served
    made.findings = tuple(
        dict.fromkeys([*made.findings, *findings, *preflight.image_differs(made, made.full)])
    )


def fabric_options(wanted: Declaration) -> FabricOptions:
    """What the settings say of the fabric."""
    common = wanted.common
    by_node = {
        name: NodeOverrides(
            s.address, s.nccl_ib_hca, s.nccl_socket_ifname, s.gloo_socket_ifname, s.env
        )
        for name, s in wanted.nodes.items()
    }
    return FabricOptions(common.rdma, common.twins, by_node)


def report(made: Deployment) -> None:
    """Tell, once, what was found and what will change."""
    for finding in made.findings:
        if finding.level is Level.WARNING and finding not in made.reported:
            made.reported.add(finding)
            logger.warning(f"    warning: {finding}")
    if made.fabric.summary:
        logger.info(f"    fabric: {made.fabric.summary}")
    for line in made.plan.lines():
        logger.info(f"    plan: {line}")
    if made.served:
        logger.info(
            f"    serving: {made.model_name} on {len(made.wanted.names)} node(s), "
            f"answered in {made.served.seconds:.2f} s"
        )


def _replan(made: Deployment) -> None:
    """Plan from what the nodes are once an interrupted switch is undone."""
    group = made.settings.group
    made.facts = undo_interrupted_switch(made.facts, made.specs, group)
    made.plan = make_plan(
        made.specs,
        made.facts,
        "running",
        restart=made.restart,
        group=group,
        rollback=made.settings.rollback,
    )
