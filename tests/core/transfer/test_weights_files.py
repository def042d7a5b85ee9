"""Which files of a repository are wanted: the catalogue's repositories as they are on the hub."""

from __future__ import annotations

import pytest

from cluster.transfer.repository import (
    File,
    find_load_problem,
    looks_complete,
    required_weights,
    select_files,
)

SMALL = ["README.md", "config.json", "generation_config.json", "tokenizer.json",
         "tokenizer_config.json", "model.safetensors.index.json", "LICENSE"]  # fmt: skip


def shards(count: int, suffix: str = ".safetensors", stem: str = "model") -> list[str]:
    return [f"{stem}-{n:05}-of-{count:05}{suffix}" for n in range(1, count + 1)]


def chosen(paths: list[str]) -> set[str]:
    return {f.path for f in select_files([File(path, 1, "git", "x") for path in paths])}


# What each holds beside what is wanted; counts of shards as on the hub.
REPOSITORIES = [
    pytest.param(
        [*SMALL, "chat_template.jinja", *shards(15)],
        [
            "original/config.json",
            "original/dtypes.json",
            "original/model--00001-of-00007.safetensors",
            "metal/model.bin",
        ],
        id="openai/gpt-oss-120b",
    ),
    pytest.param(
        [*SMALL, *shards(3)],
        ["original/model.safetensors", "original/config.json", "metal/model.bin"],
        id="openai/gpt-oss-20b",
    ),
    pytest.param([*SMALL, "merges.txt", "vocab.json", *shards(4)], [], id="Qwen2.5-7B-Instruct"),
    pytest.param([*SMALL, "merges.txt", "vocab.json", *shards(8)], [], id="Qwen2.5-14B-Instruct"),
    pytest.param([*SMALL, "merges.txt", "vocab.json", *shards(17)], [], id="Qwen2.5-32B-Instruct"),
    pytest.param([*SMALL, "merges.txt", "vocab.json", *shards(37)], [], id="Qwen2.5-72B-Instruct"),
    pytest.param(
        [*SMALL, "params.json", "tokenizer.model", "tokenizer.model.v3", *shards(3)],
        ["consolidated.safetensors"],
        id="Mistral-7B-Instruct-v0.3",
    ),
    pytest.param(
        [*SMALL, "params.json", "tekken.json", *shards(5)],
        ["consolidated.safetensors"],
        id="Mistral-Nemo-Instruct-2407",
    ),
    pytest.param(
        [*SMALL, "tokenizer.model", *shards(19)],
        [f"consolidated.{n:02}.pt" for n in range(8)],
        id="Mixtral-8x7B-Instruct-v0.1",
    ),
    pytest.param(
        [*SMALL, "USE_POLICY.md", "special_tokens_map.json", *shards(4)],
        ["original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"],
        id="Llama-3.1-8B-Instruct",
    ),
    pytest.param(
        [*SMALL, "special_tokens_map.json", *shards(30)],
        [*(f"original/consolidated.{n:02}.pth" for n in range(8)), "original/params.json"],
        id="Llama-3.1-70B-Instruct",
    ),
    pytest.param([*SMALL, "added_tokens.json", "vocab.json", *shards(6)], [], id="phi-4"),
    pytest.param([*SMALL, "tokenizer.model", *shards(12)], [], id="gemma-2-27b-it"),
    pytest.param(
        [
            *SMALL,
            "configuration_deepseek.py",
            "modeling_deepseek.py",
            "tokenization_deepseek_fast.py",
            *shards(4),
        ],
        [],
        id="DeepSeek-V2-Lite-Chat",
    ),
]


@pytest.mark.parametrize(("wanted", "others"), REPOSITORIES)
def test_every_model_of_the_catalogue(wanted: list[str], others: list[str]) -> None:
    assert chosen([*wanted, *others]) == set(wanted)


