"""The catalog's entries: what they state agrees with itself, and with SGLang's recorded options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from re import fullmatch

import pytest

from cluster.catalog.entry import EngineImage, Form, Layer, Model, Variant, merged
from cluster.catalog.models import catalog, entries
from cluster.engine.options import check_arguments
from cluster.settings.resolve import DEFAULT_IMAGE

# Known to the image for two Sparks alone.
IMAGES_OWN = ("--moe-runner-backend b12x", "--speculative-moe-runner-backend b12x")
NEWEST = "0.5.23"
OPTIONS = {
    "mem_fraction": "--mem-fraction-static",
    "kv_cache_dtype": "--kv-cache-dtype",
    "context_length": "--context-length",
    "max_running_requests": "--max-running-requests",
    "mamba_slots": "--max-mamba-cache-size",
    "reasoning_parser": "--reasoning-parser",
    "tool_call_parser": "--tool-call-parser",
}
SPECULATIVE = {
    "algorithm": "--speculative-algorithm",
    "draft": "--speculative-draft-model-path",
    "draft_quantization": "--speculative-draft-model-quantization",
    "num_steps": "--speculative-num-steps",
    "eagle_topk": "--speculative-eagle-topk",
    "num_draft_tokens": "--speculative-num-draft-tokens",
}


def forms() -> Iterator[tuple[Model, Variant, Form]]:
    for model in entries():
        for variant in model.variants:
            for form in variant.forms:
                yield model, variant, form


each_form = pytest.mark.parametrize(
    ("model", "variant", "form"),
    [pytest.param(*f, id=f"{f[0].alias}-{f[1].name}-{f[2].nodes}") for f in forms()],
)
each_entry = pytest.mark.parametrize("model", entries(), ids=lambda m: m.alias)


def words(layer: Layer) -> list[str]:
    """A launch line's options, as far as an entry states them."""
    flags = [word for flag in layer.flags for word in flag.split(" ")]
    for key, option in OPTIONS.items():
        if value := getattr(layer, key):
            flags += [option, str(value)]
    if spec := layer.speculation:
        for key, option in SPECULATIVE.items():
            if value := getattr(spec, key):
                flags += [option, str(value)]
        if spec.block_size:
            option = f"--speculative-{spec.algorithm.lower()}-block-size"
            flags += [option, str(spec.block_size)]
    return flags + ["--trust-remote-code"] * layer.trust_remote_code


@each_form
def test_sglang_knows_every_option_of_every_form(
    model: Model, variant: Variant, form: Form
) -> None:
    layer = merged(model, variant, form)
    flags = tuple(flag for flag in layer.flags if flag not in IMAGES_OWN)
    assert flags == layer.flags or (layer.image and "v4f-2dgx" in layer.image.reference)
    line = words(replace(layer, flags=flags))
    assert not check_arguments(("sglang.launch_server", *line), NEWEST)


@each_form
def test_the_pool_of_states_is_as_large_as_its_requests_need(
    model: Model, variant: Variant, form: Form
) -> None:
    layer = merged(model, variant, form)
    if layer.mamba_slots_per_request:
        assert layer.max_running_requests
        assert layer.mamba_slots == layer.max_running_requests * layer.mamba_slots_per_request


@each_form
def test_a_form_holds_the_weights_where_their_size_is_known(
    model: Model, variant: Variant, form: Form
) -> None:
    fraction = merged(model, variant, form).mem_fraction or 0.80
    on_nvme = "--ple-offload-embedding" in merged(model, variant, form).flags
    if model.weight_bytes and not on_nvme:
        assert model.weight_bytes / form.nodes < fraction * 121.6 * 2**30


@each_entry
def test_missing_attributes_are_listed_as_unknown(model: Model) -> None:
    if model.id.startswith("HuggingFaceTB"):
        return
    for name in ("revision", "license", "weight_bytes", "parameters", "max_context"):
        assert bool(getattr(model, name)) != (name in model.unknown), name
    for name in ("layers", "attention_heads", "kv_heads", "head_dim"):
        assert bool(getattr(model.shape, name)) != (f"shape.{name}" in model.unknown), name
    assert model.sources and model.notes and model.min_nodes and model.recommended_nodes


