"""What runs where, and how to reach it; which models the nodes have: each one JSON document.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from msgspec import to_builtins

from cluster.catalog.fit import fit
from cluster.catalog.memory import entry_use
from cluster.catalog.models import Model, catalog
from cluster.findings import Level
from cluster.node.readings import Rank, Weights
from cluster.plan.specs import CONTAINER_HF_HOME, served_name
from cluster.rank.spec import Spec
from cluster.settings.resolve import usual_fraction
from cluster.settings.schema import Settings

VERSION = 1
# MemTotal of a DGX Spark, as its owners' /proc/meminfo shows it.
SPARK_BYTES = 131_334_144 * 1024
# How many Sparks people have: one, two on a cable, four or eight on a switch.
SPARKS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model of the catalog.

    + sparks: on which of 1, 2, 4 and 8 Sparks it fits; empty for a model of the process runtime
    + weight_bytes: of the checkpoint
    + mem_fraction: what mem_fraction = "auto" comes to
    + quantization: the format of its weights
    + variants: by name, the numbers of nodes that each is for; (): any
    + default_variant: "" where one must be chosen, or there is none
    + evidence: whose word the default variant is; "" without one
    """

    id: str
    alias: str
    number: int | None
    gated: bool
    runtime: str
    max_context: int | None
    sparks: tuple[int, ...]
    weight_bytes: int | None
    mem_fraction: float | None
    quantization: str = ""
    variants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    default_variant: str = ""
    evidence: str = ""


@dataclass(frozen=True, kw_only=True)
class RunningRank:
    """A rank that runs.

    + model: as its label has it: a hub id or a path; variant: "" for the model's default
    + spec: SHA-256 of its label, the canonical JSON of everything that decides what it runs
    + launch: what its engine was started with (tp, pp, nnodes, mem_fraction …)
    + started_at: RFC 3339, or clock ticks since boot for a process
    """

    node: str
    rank: int
    name: str
    runtime: str
    model: str
    image: str
    image_id: str
    sglang: str
    spec: str
    launch: Mapping[str, Any]
    started_at: str
    variant: str = ""


@dataclass(frozen=True, kw_only=True)
class SshAccess:
    """How a node is reached, in OpenSSH's words; "" and 0 leave a word out. Never a password."""

    hostname: str
    user: str = ""
    port: int = 0
    key_file: str = ""
    config_file: str = ""
    known_hosts_file: str = ""
    strict_host_key_checking: str = ""


