"""What memory follows from, read from a repository's own config.json: for a model that no entry
describes.

The file is hostile until it is parsed: its size is bounded, and each value counts only with the
right type and in bounds; any other counts as unknown, never as zero. Names and rules are those of
transformers and SGLang 0.5.23 (srt/configs, utils/hf_transformers/common.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cluster.catalog.entry import Model, Shape

# Bytes. The largest that were seen, with a list of what is not quantized, have some 300 kB.
MOST_BYTES = 4 << 20
# More than any model's; the product of all of them still fits 64 bits.
Bounded = Annotated[int, Meta(ge=1, le=1 << 27)]
Few = Annotated[int, Meta(ge=1, le=4096)]
Word = Annotated[str, Meta(max_length=64, pattern=r"^[\w./ -]+\Z")]
# SGLang's default for the states of linear attention; their convolution's are BF16
# (srt/configs/mamba_utils.py, mamba2_state_dtype).
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CONV_BYTES = 2
# Kinds of layers: words of `layer_types` and `layers_block_type`, letters of Nemotron-H's pattern.
ATTENTION = ("full_attention", "attention", "hybrid", "global_attention", "*")
WINDOWED = ("sliding_attention", "chunked_attention", "local_attention")
LINEAR = ("linear_attention", "mamba", "mamba2", "recurrent", "kda", "gdn", "M")


class NoConfig(ValueError):
    """A text that is no model's config.json; it says why."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A config.json.

    + shape: with None for each part that it does not state
    + max_context: tokens
    + quantization: in the words of its quantization_config; "": none, so it is as `dtype` says
    + kind: model_type
    """

    shape: Shape
    max_context: int | None = None
    quantization: str = ""
    kind: str = ""


def parse_config(content: bytes | str) -> ModelConfig:
    """Raises NoConfig for what is too long, no JSON, or no object."""
    raw = content.encode(errors="replace") if isinstance(content, str) else content
    if len(raw) > MOST_BYTES:
        raise NoConfig(f"config.json has {len(raw):,} bytes, {MOST_BYTES:,} are read")
    try:
        whole = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as e:
        raise NoConfig(f"config.json is no JSON object: {e}"[:200]) from None
    # The language model of one that sees or hears has a part of its own.
    inner = next((p for n in ("text_config", "llm_config") if (p := _part(whole, n))), {})
    inner = _part(inner, "text_config") or inner
    fields = {**whole, **inner}
    stated = _part(fields, "quantization_config") or _part(fields, "compression_config")
    words = (_word(stated.get(name)) for name in ("quant_method", "quant_algo", "format"))
    return ModelConfig(
        shape=_shape(fields),
        max_context=_context(fields),
        quantization=" ".join(dict.fromkeys(word for word in words if word)),
        kind=_word(fields.get("model_type")),
    )


def describe_model(model: Model, config: ModelConfig, weight_bytes: int | None) -> Model:
    """A model that no entry describes, with what its repository states of it.

    + weight_bytes: of the files that an engine loads; None: unknown
    """
    return replace(
        model,
        shape=config.shape,
        weight_bytes=weight_bytes or None,
        max_context=config.max_context,
        quantization=config.quantization,
        moe=config.shape.experts is not None,
    )


@dataclass
class _Heads:
    """What a file states of its attention layers; `Shape` explains the fields."""

    count: int | None
    kv: int | None
    dim: int | None
    latent: int | None
    windowed_kv: int | None = None
    windowed_dim: int | None = None

    @classmethod
    def read(cls, fields: Mapping[str, Any], hidden: int | None) -> "_Heads":
        count = _count(fields, Few, "num_attention_heads", "n_head", "n_heads")
        dim = _count(fields, Few, "head_dim", "attention_head_dim")
        if dim is None and hidden and count and fields.get("head_dim") is None:
            dim = hidden // count or None
        kv_names = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
        kv = _count(fields, Few, *kv_names)
        if kv is None and all(fields.get(name) is None for name in kv_names):
            kv = count  # transformers' default
        latent, rotary = (_count(fields, Few, n) for n in ("kv_lora_rank", "qk_rope_head_dim"))
        if latent and (plain := _count(fields, Few, "qk_nope_head_dim")):
            dim = plain + (rotary or 0)
        heads = cls(count, kv, dim, latent + (rotary or 0) if latent else None)
        if "compress_ratios" in fields or "compress_ratio" in fields:
            # The attention of DeepSeek-V4 keeps fewer tokens than it reads; how many bytes a token
            # takes does not follow from these values.
            heads.kv = heads.dim = heads.latent = None
        if whole_dim := _count(fields, Few, "global_head_dim"):
            # Gemma 4's file has the shapes of its windowed layers first.
            heads.windowed_kv, heads.windowed_dim = heads.kv, heads.dim
            heads.kv = _count(fields, Few, "num_global_key_value_heads") or heads.kv
            heads.dim = whole_dim
        elif own_dim := _count(fields, Few, "swa_head_dim"):
            heads.windowed_kv = _count(fields, Few, "swa_num_key_value_heads") or heads.kv
            heads.windowed_dim = own_dim
        return heads


def _shape(fields: Mapping[str, Any]) -> Shape:
    layers = _count(fields, Few, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = _count(fields, Bounded, "hidden_size", "n_embd", "d_model")
    heads = _Heads.read(fields, hidden)
    kinds = _kinds(fields, layers)
    layers = layers or len(kinds) or None
    linear = sum(kind in LINEAR for kind in kinds) or None
    attention = sum(kind in (*ATTENTION, *WINDOWED) for kind in kinds)
    window, windowed = _window(fields, kinds, layers)
    return Shape(
        layers=layers,
        # Feed-forward layers of their own keep nothing, either.
        attention_layers=attention if 0 < attention < (layers or 0) else None,
        linear_layers=linear,
        state_bytes=_state_bytes(fields, linear) if linear else None,
        attention_heads=heads.count,
        kv_heads=heads.kv,
        head_dim=heads.dim,
        value_dim=None if heads.latent else _count(fields, Few, "v_head_dim"),
        kv_latent_dim=heads.latent,
        index_dim=_count(fields, Few, "index_head_dim") if heads.latent else None,
        hidden=hidden,
        window=window,
        windowed_layers=windowed,
        windowed_kv_heads=heads.windowed_kv if windowed else None,
        windowed_head_dim=heads.windowed_dim if windowed else None,
        vocabulary=_count(fields, Bounded, "vocab_size"),
        experts=_count(
            fields,
            Bounded,
            *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
        ),
        experts_per_token=_count(
            fields,
            Bounded,
            *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"),
        ),
    )


def _kinds(fields: Mapping[str, Any], layers: int | None) -> list[str]:
    """Each layer's kind; [] where all are alike or the file does not say."""
    for name in ("layer_types", "layers_block_type"):
        words = fields.get(name)
        if isinstance(words, list) and len(words) <= 4096:
            return [word if isinstance(word, str) else "" for word in words][: layers or None]
    pattern = fields.get("hybrid_override_pattern")
    if isinstance(pattern, str) and len(pattern) <= 4096:
        return list(pattern)
    interval = _count(fields, Few, "full_attention_interval", "layer_group_size")
    if interval and layers:
        kinds = ("linear_attention", "full_attention")
        return [kinds[(n + 1) % interval == 0] for n in range(layers)]
    linear = _part(fields, "linear_attn_config")
    full, others = (linear.get(name) for name in ("full_attn_layers", "kda_layers"))
    if isinstance(full, list) and isinstance(others, list) and layers:
        return ["full_attention"] * min(len(full), layers) + ["kda"] * min(len(others), layers)
    return []


