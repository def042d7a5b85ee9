"""Versions: their order, the one an image holds, and where dp attention matters."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cluster.engine.options import nearest_recorded
from cluster.engine.versions import dp_attention_needed, known_version, parse_version
from cluster.findings import Refused

IN_ORDER = [
    "0.4.10",
    "0.5.3.dev7",
    "0.5.3rc0.dev1",
    "0.5.3rc0",
    "0.5.3",
    "0.5.3.post1.dev12+gabc",
    "0.5.3.post1",
    "0.5.3.post3",
    "0.5.4",
    "0.5.5",
    "0.5.5.post1",
    "0.5.10",
    "0.5.23",
    "0.6.0",
]


@pytest.mark.parametrize(("older", "newer"), list(pairwise(IN_ORDER)))
def test_versions_are_ordered_as_they_were_released(older: str, newer: str) -> None:
    assert parse_version(older) < parse_version(newer)


@pytest.mark.parametrize("version", ["v0.5.23", "0.5.23+cu130", "0.5.23+gabc.d20260101"])
def test_a_prefix_and_a_local_part_change_nothing(version: str) -> None:
    assert parse_version(version) == parse_version("0.5.23")


@pytest.mark.parametrize("word", ["", "latest", "0", "spark", "0.5.x", "0.5.23 "])
def test_an_invalid_version_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="sglang_version = "):
        parse_version(word)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        pytest.param("lmsysorg/sglang:spark", "0.5.3.post3", id="spark"),
        pytest.param("docker.io/lmsysorg/sglang:spark", "0.5.3.post3", id="spark-full-name"),
        pytest.param("mirror:5000/lmsysorg/sglang:spark", "0.5.3.post3", id="spark-mirror"),
        pytest.param("lmsysorg/sglang:spark@sha256:ab", "0.5.3.post3", id="spark-digest"),
        pytest.param("lmsysorg/sglang:v0.5.19-cu129", "0.5.19", id="cuda-suffix"),
        pytest.param("lmsysorg/sglang:v0.5.5.post1", "0.5.5.post1", id="post"),
        pytest.param("lmsysorg/sglang:v0.5.4rc1-cu130-arm64", "0.5.4rc1", id="candidate"),
        pytest.param("me/my-sglang:v0.5.23", "0.5.23", id="own-build"),
        pytest.param("me/my-sglang:0.5.17-sm121", "0.5.17", id="without-a-v"),
        pytest.param("lmsysorg/sglang:latest", None, id="latest"),
        pytest.param("lmsysorg/sglang", None, id="no-tag"),
        pytest.param("lmsysorg/sglang@sha256:ab", None, id="digest-alone"),
        pytest.param("nvcr.io/nvidia/sglang:26.02-py3", None, id="calendar"),
        pytest.param("someone/sglang:spark", None, id="another-spark"),
        pytest.param("vllm/vllm-openai:v0.5.3", None, id="another-engine"),
        pytest.param("sglang:5000/vllm", None, id="registry-called-sglang"),
        pytest.param("", None, id="empty"),
    ],
)
def test_known_version(image: str, version: str | None) -> None:
    assert known_version(image) == version


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        ("0.5.3.post3", True),
        ("0.5.4.post1", False),
        ("0.5.5", True),
        ("0.5.5.post1", False),
        ("0.5.23", False),
    ],
)
def test_dp_attention_is_needed_in_its_window_and_kept_for_spark(
    version: str, needed: bool
) -> None:
    assert dp_attention_needed("openai/gpt-oss-120b", version) is needed
    assert not dp_attention_needed("Qwen/Qwen2.5-72B-Instruct", version)


@pytest.mark.parametrize(
    ("version", "recorded"),
    [
        ("0.4.9", "0.5.3.post3"),
        ("0.5.5", "0.5.3.post3"),
        ("0.5.12.post1", "0.5.11"),
        ("0.5.19", "0.5.19"),
        ("0.5.22.dev7+gabc", "0.5.21"),
        ("0.0.0", "0.5.23"),
        ("0.0.0.dev1+g452239a74", "0.5.23"),
        ("0.5.23", "0.5.23"),
        ("0.6", "0.5.23"),
    ],
)
def test_a_version_is_checked_against_the_closest_recorded_one(version: str, recorded: str) -> None:
    assert nearest_recorded(version) == recorded
