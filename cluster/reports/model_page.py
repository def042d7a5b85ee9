"""All that a model's entry comes to, variant by variant, as one JSON document: what
`spark-cluster models MODEL` shows.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.catalog import models
from cluster.catalog.entry import EngineImage, Evidence, Model, Speculation, merged
from cluster.catalog.fit import fit
from cluster.catalog.memory import MemoryPart, kv_token_bytes, memory_table, node_weights
from cluster.checks.declared_use import declared_use
from cluster.plan.decide import named_version
from cluster.reports.listing import SPARK_BYTES, SPARKS, sparks_that_fit
from cluster.settings.declaration import HostData, parse_declaration
from cluster.settings.resolve import resolve

VERSION = 1
# Settings that an entry decides, beside the image, the environment and the arguments.
DECIDED = (
    *("mem_fraction", "kv_cache_dtype", "context_length"),
    *("reasoning_parser", "tool_call_parser", "trust_remote_code"),
)


@dataclass(frozen=True, kw_only=True)
class ServedForm:
    """A variant on a number of Sparks, as a deploy with no other settings would serve it.

    + variant: "" for a model without variants
    + evidence: None for a model without variants
    + notes: the variant's and the form's
    + image: what is pulled: by its digest where that is stated
    + image_stated: what the entry says about it; None: the project's default image
    + settings: those of DECIDED that are not left to SGLang
    + arguments: options of SGLang beside the settings', speculation's among them
    + cuda_graphs: whether they are on; cuda_graphs_reason: why, or why not
    + draft: id of the second repository that is needed; "": none
    + weight_bytes: of one node; draft_bytes: of the draft; None: unknown
    + kv_token_bytes: of KV cache that a token takes on each node; None: unknown
    + kv_tokens: about how many tokens the cache of the whole group holds; an upper estimate: all of
      the memory fraction but weights and states; None: unknown
    + memory: of one node, in parts, for one request at full context; bytes None: unknown
    + memory_visible: bytes that CUDA counts as the GPU's; memory_budget: those that SGLang takes of
      them for weights, states and KV cache
    + refused: why it does not fit, by arithmetic
    """

    variant: str
    nodes: int
    tp: int
    pp: int
    evidence: Evidence | None
    source: str
    notes: tuple[str, ...]
    image: str
    image_stated: EngineImage | None
    env: Mapping[str, str]
    settings: Mapping[str, Any]
    arguments: tuple[str, ...]
    cuda_graphs: bool
    cuda_graphs_reason: str
    speculation: Speculation | None
    draft: str
    weight_bytes: int | None
    draft_bytes: int | None
    kv_token_bytes: int | None
    kv_tokens: int | None
    memory: tuple[MemoryPart, ...]
    memory_visible: float
    memory_budget: float
    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelPage:
    """The document.

    + in_catalog: the model has an entry; else all of `model` but its id is unknown
    + sparks: on which of 1, 2, 4 and 8 Sparks it fits, by arithmetic as far as its sizes are known
    + model: the entry, in the words of its file (cluster/catalog/entry.py)
    """

    version: int = VERSION
    in_catalog: bool
    sparks: tuple[int, ...]
    model: Model
    forms: tuple[ServedForm, ...]


def model_page(model: Model) -> ModelPage:
    """A model's page; of one outside the catalog, what a deploy would take by default."""
    forms: list[ServedForm] = []
    if model.runtime == "docker":
        for name in [variant.name for variant in model.variants] or [""]:
            variant = next((v for v in model.variants if v.name == name), None)
            stated = [form.nodes for form in variant.forms] if variant else []
            # On any number of nodes: on as many as most owners have.
            for nodes in sorted(stated) or [n for n in SPARKS[:2] if n >= (model.min_nodes or 1)]:
                forms.append(_served_form(model, name, nodes))
    return ModelPage(
        in_catalog=model in models.catalog(),
        sparks=sparks_that_fit(model),
        model=model,
        forms=tuple(forms),
    )


def _served_form(model: Model, name: str, nodes: int) -> ServedForm:
    data = {"model": model.id, **({"variant": name} if name else {})}
    names = [f"spark-{number}" for number in range(1, nodes + 1)]
    hosts = [HostData(n, ("workers" if at else "head",), data) for at, n in enumerate(names)]
    wanted = resolve(parse_declaration(hosts), model)
    settings, catalog = wanted.common, wanted.catalog
    variant = next((v for v in model.variants if v.name == name), None)
    form = next((f for f in (variant.forms if variant else ()) if f.nodes == nodes), None)
    stated = merged(*(layer for layer in (model, variant, form) if layer))
    use = declared_use(wanted, model, (), named_version(wanted))
    findings = fit(model, SPARK_BYTES, use)
    table = memory_table(model, SPARK_BYTES, use)
    return ServedForm(
        variant=name,
        nodes=nodes,
        tp=use.tp,
        pp=use.pp,
        evidence=catalog.evidence,
        source=variant.source if variant else "",
        notes=tuple(layer.note for layer in (variant, form) if layer and layer.note),
        image=settings.image,
        image_stated=catalog.image,
        env=catalog.env,
        settings={name: value for name in DECIDED if (value := getattr(settings, name)) != "auto"},
        arguments=catalog.arguments,
        cuda_graphs=not settings.disable_cuda_graph,
        cuda_graphs_reason=catalog.sources.get("disable_cuda_graph", ""),
        speculation=stated.speculation,
        draft=catalog.draft.id if catalog.draft else "",
        weight_bytes=_whole(node_weights(model, use)),
        draft_bytes=catalog.draft.weight_bytes if catalog.draft else None,
        kv_token_bytes=_whole(kv_token_bytes(model, use)),
        kv_tokens=table.kv_tokens,
        memory=table.parts,
        memory_visible=table.visible,
        memory_budget=table.budget,
        refused=tuple(str(f) for f in findings if f.level.value == "error"),
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
