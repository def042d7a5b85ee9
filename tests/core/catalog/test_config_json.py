"""config.json: what memory follows from, and files that lie."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cluster.catalog.config_json import MOST_BYTES, NoConfig, describe_model, parse_config
from cluster.catalog.entry import Model, Shape
from cluster.catalog.models import find_model

# Not copies of the hub's files: the values that the catalog states, under the names that
# transformers gives them for that architecture, with the rest of a file's usual company.
STATED: dict[str, dict[str, Any]] = {
    "qwen7b": {
        "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28,
        "vocab_size": 152064,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
        "sliding_window": 131072, "use_sliding_window": False, "torch_dtype": "bfloat16",
    },
    "llama8b": {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "vocab_size": 128256,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    },
    "nemo": {
        "model_type": "mistral", "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128,
        "vocab_size": 131072,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "sliding_window": None,
    },
    "mixtral": {
        "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32,
        "vocab_size": 32000,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
        "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None,
    },
    "phi4": {
        "model_type": "phi3", "hidden_size": 5120, "num_hidden_layers": 40,
        "vocab_size": 100352,
        "num_attention_heads": 40, "num_key_value_heads": 10, "max_position_embeddings": 16384,
    },
    "gemma27b": {
        "model_type": "gemma2", "hidden_size": 4608, "num_hidden_layers": 46, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 16, "max_position_embeddings": 8192,
        "sliding_window": 4096,
    },
    "gpt-oss-120b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 36, "head_dim": 64,
        "vocab_size": 201088,
        "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "layer_types": ["sliding_attention", "full_attention"] * 18, "sliding_window": 128,
        "num_local_experts": 128, "num_experts_per_tok": 4,
        "quantization_config": {"quant_method": "mxfp4"},
        "rope_scaling": {"factor": 32.0, "original_max_position_embeddings": 4096},
    },
    "deepseek-lite": {
        "model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27,
        "vocab_size": 102400,
        "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512,
        "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
        "n_routed_experts": 64, "num_experts_per_tok": 6, "max_position_embeddings": 163840,
        "rope_scaling": {"factor": 40, "original_max_position_embeddings": 4096, "type": "yarn"},
    },
    # The model's sizes are in text_config, since it sees. The heads of its linear layers are the
    # ones whose states have the size that owners measured.
    "qwen38-27b": {
        "model_type": "qwen3_5",
        "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        "text_config": {
            "model_type": "qwen3_5_text", "hidden_size": 5120, "num_hidden_layers": 64,
            "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
            "full_attention_interval": 4, "max_position_embeddings": 262144,
            "linear_num_value_heads": 48, "linear_num_key_heads": 16,
            "linear_value_head_dim": 128, "linear_key_head_dim": 128, "linear_conv_kernel_dim": 4,
        },
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
    },
    "qwen38-flash-next": {
        "model_type": "qwen4_exp", "hidden_size": 2560, "num_hidden_layers": 48,
        "num_attention_heads": 24, "num_key_value_heads": 2, "head_dim": 256,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12,
        "num_experts": 512, "num_experts_per_tok": 10, "max_position_embeddings": 262144,
    },
    "nemotron-super": {
        "model_type": "nemotron_h", "hidden_size": 4096, "num_hidden_layers": 88,
        "hybrid_override_pattern": "MEMEMEMEM*E" * 8, "num_attention_heads": 32,
        "num_key_value_heads": 2, "n_routed_experts": 512,
    },
    "minimax-m27": {
        "model_type": "minimax_m2", "hidden_size": 3072, "num_hidden_layers": 62,
        "num_key_value_heads": 8, "num_local_experts": 256, "num_experts_per_tok": 8,
        "max_position_embeddings": 196608,
    },
}  # fmt: skip
# Computed from the layers' and weights' shapes, which no config.json states.
NOT_THERE = {"expert_bytes", "embedding_bytes"}


@pytest.mark.parametrize("alias", STATED)
def test_a_config_gives_what_the_entry_states(alias: str) -> None:
    entry, config = find_model(alias), parse_config(json.dumps(STATED[alias]))
    for name in set(vars(Shape())) - NOT_THERE:
        stated = getattr(entry.shape, name)
        if stated is not None:
            assert getattr(config.shape, name) == pytest.approx(stated, rel=1e-3), name
    assert config.max_context == entry.max_context
    per_token = entry.shape.kv_bytes_per_token()
    assert per_token is None or config.shape.kv_bytes_per_token() == per_token


def test_a_state_is_half_as_large_in_bf16() -> None:
    inner = {**STATED["qwen38-27b"]["text_config"], "mamba_ssm_dtype": "bfloat16"}
    # 78.4 MB: hasso5703/dgx-spark-qwen38.
    assert parse_config(json.dumps(inner)).shape.state_bytes == pytest.approx(78.4e6, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "windowed"),
    [
        ({"sliding_window": 4096}, 40),
        ({"sliding_window": 4096, "sliding_window_pattern": 6}, 34),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"sliding_window": 0}, None),
        ({"sliding_window": 4096, "layer_types": ["full_attention"] * 40}, None),
    ],
)
def test_windows(fields: dict[str, Any], windowed: int | None) -> None:
    shape = parse_config(json.dumps({"num_hidden_layers": 40, **fields})).shape
    assert shape.windowed_layers == windowed


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({"layer_group_size": 8}, (4, 28)),
        ({"linear_attn_config": {"full_attn_layers": [4, 8], "kda_layers": [1] * 30}}, (2, 30)),
        ({"layers_block_type": ["mamba"] * 24 + ["attention"] * 8}, (8, 24)),
        ({"layers_block_type": ["mlp"] * 24 + ["attention"] * 8}, (8, None)),
        ({}, (None, None)),
    ],
)  # fmt: skip
def test_hybrids(fields: dict[str, Any], layers: tuple[int | None, int | None]) -> None:
    shape = parse_config(json.dumps({"num_hidden_layers": 32, **fields})).shape
    assert (shape.attention_layers, shape.linear_layers) == layers
    assert shape.state_bytes is None


def test_what_compressed_attention_takes_is_unknown() -> None:
    fields = {"num_hidden_layers": 43, "num_attention_heads": 64, "num_key_value_heads": 1}
    config = parse_config(json.dumps({**fields, "head_dim": 512, "compress_ratios": [0, 4, 128]}))
    assert config.shape.kv_bytes_per_token() is None
    assert parse_config(json.dumps({**fields, "head_dim": 512})).shape.kv_bytes_per_token()


def test_no_number_of_kv_heads_means_one_for_each_head() -> None:
    fields = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024}
    shape = parse_config(json.dumps(fields)).shape
    assert shape.kv_bytes_per_token() == 12 * 2 * 12 * 64 * 2


@pytest.mark.parametrize(
    "value", [0, -8, True, "8", 8.5, None, [8], {"a": 8}, 1 << 70, 5000, float("inf")]
)
def test_an_impossible_value_is_unknown(value: object) -> None:
    text = json.dumps({"num_hidden_layers": value, "num_attention_heads": 8, "head_dim": 64})
    text = text.replace("Infinity", "1e999")
    try:
        shape = parse_config(text).shape
    except NoConfig:
        return
    assert shape.layers is None and shape.kv_bytes_per_token() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"a": ' * 5000, b'{"a": "' + b"x" * MOST_BYTES],
)
def test_what_is_no_config_is_refused(content: bytes) -> None:
    with pytest.raises(NoConfig):
        parse_config(content)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
WORD = st.sampled_from(["", "mamba", "full_attention", "factor", "M*-E", "\x1b[31m"])
LEAF = PLAIN | WORD
JSON = LEAF | st.lists(LEAF, max_size=4) | st.dictionaries(WORD, LEAF, max_size=4)
NAMES = sorted({key for fields in STATED.values() for key in fields} | {"layer_group_size"})


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_any_object_gives_a_shape(fields: dict[str, Any]) -> None:
    try:
        config = parse_config(json.dumps(fields))
    except NoConfig:
        return
    assert all(getattr(config.shape, name) != 0 for name in vars(Shape()))
    described = describe_model(Model(id="a/b"), config, 0)
    assert described.weight_bytes is None and described.shape == config.shape


@pytest.mark.parametrize(
    ("fields", "width", "expected"),
    [
        # Gemma 4: its file has the shapes of windowed layers first; 5 global ones of 2 x 512.
        (
            {
                "model_type": "gemma4_text", "num_hidden_layers": 30, "num_attention_heads": 16,
                "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512,
                "num_global_key_value_heads": 2, "sliding_window": 1024,
                "layer_types": [*["sliding_attention"] * 5, "full_attention"] * 5,
            },
            2, 2 * 2 * (5 * 2 * 512 + 25 * 8 * 256),
        ),
        # MiMo: keys of 192, values of 128.
        (
            {
                "num_hidden_layers": 4, "num_attention_heads": 64, "num_key_value_heads": 4,
                "head_dim": 192, "v_head_dim": 128,
            },
            2, 4 * 4 * (192 + 128) * 2,
        ),
        # DeepSeek-V3.2: one latent of 512 + 64, in FP8 with scales (656 bytes); an index of 128.
        (
            {
                "num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512,
                "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
                "index_head_dim": 128,
            },
            1, 61 * (656 + 132),
        ),
        (
            {
                "num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512,
                "qk_rope_head_dim": 64, "index_head_dim": 128,
            },
            2, 61 * (576 * 2 + 132),
        ),
    ],
)  # fmt: skip
def test_heads_of_several_sizes_and_an_index(
    fields: dict[str, Any], width: float, expected: int
) -> None:
    shape = parse_config(json.dumps(fields)).shape
    assert shape.kv_bytes_per_token(1, width) == expected


def test_a_windowed_layer_keeps_fewer_tokens() -> None:
    shape = find_model("gpt-oss-120b").shape
    whole = shape.kv_bytes_per_token() or 0
    assert shape.kv_bytes_per_token(window_ratio=0.8) == int(0.9 * whole)
    # More ranks than KV heads of global layers: these are copied.
    gemma = find_model("gemma4-26b").shape
    assert gemma.kv_bytes_per_token(4, 1) == 2 * (5 * 1 * 512 + 25 * 2 * 256)
