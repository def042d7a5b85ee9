"""The models whose bytes are known."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from msgspec import Struct, toml

_FILE = Path(__file__).with_name("models.toml")


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
def shapes() -> dict[str, Shape]:
    """By id in small letters."""
    known: dict[str, list[Shape]] = toml.decode(_FILE.read_bytes(), type=dict[str, list[Shape]])
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
