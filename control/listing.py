"""The listing of an inventory: read from its nodes, or, `light`, from the inventory alone."""

import os
from dataclasses import replace
from pathlib import Path

from pyinfra.api import Host, State

from cluster.catalog import models
from cluster.node.readings import Weights
from cluster.plan import decide, specs
from cluster.reports import listing
from cluster.settings.resolve import resolve
from control import converge, inventory, run
from facts.weights import ModelWeights
from operations import shell

MACHINE_ID = Path("/etc/machine-id")
# If a node's disk hangs, the revision stays unknown.
WEIGHTS_SECONDS = 30


def print_listing(state: State) -> None:
    """Print the listing, or the light one of the inventory that the data name."""
    light = next(iter(state.inventory)).data.get("light")
    run.print_document(light_listing(str(light)) if light else read_listing(state))


def read_listing(state: State) -> listing.Listing:
    """What runs, as the nodes themselves say."""
    deployment = converge.read_deployment(state)
    ranks = deployment.decision.running_ranks

    def read_weights(host: Host) -> Weights | None:
        """What the node's disk holds of the model that its rank runs; None if not known."""
        if (spec := ranks[host.name].spec) is None:
            return None
        cache, fact = listing.cache_folder(spec), ModelWeights()
        if not cache and not spec.model.startswith(("/", "~/")):
            return None
        command = fact.command(spec.model, cache)
        return shell.read_fact(host, fact, command, WEIGHTS_SECONDS).value

    weights = shell.on_all(
        [host for name, host in deployment.serving.items() if name in ranks],
        read_weights,
    )
    own_id = MACHINE_ID.read_text().strip() if MACHINE_ID.is_file() else ""
    nodes = []
    for name, host in deployment.hosts.items():
        same_machine = bool(own_id) and deployment.facts[name].machine_id == own_id
        here = _is_local(host) or same_machine
        nodes.append(listing.listed_node(name, here, _ssh_access(host), weights.get(name)))
    head = deployment.hosts[deployment.declaration.head]
    spec = ranks[head.name].spec if head.name in ranks else None
    return listing.build_listing(
        deployment.settings,
        deployment.model,
        inventory.api_url(head, spec.launch if spec else deployment.settings),
        tuple(nodes),
        ranks,
        api_key_file=_absolute(deployment.settings.api_key_file),
        notes=tuple(map(str, decide.unreadable_ranks(deployment.readings.nodes))),
        variant=deployment.declaration.catalog.variant,
    )


def light_listing(name: str) -> listing.Listing:
    """What an inventory's file and group data declare; no node is read."""
    hosts = inventory.all_hosts(inventory.load_inventory(name, connect=False))
    declaration = inventory.declared_settings(hosts)
    model = models.find_model(declaration.common.model)
    declaration = resolve(declaration, model)
    settings, names = declaration.common, specs.rank_names(declaration)
    nodes = []
    for host in hosts:
        node = listing.ListedNode(name=host.name, here=_is_local(host), ssh=_ssh_access(host))
        if host.name in declaration.nodes:
            runtime = declaration.nodes[host.name].runtime
            node = replace(node, rank=names[host.name], runtime=runtime)
        nodes.append(node)
    head = next(host for host in hosts if host.name == declaration.head)
    return listing.build_listing(
        settings,
        model,
        inventory.api_url(head, settings),
        tuple(nodes),
        {},
        light=True,
        api_key_file=_absolute(settings.api_key_file),
        variant=declaration.catalog.variant,
    )


def _is_local(host: Host) -> bool:
    return host.name.startswith("@local")


def _ssh_access(host: Host) -> listing.SshAccess | None:
    """How pyinfra connects to the node; None if not by SSH."""
    if host.name.startswith("@") and not host.name.startswith("@ssh/"):
        return None
    data = host.data.get
    return listing.SshAccess(
        hostname=str(data("ssh_hostname") or host.name),
        user=str(data("ssh_user") or ""),
        port=int(data("ssh_port") or 0),
        key_file=_absolute(data("ssh_key")),
        config_file=_absolute(data("ssh_config_file")),
        known_hosts_file=_absolute(data("ssh_known_hosts_file")),
        # pyinfra's own default.
        strict_host_key_checking=str(data("ssh_strict_host_key_checking") or "accept-new"),
    )


def _absolute(path: str | None) -> str:
    """The path as any other program needs it: pyinfra resolves it in its own working folder."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""
