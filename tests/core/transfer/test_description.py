"""What a hub's list and a config.json make of a model that no entry describes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.catalog.fit import fit
from cluster.catalog.memory import Use
from cluster.catalog.models import Model
from cluster.findings import Level
from cluster.transfer.description import describe_from_config, describe_from_hub

SPARK = 131_334_144 * 1024
CONFIG = {
    "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip
MODEL = Model(id="org/large")


def listed(*files: tuple[str, int]) -> list[list[object]]:
    return [[name, size, "sha256", f"{at:064x}"] for at, (name, size) in enumerate(files)]


def reply(*files: tuple[str, int], **more: Any) -> dict[str, Any]:
    small = (("config.json", 800), ("tokenizer.json", 9000))
    return {"files": listed(*small, *files), "config": json.dumps(CONFIG), "shards": [], **more}


SHARDS = [(f"model-{n:05}-of-00030.safetensors", 47 * 10**8) for n in range(1, 31)]


def test_a_model_that_does_not_fit_is_refused_before_its_weights_come() -> None:
    model, findings = describe_from_hub(MODEL, reply(*SHARDS), "spark-1")
    assert findings == () and model.weight_bytes == 141 * 10**9
    (refusal,) = fit(model, SPARK, Use(nodes=1, tp=1, mem_fraction=0.85))
    assert refusal.level is Level.ERROR
    assert "org/large does not fit: 141.0 GB of weights > 0.85" in str(refusal)
    assert fit(model, SPARK, Use(nodes=2, tp=2, mem_fraction=0.85)) == []
    (split,) = fit(model, SPARK, Use(nodes=3, tp=3))
    assert "64 attention heads, which do not divide" in split.what and split.cure


def test_of_two_formats_the_one_that_is_loaded_counts() -> None:
    both = [("pytorch_model.bin", 28 * 10**9), ("model.safetensors", 14 * 10**9)]
    assert describe_from_hub(MODEL, reply(*both), "")[0].weight_bytes == 14 * 10**9


def test_an_index_says_which_files_are_the_model() -> None:
    names = [name for name, _ in SHARDS]
    extra = [*SHARDS, ("consolidated.safetensors", 141 * 10**9), ("other.safetensors", 10**9)]
    model, _ = describe_from_hub(MODEL, reply(*extra, shards=names), "")
    assert model.weight_bytes == 141 * 10**9


def test_a_collection_of_gguf_files_is_refused() -> None:
    model, (finding,) = describe_from_hub(MODEL, reply(("m-Q4_K_M.gguf", 10**9)), "spark-1")
    assert model == MODEL and finding.level is Level.ERROR and "GGUF" in finding.what


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": None},
        {"files": [["../config.json", 5, "sha256", "0" * 64]]},
        {"config": None},
        {"config": ["x"]},
        {"config": "[]"},
        {"config": "{" * 50_000},
    ],
)
def test_an_answer_that_can_t_be_is_a_warning(wrong: dict[str, Any]) -> None:
    model, (finding,) = describe_from_hub(MODEL, reply(*SHARDS, **wrong), "spark-1")
    assert finding.level is Level.WARNING and finding.cure
    assert model.shape == MODEL.shape


@pytest.mark.parametrize("shards", [None, 5, [5, None], ["../../etc/passwd"], {"a": 1}])
def test_an_index_that_lies_adds_no_bytes(shards: object) -> None:
    model, _ = describe_from_hub(MODEL, reply(*SHARDS, shards=shards), "")
    assert model.weight_bytes in (141 * 10**9, None)


def test_a_lone_file_has_a_size_alone() -> None:
    model, (finding,) = describe_from_config(Model(id="/raid/m.gguf"), "", 10**9, "spark-1")
    assert model.weight_bytes == 10**9 and finding.level is Level.WARNING
