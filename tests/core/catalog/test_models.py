"""The catalogue, and every way to name a model."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.entry import Shape
from cluster.catalog.models import Model, catalog, find_model
from cluster.findings import Level, Refused

# The models that the project began with: all that the arithmetic needs of them is known.
FIRST = [m for m in catalog() if m.number is not None and m.number <= 14]
BF16 = [m for m in FIRST if "gpt-oss" not in m.id]
each_of_the_first = pytest.mark.parametrize("model", FIRST, ids=lambda m: m.alias)
each = pytest.mark.parametrize("model", catalog(), ids=lambda m: m.alias)


def refusal(name: object) -> str:
    with pytest.raises(Refused) as caught:
        find_model(name)  # type: ignore[arg-type]
    (finding,) = caught.value.findings
    assert finding.level is Level.ERROR
    assert finding.cure.startswith("pyinfra INVENTORY deploy.py --data model=")
    return str(finding)


def test_the_fourteen_models_keep_their_numbers() -> None:
    assert [m.id for m in FIRST] == [
        "openai/gpt-oss-120b",
        "openai/gpt-oss-20b",
        "Qwen/Qwen2.5-7B-Instruct",
        "Qwen/Qwen2.5-14B-Instruct",
        "Qwen/Qwen2.5-32B-Instruct",
        "Qwen/Qwen2.5-72B-Instruct",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "mistralai/Mistral-Nemo-Instruct-2407",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "microsoft/phi-4",
        "google/gemma-2-27b-it",
        "deepseek-ai/DeepSeek-V2-Lite-Chat",
    ]
    assert [m.number for m in FIRST] == list(range(1, 15))


def test_aliases_are_unique() -> None:
    aliases = [m.alias for m in catalog()]
    assert len(set(aliases)) == len(aliases) == 41 and all(aliases)


@each_of_the_first
def test_every_attribute_that_the_arithmetic_needs_is_known(model: Model) -> None:
    shape = model.shape
    assert model.weight_bytes and model.parameters and model.max_context
    assert shape.layers and shape.attention_heads and shape.kv_heads and shape.head_dim
    assert model.license and model.notes


@pytest.mark.parametrize("model", BF16, ids=lambda m: m.alias)
def test_bf16_weights_are_two_bytes_a_parameter(model: Model) -> None:
    assert model.parameters and model.weight_bytes == 2 * model.parameters


@pytest.mark.parametrize(
    ("alias", "layers", "experts"),
    [
        pytest.param("gpt-oss-120b", 36, 128, id="120b"),
        pytest.param("gpt-oss-20b", 24, 32, id="20b"),
    ],
)
def test_gpt_oss_sizes_follow_from_its_shapes(alias: str, layers: int, experts: int) -> None:
    hidden, vocabulary, queries, keys = 2880, 201_088, 64 * 64, 8 * 64
    expert_weights = layers * experts * 3 * hidden * hidden
    attention = 2 * hidden * queries + queries + 2 * (hidden * keys + keys) + hidden + 64
    router_and_norms = (hidden + 1) * experts + 2 * hidden
    biases = experts * 3 * hidden
    rest = layers * (attention + router_and_norms + biases) + 2 * vocabulary * hidden + hidden
    model = find_model(alias)
    assert model.parameters == expert_weights + rest
    assert model.weight_bytes == expert_weights * 17 // 32 + 2 * rest


@each_of_the_first
def test_memory_fractions_stay_within_proven_limits(model: Model) -> None:
    assert model.mem_fraction in (0.80, 0.85)


def test_only_what_the_hub_gates_is_gated() -> None:
    assert {m.alias for m in catalog() if m.gated} == {"llama8b", "llama70b", "gemma27b"}


def test_remote_code_is_trusted_where_it_always_was() -> None:
    assert {m.alias for m in FIRST if m.trust_remote_code} == {"deepseek-lite"}


def test_gpt_oss_alone_wants_tiktoken_and_reasons() -> None:
    gpt_oss = {"gpt-oss-120b", "gpt-oss-20b"}
    assert {m.alias for m in catalog() if m.tiktoken} == gpt_oss
    assert {m.alias for m in FIRST if m.reasoning_parser} == gpt_oss


def test_mixtures_of_experts_know_their_active_parameters() -> None:
    mixtures = [m for m in FIRST if m.moe]
    assert len(mixtures) == 4
    assert mixtures == [m for m in FIRST if m.shape.experts]
    assert all(m.active_parameters and m.active_parameters < (m.parameters or 0) for m in mixtures)


@each
def test_found_by_alias_id_and_number(model: Model) -> None:
    names: list[str | int] = [model.alias, model.id, model.alias.upper(), model.id.lower()]
    names += [f" {model.alias} "]
    if model.number is not None:
        names += [model.number, str(model.number)]
    assert {find_model(name) for name in names} == {model}


@pytest.mark.parametrize("id_", ["Qwen/Qwen3-8B", "a/b", "my-org/My_Model.v2"])
def test_a_model_outside_the_catalogue_has_unknown_attributes(id_: str) -> None:
    assert find_model(id_) == Model(id=id_)
    assert not find_model(id_).local


@pytest.mark.parametrize("path", ["/models/x", "~/models/x", "/x.gguf", "~/dir/X.GGUF"])
def test_a_path_is_a_model(path: str) -> None:
    assert find_model(path) == Model(id=path)
    assert find_model(path).local


@pytest.mark.parametrize(
    "path", ["./x", "../x", "~ann/x", "x.gguf", "dir/X.GGUF", "./x.gguf", "/models/a:b", "~"]
)
def test_a_path_must_be_absolute_on_the_nodes(path: str) -> None:
    message = refusal(path)
    assert (
        f"model = {path!r} is not a model: a path must be an absolute path on the nodes" in message
    )


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        pytest.param("qwen72", "qwen72b", id="cut-short"),
        pytest.param("gpt-oss", "gpt-oss-20b", id="no-size"),
        pytest.param("gptoss120b", "gpt-oss-120b", id="no-dashes"),
        pytest.param("llama-70b", "llama70b", id="dash"),
        pytest.param("deepseek", "deepseek-lite", id="family"),
        pytest.param("Mixtral-8x7B-Instruct-v0.1", "mixtral", id="id-without-owner"),
        pytest.param("phi-4", "phi4", id="phi"),
        pytest.param("smolm2", "smollm2", id="typo"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(word: str, nearest: str) -> None:
    message = refusal(word)
    assert repr(word) in message and f"model={nearest}" in message and "did you mean" in message


@pytest.mark.parametrize("number", [0, 41, 99, -1, "0", "99", "-3"])
def test_a_number_out_of_range_names_the_range(number: int | str) -> None:
    assert "numbers are 1 to 40" in refusal(number)


@pytest.mark.parametrize("nothing", [None, True, False, "", "  ", 1.5, [], "a b", "a/b/c", "zzzz"])
def test_an_invalid_model_name_is_refused(nothing: object) -> None:
    assert f"model = {nothing!r}" in refusal(nothing)


@given(st.one_of(st.text(), st.integers(), st.from_regex(r"\A[a-z0-9./~-]{1,12}\Z"), st.floats()))
def test_find_never_fails_in_another_way(name: object) -> None:
    try:
        model = find_model(name)  # type: ignore[arg-type]
    except Refused as refused:
        assert refused.findings
    else:
        assert model.id


@pytest.mark.parametrize(
    ("alias", "tp", "expected"),
    [
        pytest.param("llama70b", 1, 80 * 2 * 8 * 128 * 2, id="all-heads"),
        pytest.param("llama70b", 2, 80 * 2 * 4 * 128 * 2, id="half"),
        pytest.param("qwen7b", 7, 28 * 2 * 1 * 128 * 2, id="copied-head"),
        pytest.param("deepseek-lite", 1, 27 * 576 * 2, id="latent"),
        pytest.param("deepseek-lite", 4, 27 * 576 * 2, id="latent-is-not-split"),
    ],
)
def test_kv_bytes_per_token(alias: str, tp: int, expected: int) -> None:
    assert find_model(alias).shape.kv_bytes_per_token(tp) == expected


def test_kv_bytes_of_an_unknown_model_are_unknown() -> None:
    assert Shape().kv_bytes_per_token() is None
    assert Shape(layers=3).kv_bytes_per_token() is None
