"""A node's memory in what deploys print, on fake nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import Fakes

from cluster.engine.allocation import MEMORY_PATTERN

ALLOCATED = [
    "[2026-11-26 19:19:57] Load weight end. type=GptOss, avail mem=71.36 GB, mem usage=30.5 GB.",
    "[2026-11-26 19:19:57] KV Cache is allocated. #tokens: 90404, K size: 2.5 GB, V size: 2.5 GB",
]
CONFIG = {
    "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return Fakes.of(tmp_path)


def described(shards: int) -> str:
    files = [["config.json", 800, "sha256", "a" * 64]]
    for n in range(1, shards + 1):
        name = f"model-{n:05}-of-{shards:05}.safetensors"
        files.append([name, 47 * 10**8, "sha256", f"{n:064x}"])
    return json.dumps({"commit": "c" * 40, "files": files, "config": json.dumps(CONFIG)})


def test_dry_shows_the_memory_of_a_node(sparks: Fakes) -> None:
    run = sparks.deploy("--dry")
    assert run.code == 0, run.text
    assert "memory: weights" in run.text and "65.2 GB / 2 nodes (derived)" in run.text
    assert "memory: SGLang's share" in run.text and "a KV cache of at most" in run.text


def test_an_unknown_model_that_does_not_fit_is_refused_before_its_weights(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.model, spark.weights = "org/large", False
    sparks.sparks[0].answers["--rm --interactive"] = [described(60)]
    run = sparks.deploy("--data", "model=org/large")
    assert run.code == 1
    assert "org/large does not fit: 282.0 GB of weights / 2 nodes = 141.0 GB" in run.text
    assert not any("--detach" in script for script in run.commands["@fake/spark-1"])


def test_verify_and_doctor_show_what_the_engine_has_allocated(sparks: Fakes) -> None:
    sparks.run_ranks()
    for spark in sparks.sparks:
        spark.answers[MEMORY_PATTERN[:15]] = ALLOCATED
    models = json.dumps({"data": [{"id": "openai/gpt-oss-120b"}]})
    sparks.sparks[0].answers["=== /v1/models"] = ["=== /v1/models", models, "--- 200 0.1"]
    run = sparks.deploy(file="deploys/verify.py")
    assert "memory of @fake/spark-1: weights 32.7 GB, computed: 32.6 GB (within 5 %)" in run.text
    assert "KV cache 5.4 GB: 90,404 tokens, computed: at most" in run.text
    data = ("--data", f"inventory={sparks.inventory()}")
    report = json.loads(sparks.pyinfra("@local", "deploys/doctor.py", "-y", *data).out)
    line = "memory of @fake/spark-2: weights 32.7 GB, computed: 32.6 GB (within 5 %)"
    assert line in report["looked"]
