"""From one model to the next, each with an image, flags and a draft model of its own, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import testbed_image
from deploying import HEAD, WORKER, Deploy, lives, rank, serves, spec, states
from local_hub import Hub
from spark_node import HF_CACHE
from sparks import ROOT, Cluster

GPT_OSS, QWEN = "openai/gpt-oss-20b", "RadixArk/Qwen3.8-27B-NVFP4"
FLASH_NEXT, DRAFT = "RadixArk/Qwen3.8-Flash-Next-NVFP4", "RadixArk/Qwen3.8-27B-DSpark"
# What the catalog's image of each holds; that of Flash-Next is no release.
IMAGES = {
    QWEN: ("0.5.19", "lmsysorg/sglang:v0.5.19"),
    FLASH_NEXT: ("0.0.0.dev1+g4ccff141d", "lmsysorg/sglang:dev-qwen38-next-local"),
}
DIGESTS = {
    QWEN: "sha256:d6e7288627be8b02be88e4bba38e73f6d50e2826869f753c13a4c4385ab3eda9",
    FLASH_NEXT: "sha256:9d2a843c706c74bc259c0d9abf360551eb2734e1e7d255ab012a6965f10480b6",
}
WEIGHTS = "model.safetensors"
FILES = {"config.json": b"{}", WEIGHTS: bytes(range(256)) * 2000}
DRAFT_WEIGHTS = "draft.safetensors"
DRAFT_FILES = {"config.json": b"{}", DRAFT_WEIGHTS: bytes(range(255)) * 900}
# The draft on the head alone, as upstream has it; then both nodes again.
WITH_DRAFT: dict[str, Any] = {"model": "qwen38-27b", "variant": "dspark", "head_only": True}
ON_BOTH = {HEAD: "running", WORKER: "running"}


@pytest.fixture
def hub(testbed: Cluster, tmp_path: Path) -> Iterator[Hub]:
    """A hub that has the two Qwen models and the draft."""
    with testbed.hub(tmp_path) as hub_server:
        hub_server.add(QWEN, FILES)
        hub_server.add(FLASH_NEXT, FILES)
        hub_server.add(DRAFT, DRAFT_FILES)
        yield hub_server


@pytest.fixture
def gpt_oss(cluster: Cluster, hub: Hub, tmp_path: Path) -> Deploy:
    """An inventory of nodes 1 and 2 which serve gpt-oss as the seed did, and the entries beside it:
    the catalog's, with the digests of the registry here and the commits and sizes of the hub."""
    digests = {id: push(cluster, *IMAGES[id]) for id in IMAGES}
    size = str(len(FILES[WEIGHTS]))
    # Its vocabularies are on the internet alone.
    entry(tmp_path, "gpt-oss-20b", {"tiktoken = true": "tiktoken = false"})
    entry(
        tmp_path,
        "qwen38-27b",
        {
            DIGESTS[QWEN]: digests[QWEN],
            "52d1adc5f38aa5ebf099c29ed7025ba34cfbb854": hub.commit(QWEN),
            "85ef153be924f17ce4bf62726954eeaa4a73e854": hub.commit(DRAFT),
            "21_900_000_000": size,
        },
    )
    entry(
        tmp_path,
        "qwen38-flash-next",
        {
            DIGESTS[FLASH_NEXT]: digests[FLASH_NEXT],
            "7b719225242aacd3dbd3f9407468c2ee9a9d2594": hub.commit(FLASH_NEXT),
            "135_291_469_824": size,
        },
    )
    cluster.each(lambda node: node.add_weights(GPT_OSS))
    data = {"model": "gpt-oss-20b", "stop_timeout": 4, "hf_endpoint": hub.url}
    deploy = Deploy(cluster, cluster.inventory(tmp_path, **data))
    deploy.succeeds()
    return deploy


def push(cluster: Cluster, version: str, tag: str) -> str:
    """Put the stub of a version into the registry under this name; its digest there."""
    node = cluster.node(1)
    node.load(testbed_image.tar(version, tag))
    digest = f"docker inspect -f '{{{{index .RepoDigests 0}}}}' {tag}"
    pushed = node.run(f"docker push -q {tag} >&2; {digest}; docker rmi {tag} >&2").stdout
    return pushed.strip().partition("@")[2]


def entry(folder: Path, alias: str, other: dict[str, str]) -> None:
    """Put the catalog's entry beside the inventory, with other values."""
    text = (ROOT / f"cluster/catalog/{alias}.toml").read_text()
    for old, new in other.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "catalog").mkdir(exist_ok=True)
    (folder / f"catalog/{alias}.toml").write_text(text)


