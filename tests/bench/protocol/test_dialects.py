"""What a request's body looks like at each endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spark_bench.errors import BadInput
from spark_bench.protocol.dialects import RequestTerms, dialect
from spark_bench.record import Message, Prompt

PROMPT = Prompt((Message("system", "Be “brief”."), Message("user", "Why?")), 9, 64)
SAMPLED = {"temperature": 0.0, "stream": True}


def body(name: str, **terms: Any) -> dict[str, Any]:
    document = json.loads(dialect(name).body(PROMPT, RequestTerms(**{"model": "m", **terms})))
    assert isinstance(document, dict)
    return document


def test_chat() -> None:
    assert dialect("chat").path == "/v1/chat/completions"
    assert body("chat") == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be “brief”."},
            {"role": "user", "content": "Why?"},
        ],
        "max_tokens": 64,
        **SAMPLED,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_completions() -> None:
    assert dialect("completions").path == "/v1/completions"
    content = body("completions", continuous_usage=True, ignore_eos=False)
    assert content == {
        "model": "m",
        "prompt": "Be “brief”.\nWhy?",
        "max_tokens": 64,
        **SAMPLED,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_generate() -> None:
    assert dialect("generate").path == "/generate"
    assert body("generate") == {
        "text": "Be “brief”.\nWhy?",
        "sampling_params": {"max_new_tokens": 64, "temperature": 0.0, "ignore_eos": True},
        "stream": True,
    }


@pytest.mark.parametrize("name", ["chat", "completions", "generate"])
def test_the_same_input_gives_the_same_compact_bytes(name: str) -> None:
    terms = RequestTerms("m", extra={"z": 1, "a": {"y": 2, "b": 3}})
    first = dialect(name).body(PROMPT, terms)
    assert first == dialect(name).body(
        PROMPT, RequestTerms("m", extra={"z": 1, "a": {"y": 2, "b": 3}})
    )
    assert (
        first == json.dumps(json.loads(first), separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert first.endswith(b'"z":1,"a":{"y":2,"b":3}}')


def test_a_probe_does_not_stream() -> None:
    content = body("chat", stream=False)
    assert content["stream"] is False
    assert "stream_options" not in content


def test_no_usage_and_no_model_are_not_sent() -> None:
    content = body("chat", model="", include_usage=False)
    assert not {"model", "stream_options"} & set(content)


def test_extra_fields_override_the_others_and_merge_into_objects() -> None:
    content = body(
        "generate", extra={"sampling_params": {"top_k": 1, "temperature": 0.5}, "x": None}
    )
    assert content["sampling_params"] == {
        "max_new_tokens": 64,
        "temperature": 0.5,
        "ignore_eos": True,
        "top_k": 1,
    }
    assert content["x"] is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("chta", "did you mean chat?", id="near"),
        pytest.param("/v1/completions", "did you mean completions?", id="path"),
        pytest.param("zzz", "chat, completions, generate", id="far"),
    ],
)
def test_an_unknown_endpoint_lists_the_existing_ones(name: str, near: str) -> None:
    with pytest.raises(BadInput) as caught:
        dialect(name)
    assert repr(name) in caught.value.message
    assert near in caught.value.message
