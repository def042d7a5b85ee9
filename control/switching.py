"""What a switch needs of a deployment: the declared group, and the one before it."""

from __future__ import annotations

from pyinfra.api import State

from cluster.command import Command
from cluster.engine.readiness import Limits, ready_seconds
from cluster.node.host import drop_caches
from cluster.rank import docker
from cluster.rank.api_key import is_keyed
from cluster.rank.spec import group_urls
from control import gather, lease
from control.deployment import Deployment
from operations.group import Group
from operations.switch import Switch


def build_switch(made: Deployment) -> Switch | None:
    """From what runs to what is declared, by the plan as it is now; None: nothing is to be done."""
    if not made.plan.changes and (made.served is not None or not made.running):
        return None
    return Switch(
        hosts=made.hosts,
        runtime=made.runtime,
        plan=made.plan,
        stop_seconds=made.settings.stop_timeout,
        group=_declared(made) if made.running and made.served is None else None,
        previous=_previous(made),
        lost=lambda: lease.lost(_state(made)),
        taken=lambda: lease.taken(_state(made)),
    )


def _state(made: Deployment) -> State:
    return next(iter(made.hosts.values())).state


def _before_start(made: Deployment) -> Command | None:
    """The page cache goes before a load, where that is asked for."""
    settings = made.settings
    return drop_caches(settings.image) if settings.drop_caches and made.runtime is docker else None


def _declared(made: Deployment) -> Group:
    rank = next(iter(made.specs.values())).name
    return Group(
        hosts=made.serving,
        specs=made.specs,
        runtime=made.runtime,
        model=made.model_name,
        url=made.own_url,
        limits=Limits(made.ready_seconds),
        stop_seconds=made.settings.stop_timeout,
        start=made.plan.restart,
        restarts={} if made.plan.restart else made.restarts(),
        fetch_answers=lambda: gather.answers(made, made.urls, made.model_name, rank),
        rdma=made.fabric.transport == "rdma",
        before_start=_before_start(made),
    )


def _previous(made: Deployment) -> Group | None:
    """The group to put back, as its labels tell of it."""
    if (known := made.plan.before) is None:
        return None
    specs = known.specs
    urls = group_urls(specs)
    head, first = next(iter(specs.items()))
    return Group(
        hosts={node: made.hosts[node] for node in specs},
        specs=specs,
        runtime=made.runtime,
        model=known.model,
        url=urls[0],
        limits=Limits(ready_seconds(made.settings.ready_timeout, len(specs))),
        stop_seconds=made.settings.stop_timeout,
        start=True,
        restarts={},
        fetch_answers=lambda: gather.answers(
            made, urls, known.model, head=head, keyed=is_keyed(first.volumes)
        ),
        rdma=False,
        before_start=_before_start(made),
    )
