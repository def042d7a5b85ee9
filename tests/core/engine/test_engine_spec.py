"""What the embedded engine makes of its arguments, without starting it."""

from __future__ import annotations

import socket

import pytest

from engines import smollm2
from engines.smollm2 import EMBEDDED_MODEL, EngineError, EngineSpec, parse_arguments, weights


def test_a_spec_has_a_default_for_every_setting():
    spec = EngineSpec.parse('{"launch": {}}')
    assert (spec.name, spec.host, spec.port) == (EMBEDDED_MODEL, "127.0.0.1", 30000)


def test_keys_of_other_engines_are_passed_over():
    spec = EngineSpec.parse('{"rank": 0, "launch": {"port": 31000, "tp": 2}}')
    assert spec == EngineSpec(port=31000)


def test_the_served_name_is_the_models_id():
    assert EngineSpec(served_model_name="small").name == "small"


@pytest.mark.parametrize(
    ("context_length", "parallel", "total"),
    [
        pytest.param(None, 4, 8192, id="default"),
        pytest.param(1024, 1, 1024, id="one-request"),
        pytest.param(1024, 8, 8192, id="each-request-has-its-own"),
    ],
)
def test_the_context_length_is_per_request(context_length, parallel, total):
    assert EngineSpec(context_length=context_length, parallel=parallel).total_context == total


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"launch": {"port": "30000"}}', id="port-as-text"),
        pytest.param('{"model": "x"}', id="no-launch"),
        pytest.param("{", id="not-json"),
    ],
)
def test_a_spec_that_cannot_be_read_is_an_error(text):
    with pytest.raises(EngineError, match="--spark-serving-spec can't be read"):
        EngineSpec.parse(text)


def test_the_arguments_hold_the_name_and_the_spec():
    spec = '{"launch": {"port": 31000}}'
    arguments = ["--spark-serving-name=sglang-head", f"--spark-serving-spec={spec}"]
    assert parse_arguments(arguments) == ("sglang-head", EngineSpec(port=31000))


def test_a_gguf_file_is_served_from_its_path(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.touch()
    assert weights(EngineSpec(model_path=str(file))) == file


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(EngineSpec("/no/such.gguf"), "'/no/such.gguf' does not", id="path"),
        pytest.param(EngineSpec("Qwen/Qwen3-8B"), "'Qwen/Qwen3-8B' is neither", id="id"),
    ],
)
def test_weights_that_are_not_there_are_named(spec, message):
    with pytest.raises(EngineError, match=message):
        weights(spec)


@pytest.mark.parametrize(
    "find", [pytest.param(smollm2.start, id="engine"), pytest.param(weights, id="weights")]
)
def test_a_missing_package_names_its_cure(monkeypatch, find):
    monkeypatch.setattr(smollm2, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match="make setup"):
        find(EngineSpec())


def test_a_taken_port_is_distinguished_from_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = EngineSpec(port=taken.getsockname()[1])
        assert smollm2.port_error(spec).endswith("Address already in use")
    assert smollm2.port_error(spec) == ""