def _window(
    fields: Mapping[str, Any], kinds: list[str], layers: int | None
) -> tuple[int | None, int | None]:
    """(tokens, layers) of sliding-window attention; Qwen2's files have a window that is off."""
    window = _count(fields, Bounded, "sliding_window", "attention_chunk_size")
    if window is None or layers is None or fields.get("use_sliding_window") is False:
        return None, None
    if kinds:
        windowed = sum(kind in WINDOWED for kind in kinds)
    elif pattern := _count(fields, Few, "sliding_window_pattern"):
        windowed = layers - layers // pattern
    else:
        # Gemma 2 alternates without saying so.
        windowed = -(-layers // 2) if fields.get("model_type") == "gemma2" else layers
    return (window, windowed) if windowed else (None, None)


def _state_bytes(fields: Mapping[str, Any], layers: int) -> int | None:
    """Of one request's state in all linear layers: that of the convolution and that of the
    recurrence (Mamba2StateShape of SGLang 0.5.23; each model's own names)."""
    size = STATE_BYTES.get(str(fields.get("mamba_ssm_dtype")), STATE_BYTES["float32"])

    def values(*names: str) -> list[int] | None:
        counts = [_count(fields, Bounded, name) for name in names]
        return None if None in counts else [n for n in counts if n]

    # Qwen3-Next and later; Nemotron-H and others of Mamba-2.
    if parts := values(
        *("linear_num_value_heads", "linear_value_head_dim"),
        *("linear_num_key_heads", "linear_key_head_dim", "linear_conv_kernel_dim"),
    ) or values("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"):
        heads, dim, groups, state, kernel = parts
    # Bailing (Ling): no convolution.
    elif parts := values("num_linear_key_value_heads", "head_dim"):
        heads, dim, groups, state, kernel = parts[0], parts[1], 0, parts[1], 1
    else:
        return None
    convolution = (heads * dim + 2 * groups * state) * (kernel - 1) * CONV_BYTES
    return layers * (convolution + heads * dim * state * size)


def _context(fields: Mapping[str, Any]) -> int | None:
    """The longest context, as SGLang computes it (get_context_length)."""
    longest = _count(
        fields,
        Bounded,
        *("max_sequence_length", "seq_length", "max_seq_len", "model_max_length"),
        *("max_position_embeddings", "n_positions"),
    )
    scaling = _part(fields, "rope_scaling")
    factor = scaling.get("factor")
    plain = "original_max_position_embeddings" in scaling or scaling.get("rope_type") == "llama3"
    if longest is None or plain or not isinstance(factor, int | float) or not 1 <= factor <= 4096:
        return longest
    return int(longest * factor)


def _count(fields: Mapping[str, Any], kind: Any, *names: str) -> int | None:
    """The first of these values that is a number in bounds."""
    for name in names:
        try:
            return int(msgspec.convert(fields.get(name), kind, strict=True))
        except msgspec.ValidationError:
            continue
    return None


def _part(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = fields.get(name)
    return part if isinstance(part, dict) else {}


def _word(value: object) -> str:
    try:
        return str(msgspec.convert(value, Word))
    except msgspec.ValidationError:
        return ""