@pytest.mark.parametrize(
    ("paths", "weights"),
    [
        pytest.param(
            [*shards(2), *shards(2, ".bin", "pytorch_model"), "tf_model.h5", "model.onnx",
             "flax_model.msgpack"],
            set(shards(2)),
            id="the same in many formats",
        ),
        pytest.param(shards(2, ".bin", "pytorch_model"), set(shards(2, ".bin", "pytorch_model")),
                     id="only bin"),
        pytest.param(["consolidated.safetensors"], {"consolidated.safetensors"},
                     id="only Mistral's own format"),
        pytest.param(["m-Q4.gguf", "Q8/m-Q8.gguf"], set(), id="only gguf"),
        pytest.param(["onnx/model.onnx", "model.safetensors"], {"model.safetensors"}, id="onnx"),
        pytest.param(["model.safetensors", "m-Q4.gguf"], {"model.safetensors"}, id="gguf beside"),
        pytest.param(["model.safetensors", "model.fp16.safetensors", "model.bf16.safetensors"],
                     {"model.safetensors"}, id="variants beside the plain one"),
        pytest.param(["model.fp16.safetensors", "model.bf16.safetensors"],
                     {"model.bf16.safetensors"}, id="variants alone"),
        pytest.param([*shards(2), *shards(2, stem="model.fp16")], set(shards(2)),
                     id="a variant in shards"),
        pytest.param([*shards(2), "model-00001-of-00002.fp16.safetensors",
                      "model-00002-of-00002.fp16.safetensors"], set(shards(2)),
                     id="a variant whose word stands last"),
        pytest.param(["pytorch_model.bin", "pytorch_model.fp16.bin"], {"pytorch_model.bin"},
                     id="a variant in bin"),
        pytest.param(shards(2, stem="model-fp8"), set(shards(2, stem="model-fp8")),
                     id="a name that ends like a variant"),
        pytest.param(["model.safetensors", *shards(2), "model.safetensors.index.json"],
                     {*shards(2), "model.safetensors.index.json"}, id="with an index, and one"),
        pytest.param(["model.safetensors", *shards(2)], {"model.safetensors"}, id="no index"),
        pytest.param(["model.safetensors", "adapter_model.safetensors"], {"model.safetensors"},
                     id="an adapter beside"),
        pytest.param(["model.safetensors", "unet/model.safetensors"], {"model.safetensors"},
                     id="further weights in a folder"),
        pytest.param([*shards(2), "checkpoint-500/model.safetensors", "checkpoint-500/rng.pth",
                      "checkpoint-500/trainer_state.json"], set(shards(2)), id="a trainer's"),
        pytest.param(["pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt"],
                     {"pytorch_model.bin"}, id="a trainer's state"),
        pytest.param(["model.safetensors", "openvino_model.bin", "openvino_model.xml"],
                     {"model.safetensors"}, id="openvino"),
        pytest.param(["model.safetensors", "tf_model.h5", "rust_model.ot", "model.onnx_data",
                      "flax_model.msgpack", "model.pte", "metal/model.bin"],
                     {"model.safetensors"}, id="other programs'"),
        pytest.param(["model.safetensors", ".cache/huggingface/download/model.metadata"],
                     {"model.safetensors"}, id="what the hub's client left"),
        pytest.param(["model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"],
                     {"model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"},
                     id="DeepSeek-V3's numbers"),
    ],
)  # fmt: skip
def test_weights_come_once_in_the_best_format(paths: list[str], weights: set[str]) -> None:
    assert chosen(["config.json", *paths]) == {"config.json", *weights}


@pytest.mark.parametrize(
    ("index", "there", "complete"),
    [
        pytest.param({"model.safetensors.index.json": shards(2)}, shards(2), True, id="all"),
        pytest.param({"model.safetensors.index.json": shards(2)}, shards(1), False, id="one lacks"),
        pytest.param({}, shards(3)[:2], False, id="no index, but the names count"),
        pytest.param({}, ["model.safetensors"], True, id="one file"),
        pytest.param({}, [], False, id="no weights"),
    ],
)
def test_completeness_of_weights_without_a_list(
    index: dict[str, list[str]], there: list[str], complete: bool
) -> None:
    assert looks_complete(index, ["config.json", *there]) is complete


