"""What no group uses any more, of what a node keeps: ours alone, and nothing that may be needed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st
from samples import IMAGE_ID, OTHER_IMAGE_ID, ran, specs_of

from cluster.node.readings import Rank
from cluster.transfer.prune_plan import (
    Compiled,
    Declared,
    Kept,
    Repository,
    StoredImage,
    StoredItem,
    find_running,
    find_unused,
    parse_kept,
)

OURS = "lmsysorg/sglang:spark"
SPEC = specs_of()["spark-1"]
NOTHING = Declared((), "", ())
THIRD = "sha256:" + "ef" * 32


def kept(
    repositories: tuple[Repository, ...] = (),
    compiled: tuple[Compiled, ...] = (),
    images: tuple[StoredImage, ...] = (),
    tasks: tuple[str, ...] = (),
    leases: tuple[str, ...] = (),
) -> Kept:
    return Kept(repositories, compiled, images, tasks, leases)


def repo(id_: str, placed: bool = True, also: str = "") -> Repository:
    return Repository(id_, 10, placed, also)


def image(id_: str = IMAGE_ID, **changed: Any) -> StoredImage:
    fields: dict[str, Any] = {"tags": (OURS,), "bytes": 20, "used": False, "names": (OURS,)}
    return StoredImage(id_, **(fields | changed))


def unused(
    there: Kept, ranks: tuple[Rank, ...] = (), declared: Declared = NOTHING
) -> tuple[StoredItem, ...]:
    return find_unused(there, ranks, declared, {OURS})


def removed(*args: Any, **kwargs: Any) -> list[str]:
    return [item.name for item in unused(*args, **kwargs) if not item.why]


# ---- weights


@pytest.mark.parametrize(
    "rank",
    [
        ran(SPEC),
        ran(SPEC, status="exited"),
        replace(ran(SPEC), name="sglang-head.previous"),
        ran(replace(SPEC, group="blue", name="blue-head")),
        ran(SPEC, label='{"group":"sglang","of":"later","model":"openai\\/gpt-oss-120b"}'),
    ],
    ids=["running", "stopped", "kept for a rollback", "another group's", "another version's"],
)
def test_weights_of_any_rank_stay(rank: Rank) -> None:
    there = kept((repo("openai/gpt-oss-120b"), repo("openai/gpt-oss-20b")))
    assert removed(there, (rank,)) == ["openai/gpt-oss-20b"]


def test_a_draft_a_download_and_what_is_declared_stay() -> None:
    launch = replace(SPEC.launch, extra_args=("--speculative-draft-model-path=org/draft",))
    there = kept(
        tuple(map(repo, ("org/draft", "org/coming", "org/declared", "org/draft-2", "org/dra"))),
        tasks=("spark-serving.task=weights sglang org/coming",),
    )
    declared = Declared(("org/declared", "{}"), "", ())
    assert removed(there, (ran(replace(SPEC, launch=launch)),), declared) == [
        "org/draft-2",
        "org/dra",
    ]


def test_weights_that_another_program_placed_are_listed_and_left() -> None:
    there = kept((repo("a/theirs", placed=False), repo("a/shared", also="snapshots/x")))
    assert [str(item) for item in unused(there)] == [
        "weights a/theirs, 0.0 GB: left, no record that a deploy has placed it",
        "weights a/shared, 0.0 GB: left, another program has placed snapshots/x in it",
    ]


def test_a_container_without_our_label_uses_no_weights_of_ours() -> None:
    assert removed(kept((repo("a/b"),)), (Rank("sglang-head", "x", "running"),)) == ["a/b"]


# ---- compile caches


def test_compile_caches_stay_for_every_rank_and_for_what_is_declared() -> None:
    all_ = [
        Compiled(short, rank, 1)
        for short in ("ab" * 6, "cd" * 6)
        for rank in ("sglang-0", "sglang-1", "blue-0")
    ]
    there = kept(compiled=tuple(all_))
    assert removed(there, (ran(SPEC),), Declared((), OTHER_IMAGE_ID, ("sglang-0", "sglang-1"))) == [
        "abababababab/sglang-1",
        "abababababab/blue-0",
        "cdcdcdcdcdcd/blue-0",
    ]
    # A label of a later version names no rank: all of its image's stay.
    assert removed(there, (ran(SPEC, label="{}"),)) == [
        f"cdcdcdcdcdcd/{rank}" for rank in ("sglang-0", "sglang-1", "blue-0")
    ]


# ---- images


def test_images_go_by_their_record_if_no_container_is_of_them() -> None:
    there = kept(
        images=(
            image(),
            image(OTHER_IMAGE_ID, used=True),
            image(THIRD, tags=(OURS, "mine:1")),
            image(THIRD, names=()),
            image(THIRD, tags=("postgres:17",), names=()),
            image(THIRD, tags=()),
        )
    )
    assert [(i.shown, i.why) for i in unused(there)] == [
        (OURS, ""),
        ("lmsysorg/sglang:spark, mine:1", "it has another name too, mine:1"),
        (OURS, "no record that a deploy has brought it"),
        ("efefefefefef", ""),
    ]
    assert not removed(kept(images=(image(),)), (ran(SPEC),))
    assert not removed(kept(images=(image(),)), declared=Declared((), IMAGE_ID, ()))


# ---- what a node says


ANSWER: dict[str, Any] = {
    "repositories": [{"id": "a/b", "bytes": 1, "placed": True, "also": ""}],
    "compiled": [{"image": "ab" * 6, "rank": "sglang-0", "bytes": 1}],
    "images": [{"id": IMAGE_ID, "tags": [OURS], "bytes": 1, "used": False, "names": [OURS]}],
    "tasks": [],
    "leases": ["blue"],
}


def test_a_nodes_answer_is_read() -> None:
    there = parse_kept(ANSWER)
    assert removed(there) == ["abababababab/sglang-0", "a/b", IMAGE_ID]
    (finding,) = find_running("spark-1", there, "sglang")
    assert "another run holds the lease on the group blue" in str(finding)
    assert not list(find_running("spark-1", there, "blue"))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("repositories", {"id": "../etc", "bytes": 1, "placed": True}),
        ("repositories", {"id": "a/b/c", "bytes": 1, "placed": True}),
        ("repositories", {"id": "a/b\n", "bytes": 1, "placed": True}),
        ("repositories", {"id": "a/b", "bytes": -1, "placed": True}),
        ("repositories", {"id": "a/b", "bytes": 1, "placed": 1}),
        ("compiled", {"image": "..", "rank": "sglang-0", "bytes": 1}),
        ("compiled", {"image": "ab" * 6, "rank": "../x-0", "bytes": 1}),
        ("images", {"id": "latest", "tags": [], "bytes": 1, "used": False}),
        ("images", {"id": "--force", "tags": [], "bytes": 1, "used": False}),
    ],
)
def test_a_hostile_answer_is_refused(part: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse_kept({**ANSWER, part: [wrong]})


NAMES = st.sampled_from(["a/b", "a/b-c", "a/b.c", "a/bb", "aa/b"])


@given(st.sets(NAMES), st.sets(NAMES))
def test_what_any_label_names_never_goes(there: set[str], used: set[str]) -> None:
    label = json.dumps({"launch": {"extra_args": sorted(used)}, "group": "g"})
    gone = removed(kept(tuple(map(repo, sorted(there)))), (ran(SPEC, label=label),))
    assert set(gone) == there - used
