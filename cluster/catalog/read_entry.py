"""An entry's file, read and checked; Refused names the file, the key, and what is allowed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from tomllib import TOMLDecodeError, loads
from typing import Any, get_args, get_type_hints

import msgspec

from cluster.catalog.entry import Layer, Model
from cluster.findings import Refused, did_you_mean, error


def read_entry(file: Path) -> Model:
    """The model that a file of the catalog describes.

    Raises Refused with every key that the schema lacks; else with the first value that has the
    wrong type; else with everything that doesn't fit together.
    """
    try:
        table = loads(file.read_text())
    except (OSError, UnicodeDecodeError, TOMLDecodeError) as e:
        raise _refusal(file, [f"can't be read as TOML: {e}"]) from None
    if unknown := list(_unknown_keys(Model, table, "")):
        raise _refusal(file, unknown)
    try:
        model = msgspec.convert(table, Model)
    except msgspec.ValidationError as e:
        raise _refusal(file, [str(e).replace("`$.", "`")]) from None
    if wrong := list(_inconsistencies(model, file.stem)):
        raise _refusal(file, wrong)
    return model


def _refusal(file: Path, problems: Iterable[str]) -> Refused:
    cure = f"correct {file}; cluster/catalog/entry.py says what each key means"
    return Refused(*(error(f"{file}: {what}", cure=cure, key="entry-invalid") for what in problems))


def _unknown_keys(kind: Any, table: Mapping[str, Any], place: str) -> Iterator[str]:
    """What is wrong with each key that a dataclass, or one nested in it, doesn't have."""
    types = _types(kind)
    for key, value in table.items():
        if key not in types:
            allowed = ", ".join(types)
            yield (
                f"{place}{key} is not a key of an entry{did_you_mean(key, types)}; "
                f"{place or 'an entry '}has: {allowed}"
            )
            continue
        inner = next((t for t in _nested(types[key]) if is_dataclass(t)), None)
        for n, item in enumerate(value if isinstance(value, list) else [value], 1):
            if inner and isinstance(item, dict):
                number = f"[{n}]" if isinstance(value, list) else ""
                yield from _unknown_keys(inner, item, f"{place}{key}{number}.")


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _nested(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _nested(part)


def _inconsistencies(model: Model, stem: str) -> Iterator[str]:
    """What types can't catch: names that refer to nothing, duplicates, forms that don't divide."""
    if model.alias != stem:
        yield f"alias = {model.alias!r} must be the file's name, {stem!r}"
    if model.alias.isdigit():
        yield f"alias = {model.alias!r} would be taken for a number"
    names = [variant.name for variant in model.variants]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"variants: {name} is there {count} times"
    if model.default_variant and model.default_variant not in names:
        yield f"default_variant = {model.default_variant!r} is none of {', '.join(names)}"
    for draft, count in Counter(draft.id for draft in model.drafts).items():
        if count > 1:
            yield f"drafts: {draft} is there {count} times"
    for n, figure in enumerate(model.published, 1):
        if figure.variant and figure.variant not in names:
            yield f"published[{n}].variant = {figure.variant!r} is none of {', '.join(names)}"
        if figure.model and figure.model not in model.same_shapes:
            yield f"published[{n}].model = {figure.model!r} is not in same_shapes"
    for name in model.unknown:
        if not (owner := _owner(model, name)):
            yield f"unknown: {name} is not a key of an entry"
        elif owner[1]:
            yield f"unknown: {name} has a value, {owner[1]!r}"
    yield from _layer(model, model, "")
    for variant in model.variants:
        place = f"variants.{variant.name}."
        yield from _layer(model, variant, place)
        for nodes, count in Counter(form.nodes for form in variant.forms).items():
            if count > 1:
                yield f"{place}forms: {count} for {nodes} nodes"
        for form in variant.forms:
            yield from _layer(model, form, f"{place}forms.{form.nodes}.")
            if form.tp * form.pp % form.nodes:
                split = f"tp {form.tp} x pp {form.pp}"
                yield f"{place}forms.{form.nodes}: {split} does not divide over {form.nodes} nodes"


def _owner(layer: Layer, name: str) -> tuple[Layer, Any] | None:
    """(the layer, the value) of a key like "shape.kv_heads"; None if there is no such key."""
    value: Any = layer
    for part in name.split("."):
        if not is_dataclass(value) or part not in {f.name for f in fields(value)}:
            return None
        value = getattr(value, part)
    return layer, value


def _layer(model: Model, layer: Layer, place: str) -> Iterator[str]:
    """The inconsistencies in one layer: a model, a variant or a form."""
    if layer.image and bool(layer.image.digest) != bool(layer.image.digest_source):
        yield f"{place}image: digest and digest_source belong together"
    drafts = (model.id, *(draft.id for draft in model.drafts))
    if layer.speculation and layer.speculation.draft not in ("", *drafts):
        named = layer.speculation.draft
        yield f"{place}speculation.draft = {named!r} is none of {', '.join(drafts)}"
    for value in layer.values:
        if _owner(layer, value.of) is None:
            yield f"{place}values: {value.of} is not a key there"
    for flag in layer.flags:
        if field := TYPED.get(flag.split(" ")[0]):
            yield f"{place}flags: {flag.split(' ')[0]} is stated by the key {field}"


# Options that an entry states by a key of its own, not in its flags.
TYPED = {
    "--model-path": "id",
    "--model": "id",
    "--revision": "revision",
    "--tp": "forms.tp",
    "--tp-size": "forms.tp",
    "--tensor-parallel-size": "forms.tp",
    "--pp-size": "forms.pp",
    "--pipeline-parallel-size": "forms.pp",
    "--nnodes": "forms.nodes",
    "--mem-fraction-static": "mem_fraction",
    "--kv-cache-dtype": "kv_cache_dtype",
    "--context-length": "context_length",
    "--max-running-requests": "max_running_requests",
    "--max-mamba-cache-size": "mamba_slots",
    "--reasoning-parser": "reasoning_parser",
    "--tool-call-parser": "tool_call_parser",
    "--trust-remote-code": "trust_remote_code",
    "--disable-cuda-graph": "disable_cuda_graph",
    "--speculative-algorithm": "speculation.algorithm",
    "--speculative-draft-model-path": "speculation.draft",
    "--speculative-draft-model-quantization": "speculation.draft_quantization",
    "--speculative-num-steps": "speculation.num_steps",
    "--speculative-eagle-topk": "speculation.eagle_topk",
    "--speculative-num-draft-tokens": "speculation.num_draft_tokens",
    "--speculative-dspark-block-size": "speculation.block_size",
    "--speculative-dflash-block-size": "speculation.block_size",
}
