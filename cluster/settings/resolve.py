"""The catalog's values in place of every `auto`: the model's, its variant's, and those of the
variant's form for the number of nodes. What a user declares wins over each of them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.catalog.entry import DraftModel, EngineImage, Form, Layer, Model, Variant, merged
from cluster.catalog.memory import USUAL_FRACTION
from cluster.engine.nccl import GRAPHS_NCCL, stated_nccl
from cluster.engine.options import NEWEST, canonical_name, options_of
from cluster.engine.versions import parse_version
from cluster.findings import Finding, Refused, did_you_mean, error, warning
from cluster.settings.declaration import CatalogValues, Declaration
from cluster.settings.schema import Settings

# Of a model whose entry names none: the image that Sparks were first measured with.
DEFAULT_IMAGE = "lmsysorg/sglang:spark"
# Settings whose `auto` is what the entry states under the same name.
SAME_NAMES = (
    *("mem_fraction", "kv_cache_dtype", "context_length"),
    *("reasoning_parser", "tool_call_parser", "trust_remote_code", "probes"),
)
# What SGLang calls the setting `draft`.
DRAFT_PATH = "--speculative-draft-model-path"
BLOCK_SIZES = {
    "DSPARK": "--speculative-dspark-block-size",
    "DFLASH": "--speculative-dflash-block-size",
}


def resolve(declaration: Declaration, model: Model) -> Declaration:
    """The declaration with the catalog's values in place of every `auto` that the model has one
    for, its `catalog` filled.

    Raises Refused for a variant that the model lacks, or that is not for this number of nodes.
    """
    wanted = declaration.common
    variant = choose_variant(model, wanted.variant)
    form = _choose_form(model, variant, declaration) if variant else None
    layers: list[tuple[str, Layer]] = [("model", model)]
    if variant:
        layers += [(f"variant {variant.name}", layer) for layer in (variant, form) if layer]
    stated = merged(*(layer for _, layer in layers))
    image = stated.image if wanted.image == "auto" else None
    name = _draft_id(stated, wanted)
    draft = None  # no second repository
    if name not in ("", model.id):
        draft = next((draft for draft in model.drafts if draft.id == name), DraftModel(id=name))
    arguments = (*_typed_arguments(stated, wanted, name, draft), *" ".join(stated.flags).split())
    values = _values(layers, image, len(declaration.names))
    if form:
        values["tensor_parallel"] = (form.tp, layers[-1][0])
        values["pipeline_parallel"] = (form.pp, layers[-1][0])
    if draft:
        stating = [where for where, layer in layers if "speculation" in layer.stated()]
        values["draft"] = (draft.id, stating[-1] if stating else "")
    values = {name: value for name, value in values.items() if getattr(wanted, name) == "auto"}
    sources = {**declaration.catalog.sources, **{n: why for n, (_, why) in values.items() if why}}
    if arguments:
        sources["arguments"] = ", ".join(dict.fromkeys(where for where, _ in layers))

    def resolved(settings: Settings) -> Settings:
        plain = {name: value for name, (value, _) in values.items()}
        return replace(settings, **plain, env={**stated.env, **settings.env})

    return replace(
        declaration,
        nodes={name: resolved(settings) for name, settings in declaration.nodes.items()},
        idle={name: resolved(settings) for name, settings in declaration.idle.items()},
        catalog=CatalogValues(
            variant=variant.name if variant else "",
            evidence=(form and form.evidence) or (variant.evidence if variant else None),
            image=image,
            env=stated.env,
            arguments=arguments,
            draft=draft,
            offloaded_bytes=stated.offloaded_bytes or 0,
            sources=sources,
        ),
    )


def _values(
    layers: list[tuple[str, Layer]], image: EngineImage | None, nodes: int
) -> dict[str, tuple[Any, str]]:
    """Setting → (the value that `auto` stands for, whose it is; "" for the usual one).

    + layers: (its name, what it states), the weakest first
    """
    stated = merged(*(layer for _, layer in layers))
    origin = {name: where for where, layer in layers for name in layer.stated()}
    values: dict[str, tuple[Any, str]] = {
        "mem_fraction": (USUAL_FRACTION, ""),
        "probes": ("full", ""),
        "image": (image_reference(image) if image else DEFAULT_IMAGE, origin.get("image", "")),
        "disable_cuda_graph": _graphs_off(stated, image, nodes),
    }
    for name in SAME_NAMES:
        if name in origin:
            values[name] = (getattr(stated, name), origin[name])
    return values


def usual_fraction(model: Model) -> float:
    """The share of memory that the model takes if nobody declares another."""
    default = (v for v in model.variants if v.name == model.default_variant)
    return merged(model, *default).mem_fraction or USUAL_FRACTION


def choose_variant(model: Model, name: str) -> Variant | None:
    """The model's variant of this name, for `auto` its default; None: it has no variants.

    Raises Refused for a name that it lacks, and where none is the default and none was chosen.
    """
    variants = {variant.name: variant for variant in model.variants}
    called = model.alias or model.id
    if not variants and name == "auto":
        return None
    if not variants:
        raise Refused(
            error(
                f"variant = {name!r}: {called} has no variants in the catalog",
                cure="--data variant=auto",
                key="no-such-variant",
            )
        )
    wanted = model.default_variant if name == "auto" else name
    if wanted in variants:
        return variants[wanted]
    have = ", ".join(n + " (default)" * (n == model.default_variant) for n in variants)
    what = f"{called} has no default variant"
    if wanted:
        what = f"variant = {name!r} is none of {called}'s{did_you_mean(name, variants)}"
    raise Refused(
        error(
            f"{what}; it has: {have}",
            cure=f"--data variant={next(iter(variants))}",
            key="no-such-variant",
        )
    )


def _choose_form(model: Model, variant: Variant, declaration: Declaration) -> Form | None:
    """The variant's form for the number of nodes; None: it runs on any number, or the user splits
    the model otherwise."""
    nodes = len(declaration.names)
    forms = {form.nodes: form for form in variant.forms}
    if not forms or nodes in forms:
        return forms.get(nodes)
    if declaration.common.tensor_parallel != "auto" or declaration.common.state != "running":
        return None
    others = [
        other.name
        for other in model.variants
        if other is not variant and (not other.forms or any(f.nodes == nodes for f in other.forms))
    ]
    cure = f"--data tensor_parallel={nodes}, which nobody has shown"
    if 1 in forms:
        cure = "--data head_only=true"
    if others:
        cure = f"--data variant={others[0]}"
    numbers = " or ".join(map(str, sorted(forms)))
    called = model.alias or model.id
    raise Refused(
        error(
            f"{called}'s variant {variant.name} is for {numbers} node{'s' * (max(forms) > 1)}, and "
            f"{nodes} would serve",
            cure=cure,
            key="variant-nodes",
        )
    )


def image_reference(image: EngineImage) -> str:
    """The image by its digest where a public source states it, else by its tag."""
    if not image.digest:
        return image.reference
    return f"{image.reference.rpartition(':')[0]}@{image.digest}"


def _graphs_off(stated: Layer, image: EngineImage | None, nodes: int) -> tuple[bool, str]:
    """Whether CUDA graphs are off, and why."""
    if stated.disable_cuda_graph:
        return True, "the catalog: this image or model fails with them"
    if nodes == 1:
        return False, "one node"
    nccl = stated_nccl(image)
    if not nccl:
        return True, "several nodes, and the NCCL of the image is unknown"
    if parse_version(nccl) < parse_version(GRAPHS_NCCL):
        return (
            True,
            f"several nodes, and the image has NCCL {nccl}: graphs hang below {GRAPHS_NCCL}",
        )
    if stated.disable_cuda_graph is None:
        return True, "several nodes, and nobody has shown them there"
    return False, f"the catalog, with NCCL {nccl}"


def _draft_id(stated: Layer, wanted: Settings) -> str:
    """The repository that speculative decoding reads beside the checkpoint's own heads; "": none,
    or the user's own, which extra_args name by its path."""
    own = [word for word in wanted.extra_args if word.startswith("--speculative-draft")]
    # Abbreviated, too: what the image's release would not take is refused once that is known.
    if wanted.draft == "none" or DRAFT_PATH in [canonical_name(w, options_of(NEWEST)) for w in own]:
        return ""
    if wanted.draft != "auto":
        return wanted.draft
    return stated.speculation.draft if stated.speculation else ""


