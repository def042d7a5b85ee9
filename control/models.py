"""Which models' weights each node has, the chosen one's draft model's too, with the listing."""

from pyinfra.api import State

from cluster.catalog import models
from cluster.reports.listing import models_document
from control import converge, listing, run
from facts.weights import CachedModels
from operations import shell

# Some dozen folders, each with an index of a few kB; a disk that hangs stays unread.
SECONDS = 60


def print_models(state: State) -> None:
    """Print the document on stdout."""
    listed = listing.read_listing(state)
    deployment = converge.declared_deployment(state)
    ids = dict.fromkeys(model.id for model in models.catalog() if model.runtime == "docker")
    chosen: dict[str, str] = {}
    if deployment.settings.runtime == "docker":
        chosen = {r.id: r.revision for r in deployment.decision.repositories if not r.local}
    fact = CachedModels()
    caches = {
        host.name: deployment.settings_of(host).hf_cache
        for host in deployment.hosts.values()
        if deployment.settings_of(host).runtime == "docker"
    }
    readings = shell.on_all(
        [deployment.hosts[name] for name in caches],
        lambda h: shell.read_fact(
            h, fact, fact.command(list({**ids, **chosen}), caches[h.name], chosen), SECONDS
        ),
    )
    present = {node: r.value for node, r in readings.items() if r.value is not None}
    run.print_document(models_document(listed, present))
