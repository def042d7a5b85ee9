"""Which of the models that a server lists is measured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spark_bench.protocol.models import ListedModel, model_candidates, parse_models


def listed(*entries: Any) -> tuple[ListedModel, ...]:
    return parse_models(json.dumps({"object": "list", "data": entries}).encode())


def first(*entries: Any) -> list[str]:
    return [model.id for model in model_candidates(listed(*entries))]


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        pytest.param(b'{"data": [{"id": "a"}, {"id": "b"}]}', ["a", "b"], id="openai"),
        pytest.param(b'[{"id": "a"}, {"id": "b"}]', ["a", "b"], id="together"),
        pytest.param(b'{"models": [{"name": "a:latest"}]}', ["a:latest"], id="ollama"),
        pytest.param(b'{"running": [{"model": "a", "state": "ready"}]}', ["a"], id="llama-swap"),
        pytest.param(b'{"data": ["a", "b"]}', ["a", "b"], id="names"),
        pytest.param(b'{"data": [{"id": "a"}, {"id": "a"}]}', ["a"], id="twice"),
        pytest.param(b'{"data": [{"id": 7}, {"id": null}, {}, 5, null]}', ["7"], id="odd-ids"),
        pytest.param(b'{"data": [{"id": "m\\ud800"}, {"id": "n"}]}', ["n"], id="half-surrogate"),
        pytest.param(b'{"data": [{"id": "m\xff"}]}', [], id="no-utf-8"),
        pytest.param(b'{"data": [{"id": "%s"}]}' % (b"m" * 2000), [], id="endless"),
        pytest.param(b'{"data": 5}', [], id="number"),
        pytest.param(b'{"data": {"a": 1}}', [], id="object"),
        pytest.param(b'{"data": null}', [], id="null"),
        pytest.param(b"5", [], id="no-object"),
        pytest.param(b"<html>", [], id="page"),
        pytest.param(b"", [], id="empty"),
        pytest.param(b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}", [], id="deep"),
    ],
)
def test_listed_models(body: bytes, ids: list[str]) -> None:
    assert [model.id for model in parse_models(body)] == ids


def test_the_fields_of_an_entry() -> None:
    (listing,) = listed(
        {"id": "a", "owned_by": "vllm", "root": "/models/a", "parent": None, "max_model_len": 4096}
    )
    assert listing == ListedModel("a", owner="vllm", context=4096, root="/models/a")
    odd = {"id": "a", "owned_by": 5, "max_model_len": True, "context_length": -1, "status": 3}
    assert listed(odd) == (ListedModel("a"),)
    assert listed({"id": "a", "context_length": 10**40, "context_window": 7})[0].context == 7


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        pytest.param(
            [
                {"id": "a", "status": {"value": "unloaded"}},
                {"id": "b", "status": {"value": "loaded"}},
            ],
            ["b"],
            id="llama-cpp-router",
        ),
        pytest.param(
            [{"id": "a", "state": "not-loaded"}, {"id": "b", "state": "loaded"}],
            ["b"],
            id="lm-studio",
        ),
        pytest.param(
            [
                {"id": "nomic-embed-text", "status": {"value": "loaded"}},
                {"id": "b", "status": {"value": "unloaded"}},
            ],
            ["b"],
            id="loaded-embedding",
        ),
        pytest.param(
            [{"id": "lora", "root": "/l", "parent": "base"}, {"id": "base", "root": "/b"}],
            ["base"],
            id="adapter",
        ),
        pytest.param([{"id": "lora", "parent": "gone"}], ["lora"], id="adapter-alone"),
        pytest.param([{"id": "a", "root": "/m"}, {"id": "b", "root": "/m"}], ["a"], id="two-names"),
        pytest.param([{"id": "a"}, {"id": "b"}], ["a", "b"], id="untold"),
        pytest.param([{"id": "bge-m3"}], ["bge-m3"], id="nothing-else"),
        pytest.param([{"id": "x", "type": "embeddings"}, {"id": "b"}], ["b"], id="type"),
        pytest.param([{"id": "x", "model_type": "rerank"}, {"id": "b"}], ["b"], id="xinference"),
        pytest.param([{"id": "x", "endpoints": ["embed"]}, {"id": "b"}], ["b"], id="cohere"),
        pytest.param([{"id": "x", "labels": ["embeddings"]}, {"id": "b"}], ["b"], id="lemonade"),
        pytest.param(
            [{"id": "x", "capabilities": {"type": "embeddings"}}, {"id": "b"}], ["b"], id="copilot"
        ),
        pytest.param(
            [
                {"id": "x", "architecture": {"output_modalities": ["image"]}},
                {"id": "b", "architecture": {"output_modalities": ["image", "text"]}},
            ],
            ["b"],
            id="openrouter",
        ),
        pytest.param([{"id": "*"}, {"id": "openai/*"}, {"id": "b"}], ["b"], id="wildcards"),
    ],
)
def test_model_candidates(entries: list[Any], ids: list[str]) -> None:
    assert first(*entries) == ids


@pytest.mark.parametrize(
    "id",
    [
        *("bge-m3-embedding", "text-embedding-3-small", "nomic-embed-text:latest", "BAAI/bge-m3"),
        *("all-minilm", "all-minilm:22m", "dall-e-3", "stablediffusion", "gpt-image-1"),
        *("intfloat/e5-mistral-7b-instruct", "Alibaba-NLP/gte-Qwen2-7B-instruct"),
        *("Qwen/Qwen3-Reranker-8B", "openai/whisper-large-v3", "omni-moderation-latest", "tts-1"),
    ],
)
def test_models_that_generate_no_text(id: str) -> None:
    assert first({"id": id}, {"id": "qwen"}) == ["qwen"]


@pytest.mark.parametrize(
    "id", ["gpt-oss-120b", "Qwen/Qwen3-8B", "mistral-7b-instruct", "gemma3:27b", "kimi-k2-thinking"]
)
def test_models_that_generate_text(id: str) -> None:
    assert listed({"id": id})[0].text
