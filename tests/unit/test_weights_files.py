"""Which files of a repository are wanted: the catalogue's repositories as they are on the hub."""

from __future__ import annotations

import pytest

from cluster.weights.files import File, needed, picked, whole

SMALL = ["README.md", "config.json", "generation_config.json", "tokenizer.json",
         "tokenizer_config.json", "model.safetensors.index.json", "LICENSE"]  # fmt: skip


def shards(count: int, suffix: str = ".safetensors", stem: str = "model") -> list[str]:
    return [f"{stem}-{n:05}-of-{count:05}{suffix}" for n in range(1, count + 1)]


def chosen(paths: list[str]) -> set[str]:
    return {f.path for f in picked([File(path, 1, "git", "x") for path in paths])}


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
        pytest.param(["m-Q4.gguf", "m-Q8.gguf"], {"m-Q4.gguf", "m-Q8.gguf"}, id="only gguf"),
        pytest.param(["onnx/model.onnx", "model.safetensors"], {"model.safetensors"}, id="onnx"),
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
def test_whether_weights_without_a_list_are_whole(
    index: dict[str, list[str]], there: list[str], complete: bool
) -> None:
    assert whole(index, ["config.json", *there]) is complete


def test_without_a_config_they_are_not_whole_but_for_gguf() -> None:
    assert not whole({}, ["model.safetensors"])
    assert whole({}, ["model.gguf"])


def test_the_models_own_index_counts_before_others() -> None:
    index = {"model.safetensors.index.json": ["a.safetensors"], "a.index.json": ["b.bin"]}
    assert needed(index, []) == {"a.safetensors"}
