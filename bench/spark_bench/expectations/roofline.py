"""How fast memory lets a model decode: the bytes that a step must read over the bandwidth.

A decoding step yields one token per stream. It reads the weights once, however many streams there
are, and the KV cache of each. For one stream that is a bound: nothing can be faster. A stream in a
batch can't be faster than alone, so the bound holds there too; what a batch can reach lies below,
and for a mixture of experts it is an estimate: the experts that a step needs depend on the texts.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from msgspec import Struct, toml

# LPDDR5X-8533 on 256 bits: 273 GB/s in NVIDIA's DGX Spark data sheet; one GPU per node.
BANDWIDTH = 273e9


class ServedShape(Struct, frozen=True, kw_only=True):
    """How a model is served, as far as it determines what a step reads.

    tp: nodes that a layer is split over. Pipeline stages (PP) run one after another, so they make
        a single stream no faster
    weight_scale: bytes per weight as served over bytes per weight in the checkpoint
    kv_bytes: bytes per number in the KV cache
    """

    shape: ModelShape
    tp: int = 1
    weight_scale: float = 1.0
    kv_bytes: float = 2.0


def weight_bytes(reading: ServedShape, streams: float = 1.0) -> float:
    """Bytes of weights that a step with `streams` streams reads, over all nodes."""
    shape = reading.shape
    whole = float(shape.weight_bytes - shape.embedding_bytes)
    if shape.experts:
        whole -= shape.expert_bytes * (1 - experts_read(shape, streams) / shape.experts)
    return whole * reading.weight_scale


def experts_read(shape: ModelShape, streams: float) -> float:
    """How many of a layer's experts a step reads on average if texts choose them evenly.

    They don't quite, so fewer are read; exact for one stream.
    """
    missed: float = (1 - shape.experts_per_token / shape.experts) ** streams
    return shape.experts * (1 - missed)


def kv_bytes(reading: ServedShape, context: float) -> float:
    """Bytes of KV cache that a stream with `context` tokens reads per step, on one node."""
    shape = reading.shape
    tokens = (shape.layers - shape.windowed_layers) * context
    tokens += shape.windowed_layers * min(context, shape.window)
    if shape.kv_latent_dim is not None:  # one vector, whole on every rank
        return tokens * shape.kv_latent_dim * reading.kv_bytes
    # A rank holds at least one head.
    heads = max(1.0, shape.kv_heads / reading.tp)
    return tokens * 2 * heads * shape.head_dim * reading.kv_bytes


def tokens_per_second(reading: ServedShape, context: float, streams: float = 1.0) -> float:
    """The speed of each of `streams` streams of `context` tokens; for one stream an upper bound."""
    share = weight_bytes(reading, streams) / reading.tp
    return BANDWIDTH / (share + streams * kv_bytes(reading, context))


_FILE = Path(__file__).with_name("models.toml")


class ModelShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decoding reads of a model; models.toml describes the fields.

    stored: the weights' format ("BF16", "FP8", "MXFP4")
    """

    id: str
    weight_bytes: int
    embedding_bytes: int
    layers: int
    kv_heads: int
    head_dim: int
    kv_latent_dim: int | None = None
    window: int = 0
    windowed_layers: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_bytes: int = 0
    stored: str = "BF16"


@cache
def model_shapes() -> dict[str, ModelShape]:
    """Models of known size by lower-case id."""
    tables: dict[str, list[ModelShape]] = toml.decode(
        _FILE.read_bytes(), type=dict[str, list[ModelShape]]
    )
    return {shape.id.lower(): shape for shape in tables["models"]}


def hub_id(name: str) -> str:
    """A model's id on the Hub, even if `name` is its folder in the Hub's cache.

    >>> hub_id("/root/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/1f2e")
    'openai/gpt-oss-20b'
    >>> hub_id("Qwen/Qwen2.5-7B-Instruct")
    'Qwen/Qwen2.5-7B-Instruct'
    """
    cached = re.search(r"(?:^|/)models--([^/]+?)--([^/]+)", name)
    return f"{cached[1]}/{cached[2]}" if cached else name
