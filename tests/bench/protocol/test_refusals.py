"""What a refusal names, in the words of the servers that refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spark_bench.protocol.refusals import is_unknown, other_length, refused_fields

FIELDS = [
    "max_tokens",
    "temperature",
    "stream_options",
    "ignore_eos",
    "top_p",
    "seed",
    "min_tokens",
]
VLLM = "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted', 'input': {}}]"  # noqa: E501
MISTRAL = {
    "type": "extra_forbidden", "loc": ["body", "ignore_eos"],
    "msg": "Extra inputs are not permitted", "input": True,
}  # fmt: skip
OPENAI = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."  # noqa: E501
SERDE = "unknown field `ignore_eos`, expected one of `model`, `messages`, `max_tokens`, `temperature` at line 1"  # noqa: E501
JACKSON = 'Unrecognized field "ignore_eos" (class Chat), not marked as ignorable (2 known properties: "max_tokens", "temperature"])'  # noqa: E501


def error(message: Any, **more: Any) -> Any:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        pytest.param(error(OPENAI, param="max_tokens"), ["max_tokens"], id="openai"),
        pytest.param(error(OPENAI), ["max_tokens"], id="openai-in-words"),
        pytest.param(
            error("Unrecognized request argument supplied: ignore_eos"), ["ignore_eos"], id="azure"
        ),
        pytest.param(
            error("Unrecognized request arguments supplied: ignore_eos, min_tokens"),
            ["ignore_eos", "min_tokens"],
            id="azure-several",
        ),
        pytest.param({"object": "error", "message": VLLM}, ["stream_options"], id="vllm"),
        pytest.param({"detail": [MISTRAL]}, ["ignore_eos"], id="fastapi"),
        pytest.param(
            {"object": "error", "message": {"detail": [MISTRAL]}}, ["ignore_eos"], id="mistral"
        ),
        pytest.param(
            {"detail": "body -> top_p\n  Extra inputs are not permitted (type=extra_forbidden)"},
            ["top_p"],
            id="nim",
        ),
        pytest.param(
            error("openai does not support parameters: ['ignore_eos'], for model=gpt-5"),
            ["ignore_eos"],
            id="litellm",
        ),
        pytest.param(error("property 'ignore_eos' is unsupported"), ["ignore_eos"], id="groq"),
        pytest.param(
            {"detail": "Unexpected fields in the request: {'ignore_eos', 'stream_options'}"},
            ["stream_options", "ignore_eos"],
            id="transformers",
        ),
        pytest.param(error('json: unknown field "ignore_eos"'), ["ignore_eos"], id="go"),
        pytest.param(SERDE, ["ignore_eos"], id="serde"),
        pytest.param({"message": JACKSON}, ["ignore_eos"], id="jackson"),
        pytest.param(
            error("Unknown parameter: ignore_eos. Supported parameters are: max_tokens, top_p"),
            ["ignore_eos"],
            id="supported-list",
        ),
        pytest.param(
            error("The following parameters are not supported: ignore_eos, seed"),
            ["ignore_eos", "seed"],
            id="not-supported-list",
        ),
        pytest.param(
            error("create() got an unexpected keyword argument 'ignore_eos'"),
            ["ignore_eos"],
            id="python",
        ),
        pytest.param(
            error('Invalid JSON payload received. Unknown name "ignoreEos": Cannot find field.'),
            ["ignore_eos"],
            id="camel-case",
        ),
        pytest.param(
            error("Input validation error: `temperature` must be strictly positive"),
            ["temperature"],
            id="tgi",
        ),
        pytest.param("Parameter \u0027seed\u0027 is not allowed", ["seed"], id="escaped"),
        pytest.param(error("this model is for embeddings"), [], id="another-reason"),
        pytest.param({"error": {"message": None, "code": 400}}, [], id="nothing"),
    ],
)
def test_refused_fields_are_recognized(payload: Any, names: list[str]) -> None:
    body = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    assert refused_fields(body, FIELDS) == names


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 200_000, b'"ignore_eos'])
def test_no_body_crashes_the_reader_of_refusals(body: bytes) -> None:
    assert refused_fields(body, FIELDS) in ([], ["ignore_eos"])


def test_a_refused_value_is_not_a_refused_field() -> None:
    assert is_unknown(json.dumps(error(OPENAI)).encode())
    assert not is_unknown(b'{"message": "max_tokens is too large: 9. At most 4 are possible"}')


def test_the_name_that_the_server_wants_instead() -> None:
    assert other_length(json.dumps(error(OPENAI)).encode()) == "max_completion_tokens"
    assert other_length(b"unknown: max_tokens, use max_output_tokens") == "max_output_tokens"
    assert other_length(b"unknown: max_tokens") == "max_completion_tokens"
