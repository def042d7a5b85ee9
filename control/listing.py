"""The listing of an inventory: read from its nodes, or, `light`, from the inventory alone."""

import os
from dataclasses import replace
from pathlib import Path

import msgspec
from pyinfra.api import Host, State

from cluster.catalog import models
from cluster.node.readings import Rank, Weights
from cluster.plan.decide import unreadable_ranks
from cluster.plan.specs import rank_names
from cluster.printable import json_text
from cluster.reports import listing
from cluster.reports.feasible import judge_cases
from cluster.reports.listing import ListedNode, SshAccess
from cluster.settings.declaration import Declaration
from control import hosts, secrets
from control.converge import read_deployment
from control.deployment import Deployment
from control.inventory import all_hosts, api_url, declared_data, declared_settings
from facts.weights import ModelWeights
from operations import shell

MACHINE_ID = Path("/etc/machine-id")
# Of a node whose disk hangs, the revision stays unknown.
WEIGHTS_SECONDS = 30


def print_listing(state: State) -> None:
    """Print the listing on stdout; pyinfra's own words go to stderr."""
    light = next(iter(state.inventory)).data.get("light")
    deployment = _light(str(light)) if light else read_listing(state)
    print(json_text(msgspec.json.encode(deployment)), flush=True)


def read_listing(state: State) -> listing.Listing:
    """What runs, as the nodes themselves tell it."""
    deployment = read_deployment(state)
    ranks = deployment.decision.running_ranks
    weights = shell.on_all(
        [h for name, h in deployment.serving.items() if name in ranks], lambda h: _weights(h, ranks)
    )
    places = tuple(
        listing.listed_node(name, _here(host, deployment), _ssh(host), weights.get(name))
        for name, host in deployment.hosts.items()
    )
    head = deployment.hosts[deployment.declaration.head]
    spec = ranks[head.name].spec if head.name in ranks else None
    return listing.build_listing(
        deployment.settings,
        deployment.model,
        api_url(head, spec.launch if spec else deployment.settings),
        places,
        ranks,
        api_key_file=_file(deployment.settings.api_key_file),
        notes=tuple(map(str, unreadable_ranks(deployment.readings.nodes))),
    )


def print_feasible(state: State) -> None:
    """Print which of the `cases` the inventory `light` could be deployed with."""
    asked = next(iter(state.inventory)).data
    hosts = [declared_data(host) for host in _hosts(str(asked.get("light")))]
    found = judge_cases(hosts, asked.get("cases"), lambda file: bool(secrets.find_token(file)))
    print(json_text(msgspec.json.encode(found)), flush=True)


def _light(inventory: str) -> listing.Listing:
    """No node is asked: what its file and group data declare."""
    hosts = _hosts(inventory)
    wanted = declared_settings(hosts)
    settings = wanted.common
    head = next(host for host in hosts if host.name == wanted.head)
    places = tuple(_declared_place(h, wanted) for h in hosts)
    url = api_url(head, settings)
    key_file = _file(settings.api_key_file)
    return listing.build_listing(
        settings,
        models.find_model(settings.model),
        url,
        places,
        {},
        light=True,
        api_key_file=key_file,
    )


def _declared_place(host: Host, wanted: Declaration) -> ListedNode:
    there = ListedNode(name=host.name, here=_local(host), ssh=_ssh(host))
    if host.name not in wanted.nodes:
        return there
    settings = wanted.nodes[host.name]
    return replace(there, rank=rank_names(wanted)[host.name], runtime=settings.runtime)


def _hosts(inventory: str) -> list[Host]:
    return all_hosts(hosts.load(inventory, ways=False))


def _weights(host: Host, ranks: dict[str, Rank]) -> Weights | None:
    """What the node's disk holds of the model that its rank runs."""
    if (spec := ranks[host.name].spec) is None:
        return None
    model, cache = spec.model, listing.cache_folder(spec)
    if not cache and not model.startswith(("/", "~/")):
        return None
    fact = ModelWeights()
    return shell.read_fact(host, fact, fact.command(model, cache), WEIGHTS_SECONDS).value


def _local(host: Host) -> bool:
    return host.name.startswith("@local")


def _here(host: Host, deployment: Deployment) -> bool:
    if _local(host):
        return True
    own = MACHINE_ID.read_text().strip() if MACHINE_ID.is_file() else ""
    return bool(own) and deployment.facts[host.name].machine_id == own


def _ssh(host: Host) -> SshAccess | None:
    """pyinfra's way to the node; None where it isn't SSH."""
    if host.name.startswith("@") and not host.name.startswith("@ssh/"):
        return None
    said = host.data.get
    return SshAccess(
        hostname=str(said("ssh_hostname") or host.name),
        user=str(said("ssh_user") or ""),
        port=int(said("ssh_port") or 0),
        key_file=_file(said("ssh_key")),
        config_file=_file(said("ssh_config_file")),
        known_hosts_file=_file(said("ssh_known_hosts_file")),
        # pyinfra's own default.
        strict_host_key_checking=str(said("ssh_strict_host_key_checking") or "accept-new"),
    )


def _file(path: str | None) -> str:
    """As any other program finds it: pyinfra takes it from its own working folder."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""