@dataclass(frozen=True, kw_only=True)
class ListedNode:
    """A node of the inventory.

    + here: it is the machine that wrote this listing
    + ssh: None for one that is not reached by SSH
    + revision, weights: commit and folder of the model that runs, "" where they could not be read
    + rank, runtime: in the light listing, what its rank is called by the settings, and how it runs;
      "" for a node that serves nothing
    """

    name: str
    here: bool
    ssh: SshAccess | None
    revision: str = ""
    weights: str = ""
    rank: str = ""
    runtime: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The document.

    + light: no node was read: so no ranks, and the URL is a guess
    + url: the head's API as the reader reaches it
    + runs: rank 0 runs (not: it answers)
    + model: the one that the settings name; what runs is in `ranks`, rank order
    + variant: the one that the settings come to; "" for a model without variants
    + declares_variant: the inventory names one, which another model may not have
    + draft: the repository of its draft model, "" where it has none beside it
    + revision: of the weights that run, "" where it could not be read
    + tokenizer: the folder of the weights that run, where it lies on this very machine, else ""
    + api_key_file: here, with the key that the API wants; "" where it wants none. Never the key
    + notes: what could not be read
    """

    version: int = VERSION
    light: bool
    url: str
    runs: bool
    served_model_name: str
    model: str
    group: str
    state: str
    draft: str = ""
    revision: str = ""
    tokenizer: str = ""
    ranks: tuple[RunningRank, ...] = ()
    nodes: tuple[ListedNode, ...] = ()
    catalogue: tuple[CatalogEntry, ...] = field(default_factory=lambda: catalog_entries())
    api_key_file: str = ""
    notes: tuple[str, ...] = ()
    variant: str = ""
    declares_variant: bool = False


def build_listing(
    settings: Settings,
    model: Model,
    url: str,
    nodes: tuple[ListedNode, ...],
    ranks: Mapping[str, Rank],
    *,
    light: bool = False,
    api_key_file: str = "",
    notes: tuple[str, ...] = (),
    variant: str = "",
) -> Listing:
    """The document of what these nodes and their ranks (by node, rank order) say."""
    specs = {node: spec for node, rank in ranks.items() if (spec := rank.spec)}
    runs = tuple(running_rank(node, ranks[node], spec) for node, spec in specs.items())
    head = runs[0] if runs and runs[0].rank == 0 else None
    name = head.launch.get("served_model_name", "") if head else served_name(settings, model)
    return Listing(
        light=light,
        url=url,
        runs=head is not None,
        served_model_name=name,
        model=model.id,
        draft="" if settings.draft in ("auto", "none", model.id) else settings.draft,
        group=settings.group,
        state=settings.state,
        revision=next((place.revision for place in nodes if place.revision), ""),
        tokenizer=next((place.weights for place in nodes if place.here and place.weights), ""),
        ranks=runs,
        nodes=nodes,
        api_key_file=api_key_file,
        notes=notes,
        variant=variant,
        declares_variant=settings.variant != "auto",
    )


def running_rank(node: str, rank: Rank, spec: Spec) -> RunningRank:
    """A rank, as its own label describes it."""
    return RunningRank(
        node=node,
        rank=spec.rank,
        name=rank.name,
        runtime=spec.runtime,
        model=spec.model,
        image=spec.image,
        image_id=rank.image_id,
        sglang=spec.sglang,
        spec=sha256((rank.label or "").encode()).hexdigest(),
        launch=to_builtins(spec.launch),
        started_at=rank.started_at,
        variant=spec.variant,
    )


def cache_folder(spec: Spec) -> str:
    """The HF_HOME on its node that a rank reads; "" for a rank without one."""
    for source, target, *_ in (volume.split(":") for volume in spec.volumes if ":" in volume):
        if target == f"{CONTAINER_HF_HOME}/hub":
            return source.removesuffix("/hub")
        if target == CONTAINER_HF_HOME:  # of a rank that 0.1.0 created
            return source
    return ""


def listed_node(
    name: str, here: bool, ssh: SshAccess | None, weights: Weights | None
) -> ListedNode:
    """A node, with the weights on its disk of the model that runs."""
    return ListedNode(
        name=name,
        here=here,
        ssh=ssh,
        revision=weights.revision if weights else "",
        weights=weights.path if weights and weights.complete else "",
    )


def catalog_entries() -> tuple[CatalogEntry, ...]:
    """The whole catalog."""
    return tuple(
        CatalogEntry(
            id=m.id,
            alias=m.alias,
            number=m.number,
            gated=m.gated,
            runtime=m.runtime,
            max_context=m.max_context,
            sparks=sparks_that_fit(m),
            weight_bytes=m.weight_bytes,
            mem_fraction=usual_fraction(m) if m.runtime != "process" else None,
            quantization=m.quantization,
            variants={v.name: tuple(form.nodes for form in v.forms) for v in m.variants},
            default_variant=m.default_variant,
            evidence=next((v.evidence for v in m.variants if v.name == m.default_variant), ""),
        )
        for m in catalog()
    )


def sparks_that_fit(model: Model) -> tuple[int, ...]:
    """On which of 1, 2, 4 and 8 Sparks a model's default variant is served and fits, as arithmetic
    has it, with a GPU each.

    Without a default, any of its variants counts; with unknown sizes, each number fits.
    """
    chosen = [v for v in model.variants if v.name == model.default_variant] or model.variants

    def fits(nodes: int) -> bool:
        for_them = [
            variant.name
            for variant in chosen
            if not variant.forms or any(form.nodes == nodes for form in variant.forms)
        ]
        uses = (entry_use(model, nodes, name) for name in for_them or [""] * (not chosen))
        return any(
            all(finding.level is not Level.ERROR for finding in fit(model, SPARK_BYTES, use))
            for use in uses
        )

    return tuple(n for n in SPARKS if model.runtime != "process" and fits(n))


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """What a node's cache has of one model.

    + complete: all of its weights; else a download is under way, or was left unfinished
    + bytes: of the weights that are there
    """

    complete: bool
    bytes: int
    revision: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelsDocument:
    """The listing, and what every node has of every model.

    + present: node → id of a model of the catalog, of the chosen one, or of its draft model → what
      is there; models without a byte are left out, and a node that could not be read is not in it
      (`listing.notes` says why)
    """

    version: int = VERSION
    listing: Listing
    present: Mapping[str, Mapping[str, CachedModel]]


def models_document(
    listing: Listing, caches: Mapping[str, Mapping[str, Weights]]
) -> ModelsDocument:
    """The document of what these caches hold, by node."""
    return ModelsDocument(
        listing=listing,
        present={
            node: {
                model: CachedModel(complete=w.complete, bytes=w.bytes, revision=w.revision)
                for model, w in models.items()
            }
            for node, models in caches.items()
        },
    )
