"""Which models' weights lie on which node, beside the listing."""

import msgspec
from pyinfra.api import Host, State

from cluster.catalog import models
from cluster.node.readings import Weights
from cluster.printable import json_text
from cluster.reports.listing import models_document
from cluster.settings.schema import Settings
from control import listing
from control.converge import declared_deployment
from facts.weights import CachedModels
from operations import shell

# Some dozen folders, each with an index of a few kB; a disk that hangs stays unread.
SECONDS = 60


def print_models(state: State) -> None:
    """Print the document on stdout; pyinfra's own words go to stderr."""
    told = listing.read_listing(state)
    deployment = declared_deployment(state)
    ids = dict.fromkeys([*(m.id for m in models.catalog() if m.runtime == "docker")])
    if not deployment.model.local and deployment.settings.runtime == "docker":
        ids |= {deployment.model.id: None}
    found = shell.on_all(
        [
            host
            for host in deployment.hosts.values()
            if deployment.settings_of(host).runtime == "docker"
        ],
        lambda host: _cached(host, list(ids), deployment.settings_of(host)),
    )
    read = {node: cached for node, cached in found.items() if cached is not None}
    print(json_text(msgspec.json.encode(models_document(told, read))), flush=True)


def _cached(host: Host, ids: list[str], settings: Settings) -> dict[str, Weights] | None:
    fact = CachedModels()
    return shell.read_fact(host, fact, fact.command(ids, settings.hf_cache), SECONDS).value