def _typed_arguments(
    stated: Layer, wanted: Settings, name: str, draft: DraftModel | None
) -> Iterator[str]:
    """The options that an entry states by keys of their own, and no setting holds.

    + name: of the draft's repository, which may be the model's own; "" for none
    """
    pairs: list[tuple[str, Any]] = [
        ("--max-running-requests", stated.max_running_requests),
        ("--max-mamba-cache-size", stated.mamba_slots),
    ]
    speculation = stated.speculation if wanted.draft != "none" else None
    if speculation:
        pairs += [("--speculative-algorithm", speculation.algorithm)]
    if name:
        # Of the snapshot that the deploy brings: the engine, offline, would look for main's.
        revision = draft.revision if draft else wanted.revision
        pairs += [(DRAFT_PATH, name), ("--speculative-draft-model-revision", revision)]
    if speculation:
        pairs += [
            ("--speculative-draft-model-quantization", speculation.draft_quantization),
            ("--speculative-num-steps", speculation.num_steps),
            ("--speculative-eagle-topk", speculation.eagle_topk),
            ("--speculative-num-draft-tokens", speculation.num_draft_tokens),
            (BLOCK_SIZES.get(speculation.algorithm, ""), speculation.block_size),
        ]
    for option, value in pairs:
        if value:
            yield from (option, str(value))


