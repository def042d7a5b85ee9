"""What `spark-bench all` would do: which models, which variants, in which order, why not others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from spark_bench.cli.check import OVERRIDES
from spark_bench.errors import BadInput
from spark_bench.load.profile import Profile
from spark_bench.suite.plan import (
    Case,
    Feasibility,
    apply_feasibility,
    plan_cases,
    refuse_empty,
    select_models,
    slug,
)
from spark_bench.suite.preview import Estimate, describe_downloads, estimate_case
from spark_bench.suite.variants import format_setting, parse_variants, variant_label
from suite_samples import CATALOGUE, listing, suite_options

SPARKS = [model.alias for model in CATALOGUE[:6]]


def planned(nodes: int = 2, **changes: Any) -> list[Case]:
    return plan_cases(suite_options(**changes), listing(nodes))


# ---- models


@pytest.mark.parametrize(
    "words, aliases",
    [
        pytest.param(["3"], ["qwen7b"], id="number"),
        pytest.param(["qwen72b"], ["qwen72b"], id="alias"),
        pytest.param(["QWEN72B"], ["qwen72b"], id="alias-in-capitals"),
        pytest.param(["Qwen/Qwen2.5-7B-Instruct"], ["qwen7b"], id="id"),
        pytest.param(["6", "1"], ["qwen72b", "gpt-oss-120b"], id="the-order-typed"),
        pytest.param(["3", "qwen7b", "3"], ["qwen7b"], id="each-once"),
        pytest.param(["smollm2"], ["smollm2"], id="another-runtime-by-name"),
    ],
)
def test_models_by_any_of_their_names(words: list[str], aliases: list[str]) -> None:
    assert [model.alias for model in select_models(words, CATALOGUE)] == aliases


@pytest.mark.parametrize(
    "word, expected",
    [
        pytest.param("99", "no model of the catalog has this number; numbers are 1 to 17", id="99"),
        pytest.param("0", "no model of the catalog has this number", id="0"),
        pytest.param("-1", "no model of the catalog has this number", id="negative"),
        pytest.param("qwen7c", "did you mean qwen7b", id="nearly-an-alias"),
        pytest.param("Qwen/Qwen2.5-7B-Instrct", "did you mean qwen7b", id="nearly-an-id"),
        pytest.param("zzz", "there are: gpt-oss-120b, gpt-oss-20b,", id="nothing-near"),
    ],
)
def test_a_choice_that_names_no_model_is_refused(word: str, expected: str) -> None:
    with pytest.raises(BadInput, match=f"--models {word}: .*{expected}") as raised:
        select_models(["1", word], CATALOGUE)
    assert raised.value.exit_code == 2


def test_all_unknown_names_are_reported_at_once() -> None:
    with pytest.raises(BadInput, match=r"--models 99: .*; --models qwen7c: "):
        select_models(["99", "1", "qwen7c"], CATALOGUE)


def test_without_names_all_servable_models_are_planned() -> None:
    assert [case.short for case in planned()] == SPARKS
    laptop = listing(1, "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert [case.short for case in plan_cases(suite_options(), laptop)] == ["smollm2"]
    assert [case.short for case in plan_cases(suite_options(), listing(1, "of/its-own"))] == SPARKS


def test_gated_models_can_be_left_out() -> None:
    skipped = [case for case in planned(skip_token=True) if case.skip]
    assert [(case.short, case.skip) for case in skipped] == [
        ("llama8b", "it is gated (--skip-token)")
    ]
    assert not any(case.skip for case in planned())


# ---- the models' own variants


def test_a_variant_for_one_node_is_served_on_the_head() -> None:
    vary = parse_variants(["variant=eagle,dspark"], None)
    cases = planned(models=("qwen38-27b",), variants=vary)
    assert [case.settings for case in cases] == [
        {"variant": "eagle", "head_only": True}, {"variant": "dspark", "head_only": True}
    ]  # fmt: skip
    assert [(case.name, case.variant) for case in cases] == [
        ("qwen38-27b_eagle", "eagle"), ("qwen38-27b_dspark", "dspark")
    ]  # fmt: skip
    assert [case.settings for case in planned(nodes=1, models=("qwen38-27b",))] == [{}]


def test_a_variant_of_the_inventorys_model_is_not_another_models() -> None:
    declared = replace(listing(2), declares_variant=True)
    cases = plan_cases(suite_options(models=("gpt-oss-120b", "qwen7b")), declared)
    assert [case.settings for case in cases] == [{}, {"variant": "auto"}]
    assert [case.variant for case in cases] == ["", ""]


def test_a_variant_that_is_not_the_default_is_in_the_label() -> None:
    cases = planned(models=("qwen38-27b",), variants=({"mem_fraction": 0.8},))
    for variant, label in (("eagle", "mem_fraction=0.8"), ("dspark", "dspark mem_fraction=0.8")):
        (case,) = apply_feasibility(cases, [Feasibility(variant=variant)], None)
        assert (case.served_variant, case.variant) == (variant, label)


DOUBT = "x/y:z is x's image, neither SGLang's nor the vendor's"


@pytest.mark.parametrize(
    ("changes", "skipped"),
    [
        pytest.param({}, True, id="all-models"),
        pytest.param({"models": ("qwen38-27b",)}, False, id="named"),
        pytest.param({"variants": ({"variant": "eagle"},)}, False, id="variant-named"),
    ],
)
def test_a_third_partys_image_is_only_used_if_somebody_chose_it(
    changes: dict[str, Any], skipped: bool
) -> None:
    cases = [case for case in planned(**changes) if case.short == "qwen38-27b"]
    answer = Feasibility(variant="eagle", image_doubts=(DOUBT,))
    (case,) = apply_feasibility(cases, [answer], None)
    assert case.skip == (f"{DOUBT}: name the model with --models, or its variant with --vary, to "
                         "measure it" if skipped else "")  # fmt: skip


def test_the_plan_lists_what_would_be_downloaded() -> None:
    cases = planned(models=("qwen38-27b", "qwen7b"))
    answers = [
        Feasibility(weight_bytes=21 * 10**9, draft="a/d", draft_bytes=10**9, image="i:1"),
        Feasibility(weight_bytes=None, image="i:1"),
    ]
    (text,) = describe_downloads(apply_feasibility(cases, answers, None))
    assert text.splitlines() == [
        "downloads, where the nodes don't have them: 22.0 GB of weights and drafts, and 1 of "
        "unknown size: Qwen/Qwen2.5-7B-Instruct",
        "  draft of qwen38-27b: a/d, 1.0 GB",
        "  image i:1",
    ]


# ---- nodes


@pytest.mark.parametrize(
    "nodes, spread, settings",
    [
        pytest.param(2, "", {}, id="as-the-inventory-says"),
        pytest.param(2, "one", {"head_only": True}, id="single"),
        pytest.param(2, "all", {"head_only": False}, id="multi"),
        pytest.param(1, "", {}, id="one-node"),
        pytest.param(1, "one", {}, id="single-of-one"),
    ],
)
def test_cases_spread_over_the_requested_nodes(
    nodes: int, spread: str, settings: dict[str, bool]
) -> None:
    cases = plan_cases(suite_options(models=("3",), nodes=spread), listing(nodes))
    assert [case.settings for case in cases] == [settings]


def test_multi_node_is_refused_on_a_single_node() -> None:
    with pytest.raises(BadInput, match=r"--multi-node: inventory .* has 1 node"):
        plan_cases(suite_options(nodes="all"), listing(1))


@pytest.mark.parametrize(
    "variant, spread, head_only",
    [
        pytest.param({"tensor_parallel": 1}, "", True, id="one-gpu"),
        pytest.param({"tensor_parallel": 2}, "", None, id="two"),
        pytest.param({"tensor_parallel": 1, "pipeline_parallel": 2}, "", None, id="two-stages"),
        pytest.param({"tensor_parallel": 1}, "all", False, id="asked-for-otherwise"),
        pytest.param({"tensor_parallel": 1, "head_only": False}, "", False, id="set-otherwise"),
        pytest.param({"mem_fraction": 0.8}, "", None, id="says-nothing-of-it"),
    ],
)
def test_a_variant_of_one_gpu_is_the_heads(
    variant: dict[str, Any], spread: str, head_only: bool | None
) -> None:
    (case,) = plan_cases(suite_options(models=("3",), nodes=spread, variants=(variant,)), listing())
    assert case.settings.get("head_only") == head_only


# ---- variants


@pytest.mark.parametrize(
    "vary, variants",
    [
        pytest.param([], [{}], id="none"),
        pytest.param(["tp=1,2"], [{"tensor_parallel": 1}, {"tensor_parallel": 2}], id="short-name"),
        pytest.param(["pp=2"], [{"pipeline_parallel": 2}], id="pp"),
        pytest.param(["mem_fraction=0.8,0.80"], [{"mem_fraction": 0.8}], id="the-same-once"),
        pytest.param(
            ["disable_cuda_graph=true,false"],
            [{"disable_cuda_graph": True}, {"disable_cuda_graph": False}],
            id="bools",
        ),
        pytest.param(["tool_call_parser=none, qwen25"],
                     [{"tool_call_parser": "none"}, {"tool_call_parser": "qwen25"}], id="words"),
        pytest.param(
            ["a=1,2", "b=3,4"],
            [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}],
            id="every-combination",
        ),
    ],
)  # fmt: skip
def test_variants_of_the_command_line(vary: list[str], variants: list[dict[str, Any]]) -> None:
    assert list(parse_variants(vary, None)) == variants


@pytest.mark.parametrize(
    "vary, expected",
    [
        pytest.param(["tp"], "--vary tp: is not NAME=VALUE", id="no-values"),
        pytest.param(["tp="], "is not NAME=VALUE", id="empty"),
        pytest.param(["=1"], "is not NAME=VALUE", id="no-name"),
        pytest.param(["tp=1", "tensor_parallel=2"], "is varied already", id="twice"),
        pytest.param(["model=a,b"], "model can't vary: --models chooses", id="model"),
        pytest.param(["state=stopped"], "state can't vary", id="state"),
        pytest.param([f"{name}=1,2,3,4,5,6,7,8,9,10" for name in "abcd"],
                     "10000 combinations are more than 1000", id="too-many"),
    ],
)  # fmt: skip
def test_variants_that_are_none(vary: list[str], expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        parse_variants(vary, None)


def test_variants_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "matrix.toml"
    file.write_text(
        "[vary]\ntp = [1, 2]\n[[variant]]\ntp = 2\nmem_fraction = 0.7\n[[variant]]\ntp = 1\n"
    )
    assert list(parse_variants([], file)) == [
        {"tensor_parallel": 1},
        {"tensor_parallel": 2},
        {"tensor_parallel": 2, "mem_fraction": 0.7},
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("", "holds no variant", id="empty"),
        pytest.param("tp = [1]", "unknown table tp", id="outside"),
        pytest.param("[vary]\ntp = 1", "vary.tp must be a list", id="no-list"),
        pytest.param("[vary]\ntp = []", "vary.tp must be a list", id="empty-list"),
        pytest.param("[vary]", r"\[vary\] must hold", id="empty-table"),
        pytest.param("variant = [1]", "a variant is a table", id="no-table"),
        pytest.param("[[variant]]\nmodel = 'a'", "model can't vary", id="model"),
        pytest.param("[", "is not TOML", id="no-toml"),
    ],
)
def test_files_without_variants(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "matrix.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=expected):
        parse_variants([], file)


def test_both_ways_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--vary doesn't go with --matrix"):
        parse_variants(["tp=1"], tmp_path)


@pytest.mark.parametrize(
    "value, text",
    [
        pytest.param(True, "true", id="bool"),
        pytest.param(2, "2", id="int"),
        pytest.param(0.85, "0.85", id="float"),
        pytest.param("none", '"none"', id="word-that-is-a-value"),
        pytest.param("auto", "auto", id="word"),
        pytest.param("1.10", '"1.10"', id="word-that-is-a-number"),
        pytest.param(["--a", "b c"], '["--a", "b c"]', id="list"),
        pytest.param({"A": "1"}, '{"A": "1"}', id="mapping"),
    ],
)
def test_a_value_as_pyinfra_reads_it_back(value: Any, text: str) -> None:
    assert format_setting(value) == text


def test_case_names_are_unique_and_safe_for_files() -> None:
    cases = planned(models=("3", "6"), variants=({"x": "a/b"}, {"x": "a b"}, {"x": "a|b"}))
    names = [case.name for case in cases]
    assert len({name.lower() for name in names}) == 6
    assert all(slug(name) == name for name in names)
    assert names[0] == "qwen7b_xa-b"
    assert [case.model for case in cases[:3]] == ["Qwen/Qwen2.5-7B-Instruct"] * 3


def test_a_variant_in_words() -> None:
    assert (
        variant_label({"tensor_parallel": 2, "disable_cuda_graph": False})
        == "tp=2 disable_cuda_graph=false"
    )


# ---- what the project refuses


def test_cases_the_project_refuses_are_skipped_with_the_reason() -> None:
    cases = planned(models=("3", "6"))
    judged = apply_feasibility(
        cases,
        [Feasibility(model="m", nodes=2, tp=2), Feasibility(("does not fit", "nor that"))],
        None,
    )
    assert [case.skip for case in judged] == ["", "does not fit; nor that"]
    assert (judged[0].nodes, judged[0].tp) == (2, 2)


def test_parallelism_that_has_no_effect_is_no_variant() -> None:
    cases = plan_cases(
        suite_options(models=("3",), nodes="one", variants=({"tensor_parallel": 2},)), listing()
    )
    (case,) = apply_feasibility(cases, [Feasibility(nodes=1, tp=1, pp=1)], None)
    assert case.skip == "tensor_parallel=2 has no effect with head_only=true: it would be 1"


@pytest.mark.parametrize(
    ("skip_token", "skipped"),
    [
        pytest.param(None, True, id="by-default"),
        pytest.param(True, True, id="left-out"),
        pytest.param(False, False, id="tried"),
    ],
)
def test_a_model_lacking_a_token_is_skipped_with_a_fix(
    skip_token: bool | None, skipped: bool
) -> None:
    cases = planned(models=("qwen72b",), skip_token=skip_token)
    (case,) = apply_feasibility(
        cases, [Feasibility(model="m", nodes=2, tp=2, lacks_token=True)], skip_token
    )
    assert bool(case.skip) == skipped
    assert not skipped or "hf auth login, or export HF_TOKEN" in case.skip


def test_nothing_left_to_measure_is_refused() -> None:
    cases = apply_feasibility(planned(models=("6",)), [Feasibility(("does not fit",))], None)
    with pytest.raises(BadInput, match="no model is left to measure:\n  qwen72b: does not fit"):
        refuse_empty(cases)
    with pytest.raises(BadInput, match="no model to run"):
        refuse_empty([])


# ---- how long it takes


def test_an_estimate_is_an_earlier_runs_or_a_rule_of_thumb() -> None:
    case = Case(name="a", model="org/a", short="a", nodes=2, tp=2, weight_bytes=100 * 10**9)
    assert estimate_case(case, suite_options(), {"a": Estimate(5, 6, True)}) == (5, 6, True)
    guess = estimate_case(case, suite_options(), {})
    assert guess.startup == 90 + 50
    assert guess.bench == pytest.approx(50 * 256 / 75)
    assert not guess.measured


def test_an_estimate_knows_rate_repeats_and_time_outs() -> None:
    case = Case(name="a", model="org/a", short="a", nodes=1, weight_bytes=10**12)
    slow = Profile("latency", 100, 128, 1, request_rate=2)
    guess = estimate_case(case, suite_options(profile=slow, repeat=3), {})
    assert guess.bench == 150
    assert guess.startup == 900
    assert estimate_case(case, suite_options(repeat=100), {}).bench == 600


def test_all_and_run_take_the_same_overrides() -> None:
    from spark_bench.cli.all import command

    names = {param.name for param in command.params}
    assert names >= set(OVERRIDES)


def test_help_imports_nothing_heavy() -> None:
    from heavy_imports import HEAVY, python

    output = python("-X", "importtime", "-m", "spark_bench", "all", "--help").stderr
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines()}
    assert "spark_bench.cli.commands" in imported
    assert not imported & set(HEAVY)
