"""What of the catalog a declaration takes: layers, variants, forms, and whose each value is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from samples import declare, every_form, rendered, spark, want

from cluster.catalog.entry import (
    DraftModel,
    EngineImage,
    Form,
    Model,
    Speculation,
    Variant,
    merged,
)
from cluster.catalog.memory import USUAL_FRACTION
from cluster.catalog.models import find_model
from cluster.engine.argv import argv
from cluster.engine.options import RECORDED, check_arguments
from cluster.engine.pairs import check_pairs
from cluster.engine.versions import UNKNOWN
from cluster.fabric import FabricOptions, choose_fabric
from cluster.findings import Refused
from cluster.plan.specs import declared_specs
from cluster.rank.docker import create
from cluster.settings.declaration import Declaration, parse_declaration
from cluster.settings.resolve import (
    DEFAULT_IMAGE,
    choice_findings,
    image_reference,
    resolve,
    source_lines,
)

DIGEST = "sha256:" + "5" * 64
RELEASE = EngineImage(
    reference="lmsysorg/sglang:v0.5.19",
    digest=DIGEST,
    digest_source="somebody",
    publisher="SGLang's project",
    sglang="0.5.19",
    nccl="2.29.7 (pip)",
)
OLD = EngineImage(reference="lmsysorg/sglang:v0.5.11", publisher="SGLang's project", nccl="2.28.9")
TWO = Form(nodes=2, tp=2, mem_fraction=0.6, flags=("--page-size 64",))
MODEL = Model(
    id="org/big",
    alias="big",
    mem_fraction=0.5,
    kv_cache_dtype="fp8_e4m3",
    env={"OF": "model", "A": "1"},
    flags=("--attention-backend flashinfer",),
    image=OLD,
    drafts=(DraftModel(id="org/draft", revision="d" * 40),),
    default_variant="quick",
    variants=(
        Variant(
            name="quick",
            evidence="verified upstream",
            image=RELEASE,
            env={"OF": "variant"},
            disable_cuda_graph=False,
            speculation=Speculation(
                algorithm="DSPARK", draft="org/draft", num_steps=3, block_size=7
            ),
            forms=(Form(nodes=1, tp=1), TWO),
        ),
        Variant(name="plain", evidence="derived", max_running_requests=8),
    ),
)


def resolved(nodes: int = 2, model: Model = MODEL, **data: Any) -> Declaration:
    return resolve(parse_declaration(declare(nodes, model="org/big", **data)), model)


def refusal(nodes: int = 2, model: Model = MODEL, **data: Any) -> str:
    with pytest.raises(Refused) as refused:
        resolved(nodes, model, **data)
    (finding,) = refused.value.findings
    return str(finding)


# ---- layers


def test_the_strongest_layer_that_states_a_value_decides() -> None:
    one, two = resolved(1).common, resolved(2).common
    assert (one.mem_fraction, two.mem_fraction) == (0.5, 0.6)
    assert one.kv_cache_dtype == two.kv_cache_dtype == "fp8_e4m3"
    assert one.image == two.image == f"lmsysorg/sglang@{DIGEST}"
    assert resolved(variant="plain").common.image == OLD.reference


def test_environment_and_flags_are_joined_over_the_layers() -> None:
    declared = resolved(2, env={"A": "mine"})
    assert declared.common.env == {"OF": "variant", "A": "mine"}
    words = " ".join(declared.catalog.arguments)
    assert words.endswith("--attention-backend flashinfer --page-size 64")


def test_what_a_user_declares_wins() -> None:
    mine: dict[str, Any] = {
        "mem_fraction": 0.7,
        "kv_cache_dtype": "bf16",
        "image": "me/mine:1",
        "disable_cuda_graph": True,
        "tensor_parallel": 1,
        "pipeline_parallel": 2,
    }
    settings = resolved(2, **mine).common
    assert {name: getattr(settings, name) for name in mine} == mine


@pytest.mark.parametrize("model", [Model(id="org/new"), Model(id="/models/x")])
def test_a_model_outside_the_catalog_has_the_usual_values(model: Model) -> None:
    settings = resolved(2, model).common
    assert (settings.image, settings.mem_fraction) == (DEFAULT_IMAGE, USUAL_FRACTION)
    assert settings.disable_cuda_graph is True
    assert not resolved(2, model).catalog.variant


def test_it_changes_nothing_more_the_second_time() -> None:
    once = resolved(2)
    again = resolve(once, MODEL)
    assert again.nodes == once.nodes


# ---- variants and forms


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("quik", "did you mean quick?", id="typo"),
        pytest.param("fast", "it has: quick (default), plain", id="list"),
    ],
)
def test_a_wrong_variant_is_refused_with_the_names_there_are(name: str, words: str) -> None:
    assert words in refusal(variant=name)


def test_a_variant_of_a_model_without_any_is_refused() -> None:
    assert "org/big has no variants" in refusal(model=Model(id="org/big"), variant="eagle")


def test_without_a_default_one_must_be_chosen() -> None:
    model = replace(MODEL, default_variant="")
    assert "big has no default variant; it has: quick, plain" in refusal(model=model)
    assert resolved(model=model, variant="plain").catalog.variant == "plain"


def test_a_variant_for_other_numbers_of_nodes_is_refused_with_one_that_fits() -> None:
    message = refusal(4)
    assert "big's variant quick is for 1 or 2 nodes, and 4 would serve" in message
    assert "variant=plain" in message
    only = replace(MODEL, variants=MODEL.variants[:1])
    assert "head_only=true" in refusal(4, model=only)
    assert resolved(4, model=only, tensor_parallel=4).common.tensor_parallel == 4
    assert resolved(4, model=only, state="absent").catalog.variant == "quick"


def test_the_head_alone_is_one_node() -> None:
    assert resolved(4, head_only=True).common.mem_fraction == 0.5


# ---- speculative decoding


def test_the_options_of_speculative_decoding() -> None:
    words = " ".join(resolved(1).catalog.arguments)
    assert words.startswith(
        "--speculative-algorithm DSPARK --speculative-draft-model-path org/draft "
        f"--speculative-draft-model-revision {'d' * 40} --speculative-num-steps 3 "
        "--speculative-dspark-block-size 7 "
    )


def test_draft_none_is_no_speculation_and_another_draft_is_used() -> None:
    without = resolved(1, draft="none").catalog
    assert without.draft is None and "--speculative-algorithm" not in without.arguments
    other = resolved(1, draft="me/draft").catalog
    assert other.draft == DraftModel(id="me/draft")
    assert "me/draft" in other.arguments and "d" * 40 not in other.arguments


def test_where_the_draft_comes_from_is_shown() -> None:
    assert "draft = org/draft (variant quick)" in source_lines(resolved(1))
    assert "draft = me/draft (inventory)" in source_lines(resolved(1, draft="me/draft"))
    assert not [line for line in source_lines(resolved(1, draft="none")) if "org/draft" in line]


@pytest.mark.parametrize(
    "words",
    [
        ("--speculative-draft-model-path", "/drafts/own"),
        ("--speculative-draft-model=/drafts/own",),
        # As argparse takes it.
        ("--speculative-draft-model-pa", "/drafts/own"),
        ("--speculative-draft-model-p=/drafts/own",),
    ],
)
def test_a_draft_that_lies_on_the_nodes_takes_the_place_of_the_catalogs(
    words: tuple[str, ...],
) -> None:
    catalog = resolved(1, extra_args=words).catalog
    assert catalog.draft is None and "--speculative-algorithm" in catalog.arguments
    assert not [word for word in catalog.arguments if word.startswith("--speculative-draft-model")]


def test_a_draft_in_the_models_own_repository_has_the_models_revision() -> None:
    commit = "e" * 40
    catalog = resolved(1, draft=MODEL.id, revision=commit).catalog
    assert catalog.draft is None
    words = " ".join(catalog.arguments)
    assert f"--speculative-draft-model-path {MODEL.id} " in words
    assert f"--speculative-draft-model-revision {commit}" in words


def test_a_declared_draft_is_used_by_a_model_without_speculation_too() -> None:
    catalog = want(1, model="qwen7b", draft="me/draft").catalog
    assert catalog.draft == DraftModel(id="me/draft")
    assert catalog.arguments == ("--speculative-draft-model-path", "me/draft")


# ---- CUDA graphs


@pytest.mark.parametrize(
    ("nodes", "image", "stated", "off"),
    [
        pytest.param(1, OLD, None, False, id="one-node"),
        pytest.param(1, None, True, True, id="one-node-that-fails-with-them"),
        pytest.param(2, RELEASE, False, False, id="shown-with-a-new-NCCL"),
        pytest.param(2, RELEASE, None, True, id="not-shown"),
        pytest.param(2, OLD, False, True, id="an-NCCL-that-hangs"),
        pytest.param(2, None, False, True, id="unknown-NCCL"),
    ],
)
def test_graphs_are_on_where_the_evidence_says_so(
    nodes: int, image: EngineImage | None, stated: bool | None, off: bool
) -> None:
    model = Model(id="org/big", image=image, disable_cuda_graph=stated)
    declared = resolved(nodes, model)
    assert declared.common.disable_cuda_graph is off
    assert declared.catalog.sources["disable_cuda_graph"]


# ---- what is reported


def test_a_dry_run_shows_where_each_value_comes_from() -> None:
    one, two = declare(2, mem_fraction=0.7, port=31000, env={"B": "2"})
    hosts = [replace(host, overridden=frozenset({"port"})) for host in (one, two)]
    lines = list(source_lines(resolve(parse_declaration(hosts), MODEL)))
    for line in (
        "variant = quick (default; verified upstream)",
        "mem_fraction = 0.7 (inventory)",
        "port = 31000 (--data)",
        "kv_cache_dtype = fp8_e4m3 (model)",
        f"image = lmsysorg/sglang@{DIGEST} (variant quick)",
        "disable_cuda_graph = False (the catalog, with NCCL 2.29.7)",
        "env OF = variant (catalog)",
        "env B = 2 (inventory)",
    ):
        assert line in lines


def test_images_of_others_and_tags_from_prose_are_reported() -> None:
    for change in ({"third_party": True}, {"tag_from_prose": True}):
        model = Model(id="org/big", image=replace(OLD, **change))
        assert len(list(choice_findings(resolved(1, model), model))) == 1
    assert not list(choice_findings(resolved(1, Model(id="org/big", image=OLD)), MODEL))


# ---- every entry


each_form = pytest.mark.parametrize(
    ("model", "variant", "nodes"),
    [pytest.param(*f, id=f"{f[0].alias}-{f[1]}-{f[2]}") for f in every_form()],
)


@each_form
def test_every_entry_makes_a_launch_line(model: Model, variant: str, nodes: int) -> None:
    _, version, specs = rendered(model, nodes, variant=variant)
    assert len(specs) == nodes
    chosen = next((v for v in model.variants if v.name == variant), None)
    form = next((f for f in chosen.forms if f.nodes == nodes), None) if chosen else None
    stated = merged(*(layer for layer in (model, chosen, form) if layer))
    for spec in specs.values():
        words = create(spec).argv
        assert words[words.index("--model-path") + 1] == model.id
        assert spec.image == (image_reference(stated.image) if stated.image else DEFAULT_IMAGE)
        assert stated.env.items() <= spec.env.items()
        if stated.tool_call_parser:
            assert words[words.index("--tool-call-parser") + 1] == stated.tool_call_parser
        line = argv(spec.launch, version)
        options = [word for word in line if word.startswith("--")]
        assert len(options) == len(set(options))
        if form:
            assert (spec.launch.tp, spec.launch.pp) == (form.tp, form.pp)


@each_form
def test_the_images_parser_takes_the_launch_line_of_every_entry(
    model: Model, variant: str, nodes: int
) -> None:
    declared, version, specs = rendered(model, nodes, variant=variant)
    for spec in specs.values():
        line = argv(spec.launch, version)[1:]
        assert check_arguments(line, version, declared.catalog.own_arguments) == []
        assert check_pairs(line, version) == []


FORMS = [*every_form()]


@settings(max_examples=50)
@given(
    form=st.integers(0, len(FORMS) - 1),
    version=st.sampled_from((*RECORDED, "0.5.20", UNKNOWN)),
    data=st.fixed_dictionaries(
        {},
        optional={
            "context_length": st.integers(1024, 10**6),
            "mem_fraction": st.floats(0.1, 0.9),
            "disable_cuda_graph": st.booleans(),
            "draft": st.sampled_from(["auto", "none", "org/draft"]),
            "served_model_name": st.just("mine"),
            "dist_timeout": st.integers(1, 3600),
            "revision": st.just("main"),
            "kv_cache_dtype": st.sampled_from(["auto", "fp8_e4m3"]),
        },
    ),
)
def test_no_setting_makes_an_option_that_the_image_lacks(
    form: int, version: str, data: dict[str, Any]
) -> None:
    model, variant, nodes = FORMS[form]
    declared, own, specs = rendered(model, nodes, variant=variant, **data)
    launch = specs[declared.names[-1]].launch
    line = argv(launch, own)[1:]
    assert check_arguments(line, own, declared.catalog.own_arguments) == []
    # In any image, where the entry's own options are left out.
    line = argv(replace(launch, model_args=()), version)[1:]
    assert not [f for f in check_arguments(line, version) if "does not know" in f.what]


def test_the_default_variant_is_no_change_of_an_earlier_label() -> None:
    declared = want(2, model="gpt-oss-120b")
    facts = {name: spark(rank) for rank, name in enumerate(declared.names)}
    fabric = choose_fabric(list(facts.values()), FabricOptions())
    specs = declared_specs(declared, find_model(1), fabric, facts, "0.5.3.post3")
    for spec in specs.values():
        assert not {"variant", "kv_cache_dtype", "model_args"} & spec.fields().keys()
        assert "kv_cache_dtype" not in spec.dump()