def test_weights_without_a_config_are_not_complete() -> None:
    assert not looks_complete({}, ["model.safetensors"])
    assert not looks_complete({}, ["model.gguf"])


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
                     id="from 0 to N - 1"),
        pytest.param([f"model-{n:05}-of-00002.safetensors" for n in range(3)], id="from 0 to N"),
    ],
)  # fmt: skip
def test_shards_that_count_from_0(there: list[str]) -> None:
    assert looks_complete({}, ["config.json", *there])
    assert find_load_problem(["config.json", *there]) is None
    assert not looks_complete({}, ["config.json", *there[:1]])


def test_the_models_own_index_counts_before_others() -> None:
    index = {"model.safetensors.index.json": ["a.safetensors"], "a.index.json": ["b.bin"]}
    assert required_weights(index, []) == {"a.safetensors"}


def test_an_index_of_what_was_not_chosen_does_not_count() -> None:
    index = {"pytorch_model.bin.index.json": shards(2, ".bin", "pytorch_model")}
    assert required_weights(index, ["model.safetensors"]) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("names", "what"),
    [
        pytest.param(["F16/m-F16-00001-of-00002.gguf", "Q4/m-Q4.gguf", "config.json"],
                     "has GGUF files (F16/m-F16-00001-of-00002.gguf and 1 more)", id="gguf"),
        pytest.param(["m-Q4_K_M.gguf"], "has GGUF files (m-Q4_K_M.gguf)", id="one gguf"),
        pytest.param(["adapter_config.json", "adapter_model.safetensors"],
                     "has an adapter (adapter_config.json and 1 more)", id="an adapter"),
        pytest.param(["consolidated.00.pth", "params.json", "tokenizer.model"],
                     "has its authors' own format (consolidated.00.pth)", id="Llama's own"),
        pytest.param(["original/consolidated.00.pth", "config.json"],
                     "has its authors' own format", id="Llama's own in a folder"),
        pytest.param(["model_index.json", "unet/d.safetensors", "vae/d.safetensors"],
                     "has its weights in subfolders (unet/d.safetensors and 1 more)",
                     id="diffusers"),
        pytest.param(["config.json", "tf_model.h5"], "for other programs (tf_model.h5)", id="tf"),
        pytest.param(["config.json", "onnx/model.onnx"], "for other programs", id="onnx"),
        pytest.param(["config.json", "openvino_model.bin"], "for other programs", id="openvino"),
        pytest.param(["README.md"], "has no weights", id="nothing"),
        pytest.param(["flux1-dev.safetensors"], "has no config.json", id="no config"),
        pytest.param(["config.json", *shards(3)[:2]],
                     "is missing shards of its weights (model-00003-of-00003.safetensors)",
                     id="shards"),
    ],
)  # fmt: skip
def test_weights_sglang_cannot_load_are_reported_with_a_fix(names: list[str], what: str) -> None:
    problem = find_load_problem(names)
    assert problem
    assert what in problem[0]
    assert problem[1]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([*SMALL, *shards(3)], id="shards"),
        pytest.param(["config.json", *shards(2), "model-00001-of-00004.safetensors"],
                     id="a shard of an earlier upload"),
        pytest.param(["params.json", "consolidated.safetensors"], id="Mistral's own"),
        pytest.param(["config.json", "model.safetensors", "m.gguf", "original/c.pth"], id="more"),
        pytest.param(["config.json", "model.safetensors", "mtp-00001-of-00002.safetensors"],
                     id="one file, and more weights"),
    ],
)  # fmt: skip
def test_weights_sglang_loads_are_accepted(names: list[str]) -> None:
    assert find_load_problem(names) is None


@pytest.mark.parametrize(("wanted", "others"), REPOSITORIES)
def test_sglang_loads_every_model_of_the_catalogue(wanted: list[str], others: list[str]) -> None:
    assert find_load_problem([*wanted, *others]) is None
