"""What a switch needs of a deployment: the declared group, and the one before it."""

from pyinfra.api import State

from cluster.command import Command
from cluster.engine.readiness import Limits, ready_seconds
from cluster.node.host import drop_caches
from cluster.rank import docker
from cluster.rank.api_key import is_keyed
from cluster.rank.spec import group_urls
from control import lease, read
from control.deployment import Deployment
from operations.group import Group
from operations.switch import Switch


def build_switch(deployment: Deployment) -> Switch | None:
    """From what runs to what is declared, by the plan as it is now; None: nothing is to be done."""
    if not deployment.plan.changes and (deployment.served is not None or not deployment.running):
        return None
    return Switch(
        hosts=deployment.hosts,
        runtime=deployment.runtime,
        plan=deployment.plan,
        stop_seconds=deployment.settings.stop_timeout,
        group=_declared(deployment) if deployment.running and deployment.served is None else None,
        previous=_previous(deployment),
        lost=lambda: lease.lost(_state(deployment)),
        taken=lambda: lease.taken(_state(deployment)),
    )


def _state(deployment: Deployment) -> State:
    return next(iter(deployment.hosts.values())).state


def _before_start(deployment: Deployment) -> Command | None:
    """The page cache goes before a load, where that is asked for."""
    settings = deployment.settings
    return (
        drop_caches(settings.image)
        if settings.drop_caches and deployment.runtime is docker
        else None
    )


def _declared(deployment: Deployment) -> Group:
    rank = next(iter(deployment.specs.values())).name
    return Group(
        hosts=deployment.serving,
        specs=deployment.specs,
        runtime=deployment.runtime,
        model=deployment.model_name,
        url=deployment.own_url,
        limits=Limits(deployment.ready_seconds),
        stop_seconds=deployment.settings.stop_timeout,
        start=deployment.plan.restart,
        restarts={} if deployment.plan.restart else deployment.restarts(),
        fetch_answers=lambda: read.read_answers(
            deployment, deployment.urls, deployment.model_name, rank
        ),
        rdma=deployment.fabric.transport == "rdma",
        before_start=_before_start(deployment),
    )


def _previous(deployment: Deployment) -> Group | None:
    """The group to put back, as its labels tell of it."""
    if (previous := deployment.plan.previous) is None:
        return None
    specs = previous.specs
    urls = group_urls(specs)
    head, first = next(iter(specs.items()))
    return Group(
        hosts={node: deployment.hosts[node] for node in specs},
        specs=specs,
        runtime=deployment.runtime,
        model=previous.model,
        url=urls[0],
        limits=Limits(ready_seconds(deployment.settings.ready_timeout, len(specs))),
        stop_seconds=deployment.settings.stop_timeout,
        start=True,
        restarts={},
        fetch_answers=lambda: read.read_answers(
            deployment, urls, previous.model, head=head, keyed=is_keyed(first.volumes)
        ),
        rdma=False,
        before_start=_before_start(deployment),
    )
