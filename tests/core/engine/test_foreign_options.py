"""Options of vLLM, llama.cpp and others in extra_args: reported with their equivalent here."""

from __future__ import annotations

import tomllib

import pytest

from cluster.engine.foreign import FOREIGN, counterpart
from cluster.engine.options import RECORDED, check_arguments, options_of
from cluster.findings import Level, Refused
from cluster.settings.parse import convert
from cluster.settings.schema import NAMES

TABLE = tomllib.loads(FOREIGN.read_text())
ENTRIES = [(engine, name, entry) for engine, of in TABLE.items() for name, entry in of.items()]
each_version = pytest.mark.parametrize("version", RECORDED)


@each_version
@pytest.mark.parametrize(
    ("line", "engine", "cure"),
    [
        ("--gpu-memory-utilization 0.8", "vLLM", "--data mem_fraction=0.8"),
        ("--gpu-memory-utilization=0.8", "vLLM", "--data mem_fraction=0.8"),
        ("--max-model-len 32768", "vLLM", "--data context_length=32768"),
        ("-tp 2", "vLLM", "--data tensor_parallel=2"),
        ("--enforce-eager", "vLLM", "--data disable_cuda_graph=true"),
        ("--max-num-seqs 64", "vLLM", "--max-running-requests 64 in extra_args"),
        ("--no-enable-prefix-caching", "vLLM", "--disable-radix-cache in extra_args"),
        ("--swap-space 4", "vLLM", "leave it out"),
        ("--enable-auto-tool-choice", "vLLM", "tool_call_parser"),
        ("--distributed-executor-backend ray", "vLLM", "without Ray"),
        ("-ngl 99", "llama.cpp", "leave it out"),
        ("-c 8192", "llama.cpp", "--data context_length=8192"),
        ("--ctx-size 8192", "llama.cpp", "--data context_length=8192"),
        ("-np 4", "llama.cpp", "--max-running-requests 4 in extra_args"),
        ("-m model.gguf", "llama.cpp", "--data model=model.gguf"),
        ("--jinja", "llama.cpp", "leave it out"),
        ("--kv_cache_free_gpu_memory_fraction 0.8", "TensorRT-LLM", "--data mem_fraction=0.8"),
        ("--max_batch_size 8", "TensorRT-LLM", "--max-running-requests 8 in extra_args"),
        ("--gpu-memory-utilization", "vLLM", "--data mem_fraction=VALUE"),
    ],
)
def test_another_engines_option_is_named_with_its_counterpart(
    version: str, line: str, engine: str, cure: str
) -> None:
    (finding,) = check_arguments(
        ("sglang.launch_server", *line.split(), "--port", "30000"), version
    )
    assert finding.level is Level.ERROR
    name = line.split()[0].partition("=")[0]
    assert finding.what == f"SGLang {version} does not know {name}, an option of {engine}"
    assert cure in finding.cure


@pytest.mark.parametrize(("engine", "name", "entry"), ENTRIES, ids=[e[1] for e in ENTRIES])
def test_every_counterpart_exists(engine: str, name: str, entry: dict[str, str]) -> None:
    assert len(entry) == 1
    if setting := entry.get("setting"):
        assert setting.partition("=")[0] in NAMES
    if option := entry.get("option"):
        assert any(option.split()[0] in options_of(version) for version in RECORDED)
    (finding,) = check_arguments((name,), RECORDED[0])
    assert f"an option of {engine}" in finding.what
    assert counterpart(name, "7") is not None


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("gpu_memory_utilization", "--data mem_fraction=VALUE"),
        ("max_model_len", "--data context_length=VALUE"),
        ("enforce_eager", "--data disable_cuda_graph=true"),
        ("n_gpu_layers", "leave it out"),
    ],
)
def test_another_engines_option_given_as_a_setting(name: str, cure: str) -> None:
    with pytest.raises(Refused) as refused:
        convert(name, 1)
    assert f"{name} is not a setting, but an option of" in str(refused.value)
    assert cure in str(refused.value)