@each_entry
def test_every_draft_is_one_that_a_variant_uses(model: Model) -> None:
    used = {
        layer.speculation.draft
        for _, variant, form in forms()
        if _ is model and (layer := merged(model, variant, form)).speculation
    }
    assert {draft.id for draft in model.drafts} <= used


def test_numbers_have_no_gap_and_every_entry_is_offered() -> None:
    assert [m.number for m in catalog()] == [*range(1, 41), None]


def test_the_seeds_models_are_served_as_they_were() -> None:
    """By the image that Sparks were measured with; a release is another variant."""
    for model in catalog():
        if model.number and model.number <= 14:
            assert model.image and model.image.reference == DEFAULT_IMAGE
            assert model.default_variant == model.variants[0].name == "spark"
    with_release = [m.alias for m in catalog() if "release" in {v.name for v in m.variants}]
    assert with_release[:2] == ["gpt-oss-120b", "gpt-oss-20b"]
    for model in catalog()[:14]:
        two = [f for v in model.variants if v.name == "release" for f in v.forms if f.nodes == 2]
        assert all("not yet seen" in form.note for form in two)


def images() -> list[EngineImage]:
    layers = [layer for model, variant, form in forms() for layer in (model, variant, form)]
    return [layer.image for layer in layers if layer.image]


def test_images_say_who_publishes_them() -> None:
    for image in images():
        assert image.third_party == (not image.reference.startswith("lmsysorg/sglang:"))
        assert not image.reference.endswith(":latest")
        assert not image.tag_from_prose or image.third_party
        assert fullmatch(r"[^()]+", image.reference)


def test_every_digest_has_a_public_source() -> None:
    """The three that a public source states."""
    digests = {(i.reference, i.digest[:15]) for i in images() if i.digest}
    assert digests == {
        ("lmsysorg/sglang:v0.5.19", "sha256:d6e72886"),
        ("lmsysorg/sglang:dev-qwen38-next-local", "sha256:9d2a843c"),
        ("littlecedar/dgx-spark-dsv41:canary-roce", "sha256:4e5002ab"),
    }
    assert all(i.digest_source for i in images() if i.digest)


def test_cache_sizes_that_sources_state() -> None:
    by_alias = {m.alias: m.shape for m in entries()}
    # 16 layers with attention x 4 heads x 256 x K and V, in FP8.
    assert by_alias["qwen38-27b"].kv_bytes_per_token(1, 1) == 32_768
    assert by_alias["dsv4-flash"].kv_bytes_per_token(2) == 14_600
    assert by_alias["inkling-small"].kv_bytes_per_token() is None


def test_an_entry_for_four_nodes_alone_has_derived_forms_for_fewer() -> None:
    """Fewer would hold them; nobody has shown it."""
    dgxarley = {
        (model.alias, form.nodes, form.evidence or variant.evidence)
        for model, variant, form in forms()
        if variant.name == "dgxarley"
    }
    assert {(nodes, evidence) for _, nodes, evidence in dgxarley} == {
        (1, "derived"),
        (2, "derived"),
        (4, "reported"),
    }
    assert {n for a, n, _ in dgxarley if a == "minimax-m27"} == {2, 4}


def test_a_published_figure_names_its_source_and_publisher() -> None:
    for model in entries():
        for figure in model.published:
            assert figure.source and figure.evidence != "derived"
            assert figure.variant or figure.setting or figure.engine
            if figure.total_per_gpu:
                assert figure.streams and figure.input_tokens and figure.output_tokens


def test_layers_are_joined_and_the_last_value_wins() -> None:
    model = Layer(env={"A": "1", "B": "1"}, flags=("--a",), mem_fraction=0.8, kv_cache_dtype="x")
    form = Layer(env={"B": "2"}, flags=("--b 1",), mem_fraction=0.7, disable_cuda_graph=False)
    assert merged(model, Layer(), form) == Layer(
        env={"A": "1", "B": "2"},
        flags=("--a", "--b 1"),
        mem_fraction=0.7,
        kv_cache_dtype="x",
        disable_cuda_graph=False,
    )