@contextmanager
def without_draft(_cluster: Cluster, hub: Hub) -> Iterator[None]:
    (hub.folder / DRAFT).rename(hub.folder / "away")
    yield
    (hub.folder / "away").rename(hub.folder / DRAFT)


@contextmanager
def gated_draft(_cluster: Cluster, hub: Hub) -> Iterator[None]:
    hub.fault(gated={DRAFT: 401})
    yield
    hub.fault()


@contextmanager
def wrong_hash(_cluster: Cluster, hub: Hub) -> Iterator[None]:
    hub.fault(wrong={DRAFT_WEIGHTS: 9})
    yield
    hub.fault()


@contextmanager
def small_disk(cluster: Cluster, _hub: Hub) -> Iterator[None]:
    """Of the head: room for the model, and not for the 2.7 GB of the draft beside it."""
    cluster.node(1).run(f"mount -t tmpfs -o size=2g none {HF_CACHE} && chown nvidia: {HF_CACHE}")
    yield
    cluster.node(1).run(f"umount {HF_CACHE}")


@contextmanager
def nothing(_cluster: Cluster, _hub: Hub) -> Iterator[None]:
    yield


# (what is wrong meanwhile, the settings, words of the refusal)
Fault = tuple[Callable[[Cluster, Hub], AbstractContextManager[None]], dict[str, Any], str]
FAULTS: tuple[Fault, ...] = (
    (nothing, {**WITH_DRAFT, "variant": "dspak"}, "none of qwen38-27b's; did you mean dspark?"),
    # As the catalog has it: the registry here lacks its digest.
    (nothing, {"variant": "release"}, "could not be pulled: "),
    (small_disk, WITH_DRAFT, "2.5 GiB draft = "),
    (without_draft, WITH_DRAFT, f"has no repository {DRAFT}"),
    (gated_draft, WITH_DRAFT, "is gated, and the hub got no valid token"),
    (wrong_hash, WITH_DRAFT, "arrived corrupt twice"),
)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_from_model_to_model_and_back_with_faults_between(gpt_oss: Deploy, hub: Hub) -> None:
    cluster, seed, before = gpt_oss.cluster, specs(gpt_oss.cluster), lives(gpt_oss.cluster)
    for fault, data, words in FAULTS:
        with fault(cluster, hub):
            output = gpt_oss.fails(**data)
        assert words in output
        assert lives(cluster) == before, words
        assert states(cluster) == ON_BOTH, words
    assert serves(cluster, GPT_OSS)

    gpt_oss.succeeds(**WITH_DRAFT)
    assert states(cluster) == {HEAD: "running"}
    assert serves(cluster, QWEN)
    (head,) = specs(cluster)
    words = rank(cluster, 1)["Args"]
    assert (head["variant"], DRAFT in words, "DSPARK" in words) == ("dspark", True, True)
    assert head["sglang"] == "0.5.19" and head["image"].startswith("lmsysorg/sglang@sha256:")
    gpt_oss.unchanged(**WITH_DRAFT)
    served = rank(cluster, 1)["Id"]
    output = gpt_oss.fails(model="qwen38-flash-next", env={"STUB_EXIT_RANK": "1"})
    assert f"{QWEN} serves again, as before this run" in output
    assert serves(cluster, QWEN)
    running = [c for c in cluster.node(1).containers() if c["State"]["Running"]]
    assert [(c["Name"], c["Id"]) for c in running] == [(f"/{HEAD}", served)]

    gpt_oss.succeeds(model="qwen38-flash-next")
    assert states(cluster) == ON_BOTH
    assert serves(cluster, FLASH_NEXT)
    for number, one in enumerate(specs(cluster), 1):
        words = rank(cluster, number)["Args"]
        assert (DRAFT in words, "--no-ple-offload-embedding" in words) == (False, True)
        assert one["sglang"] == IMAGES[FLASH_NEXT][0] and one["image"] != head["image"]
    gpt_oss.unchanged(model="qwen38-flash-next")

    hub.forget()
    gpt_oss.succeeds()
    assert serves(cluster, GPT_OSS)
    assert specs(cluster) == seed
    assert hub.log == []
    gpt_oss.unchanged()


def specs(cluster: Cluster) -> list[dict[str, Any]]:
    """What the rank of each node that has one is started from."""
    nodes = [n for n, node in cluster.nodes.items() if node.containers()]
    return [spec(rank(cluster, number)) for number in nodes]
