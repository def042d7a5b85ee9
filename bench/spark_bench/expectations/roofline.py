"""How fast memory lets a model decode: bytes that a step must read, over the bandwidth.

Decoding makes one token of each stream a step. A step reads the weights once, whatever the number
of streams, and the KV cache of each. On one stream that is a bound: nothing can be faster. Streams
together can't be faster each, so that it is a bound there too; what a batch can reach lies below,
and for a mixture of experts it is an estimate: how many experts a step needs depends on the texts.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from msgspec import Struct, toml

# LPDDR5X-8533 on 256 bits: 273 GB/s in NVIDIA's data sheet of DGX Spark; one GPU a node.
BANDWIDTH = 273e9


class ServedShape(Struct, frozen=True, kw_only=True):
    """How a model is served, as far as it decides what is read.

    tp: nodes that a layer is split over. Stages (PP) come after each other: a token passes them
        all, so that they make one stream no faster
    weight_scale: bytes of a weight as it is served, over the checkpoint's
    kv_bytes: bytes of a number in the KV cache
    """

    shape: ModelShape
    tp: int = 1
    weight_scale: float = 1.0
    kv_bytes: float = 2.0


def weight_bytes(reading: ServedShape, streams: float = 1.0) -> float:
    """Bytes of weights that a step with so many streams reads, on all nodes together."""
    shape = reading.shape
    whole = float(shape.weight_bytes - shape.embedding_bytes)
    if shape.experts:
        whole -= shape.expert_bytes * (1 - experts_read(shape, streams) / shape.experts)
    return whole * reading.weight_scale


def experts_read(shape: ModelShape, streams: float) -> float:
    """Of a layer's experts, how many a step takes on average if texts choose them evenly.

    They don't quite, so that fewer are read; with one stream it is exact.
    """
    missed: float = (1 - shape.experts_per_token / shape.experts) ** streams
    return shape.experts * (1 - missed)


def kv_bytes(reading: ServedShape, context: float) -> float:
    """Bytes of KV cache that a stream with so many tokens reads a step, on one node."""
    shape = reading.shape
    seen = (shape.layers - shape.windowed_layers) * context
    seen += shape.windowed_layers * min(context, shape.window)
    if shape.kv_latent_dim is not None:  # one vector, whole on every rank
        return seen * shape.kv_latent_dim * reading.kv_bytes
    # A rank holds one head at least.
    heads = max(1.0, shape.kv_heads / reading.tp)
    return seen * 2 * heads * shape.head_dim * reading.kv_bytes


def tokens_per_second(reading: ServedShape, context: float, streams: float = 1.0) -> float:
    """Of each of so many streams with so many tokens each; for one stream an upper bound."""
    share = weight_bytes(reading, streams) / reading.tp
    return BANDWIDTH / (share + streams * kv_bytes(reading, context))


_FILE = Path(__file__).with_name("models.toml")


class ModelShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decoding reads of a model; the fields are described in models.toml.

    stored: how its weights are stored, in the field's short word
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
    """By id in small letters."""
    known: dict[str, list[ModelShape]] = toml.decode(
        _FILE.read_bytes(), type=dict[str, list[ModelShape]]
    )
    return {shape.id.lower(): shape for shape in known["models"]}


def hub_id(name: str) -> str:
    """A model's id on the hub, also where `name` is its folder in the hub's cache.

    >>> hub_id("/root/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/1f2e")
    'openai/gpt-oss-20b'
    >>> hub_id("Qwen/Qwen2.5-7B-Instruct")
    'Qwen/Qwen2.5-7B-Instruct'
    """
    cached = re.search(r"(?:^|/)models--([^/]+?)--([^/]+)", name)
    return f"{cached[1]}/{cached[2]}" if cached else name
