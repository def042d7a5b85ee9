"""Reads what a result was measured with. What can't be found is null, never an error."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import spark_bench
from spark_bench.results.facts import Client, DeployedRank, Deployment, Provenance
from spark_bench.results.machine import commit, machine
from spark_bench.results.secrets import is_secret_name
from spark_bench.results.server import ask

if TYPE_CHECKING:
    import httpx

    from spark_bench.project import ProjectListing, ProjectRank


def gather(
    http: httpx.Client,
    url: str,
    *,
    model: str = "",
    project: Path | None = None,
    listing: ProjectListing | None = None,
) -> Provenance:
    """Call it just before the run starts: the load average is of now.

    http: carries the API key, if there is one; nothing of it gets into the result
    url: of the server, with or without /v1
    model: the one that will be asked for; "" means the first that the server lists
    project: the folder of the project, for its git commit; None: there is none
    listing: what that project has deployed
    """
    return Provenance(
        client=client(),
        machine=machine(),
        project=commit(project) if project else None,
        server=ask(http, url, model),
        deployment=deployed(listing) if listing else None,
    )


def client() -> Client:
    """This client's versions."""
    return Client(
        version=spark_bench.__version__,
        python=platform.python_version(),
        httpx=_version("httpx"),
    )


def deployed(listing: ProjectListing) -> Deployment | None:
    """What of a project's listing decides a measurement; None when nothing of it runs."""
    head = listing.head
    if head is None:
        return None
    return Deployment(
        model=head.model,
        revision=listing.revision,
        group=listing.group,
        launch={name: value for name, value in head.launch.items() if not is_secret_name(name)},
        ranks=tuple(map(_rank, listing.ranks)),
    )


def _rank(rank: ProjectRank) -> DeployedRank:
    return DeployedRank(
        rank=rank.rank,
        node=rank.node,
        image=rank.image,
        image_id=rank.image_id,
        engine_version=rank.sglang,
        spec=rank.spec,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