def choice_findings(declaration: Declaration, model: Model) -> Iterator[Finding]:
    """What a user must know of the image that the catalog chose."""
    image, called = declaration.catalog.image, model.alias or model.id
    yield from image_findings(image, called)


def image_findings(image: EngineImage | None, called: str) -> Iterator[Finding]:
    """What a user must know of the catalog's image before it is pulled; None: it is the user's.

    + called: the model's alias or id
    """
    if image and image.third_party:
        yield warning(
            f"{image.reference} is {image.publisher}'s image, neither SGLang's nor the vendor's",
            cure=f"--data image=… of your own, or another variant: spark-cluster models {called}",
            key="image-third-party",
        )
    if image and image.tag_from_prose:
        yield warning(
            f"{image.reference}: its tag appears only in a description, in no command that was run",
            cure=f"docker manifest inspect {image.reference} shows whether it exists",
            key="image-tag-unproven",
        )


def source_lines(declaration: Declaration) -> Iterator[str]:
    """Each value that is not the default, and whose it is: "mem_fraction = 0.75 (--data)"."""
    catalog, settings = declaration.catalog, declaration.common
    if catalog.variant:
        chosen = catalog.sources.get("variant", "default")
        yield f"variant = {catalog.variant} ({chosen}; {catalog.evidence})"
    elsewhere = {"variant", "arguments", "env", "model"}
    if settings.runtime == "process":
        elsewhere.add("disable_cuda_graph")  # the embedded engine has none
    for name in sorted(catalog.sources.keys() - elsewhere):
        yield f"{name} = {getattr(settings, name)} ({catalog.sources[name]})"
    for name, value in settings.env.items():
        whose = "catalog" if catalog.env.get(name) == value else "inventory"
        yield f"env {name} = {value} ({whose})"
    if catalog.arguments:
        yield f"arguments = {' '.join(catalog.arguments)} ({catalog.sources['arguments']})"
