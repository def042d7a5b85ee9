"""What no group uses any more: read from every node, listed, and handed to its removal."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from pyinfra import logger
from pyinfra.api import Host, State

from cluster.catalog import models
from cluster.findings import Finding, error, refuse_errors
from cluster.node.readings import NodeFacts
from cluster.plan.decide import unreadable_ranks
from cluster.plan.specs import cache_root, expand
from cluster.printable import printable
from cluster.reports.unused import unused_document
from cluster.settings.resolve import image_reference
from cluster.transfer.prune_plan import Declared, StoredItem, find_running, find_unused
from control import converge, deployment as nodes, inventory, lease, run
from operations import shell
from operations.prune import Removal, read_kept


@dataclass(frozen=True)
class PruneRun:
    """What the nodes keep that no group uses; mappings are by node name.

    + busy: groups that another run is changing now
    """

    deployment: nodes.Deployment
    facts: Mapping[str, NodeFacts]
    items: Mapping[str, tuple[StoredItem, ...]]
    busy: tuple[Finding, ...]


def plan_prune(state: State) -> dict[str, Removal]:
    """Node -> what is to be removed there; logged, or Refused as a whole."""
    survey = _find(state, changes=True)
    removals = {}
    for name, items in survey.items.items():
        for item in items or ("nothing is unused",):
            logger.info(f"    plan: {name}: {printable(str(item))}")
        hub, root = _folders(survey.deployment, name, survey.facts[name])
        ours = tuple((item.kind, item.name) for item in items if not item.why)
        removals[name] = Removal(hub, root, ours, lambda: lease.lost(state))
    return removals


def print_unused(state: State) -> None:
    """Print what is unused as one document."""
    survey = _find(state, changes=False)
    run.print_document(unused_document(survey.items, survey.busy))


def _find(state: State, *, changes: bool) -> PruneRun:
    """Read every node that runs containers.

    + changes: hold the lease on the group, and refuse while another group is being changed
    """
    deployment = converge.declared_deployment(state)
    if changes:
        run.report_on(deployment)
        lease.take(state, deployment.declaration)
    hosts = {
        name: host
        for name, host in deployment.hosts.items()
        if deployment.settings_of(host).runtime == "docker"
    }
    facts = nodes.read_light(hosts, deployment.declaration)
    refuse_errors(unreadable_ranks(facts))
    stored = shell.require_all(
        read_kept(hosts, {name: _folders(deployment, name, facts[name]) for name in hosts}),
        lambda node, why: error(
            f"what it keeps could not be read: {printable(why)}",
            node,
            f"ssh {node} docker info",
            key="node-unreadable",
        ),
    )
    group = deployment.settings.group
    busy = tuple(f for node, there in stored.items() for f in find_running(node, there, group))
    if changes and not inventory.only_reads():
        refuse_errors(busy)
    of_sglang = {
        image_reference(layer.image)
        for model in models.catalog()
        for layer in (model, *model.variants)
        if layer.image
    }
    items = {
        name: find_unused(
            there,
            facts[name].ranks,
            _declared(deployment, hosts[name], facts[name]),
            {*of_sglang, deployment.settings.image},
        )
        for name, there in stored.items()
    }
    return PruneRun(deployment, facts, items, busy)


def _folders(deployment: nodes.Deployment, node: str, facts: NodeFacts) -> tuple[str, str]:
    """The hub's folder, and `cache_dir`, on a node."""
    settings = deployment.settings_of(deployment.hosts[node])
    return f"{expand(settings.hf_cache, facts).rstrip('/')}/hub", cache_root(settings, facts)


def _declared(deployment: nodes.Deployment, host: Host, facts: NodeFacts) -> Declared:
    settings, catalog = deployment.settings_of(host), deployment.declaration.catalog
    count = len(deployment.declaration.nodes) + len(deployment.declaration.idle)
    return Declared(
        texts=(deployment.model.id, msgspec.json.encode([settings, catalog]).decode()),
        image_id=facts.image.id if facts.image else "",
        ranks=tuple(f"{settings.group}-{rank}" for rank in range(count)),
    )
