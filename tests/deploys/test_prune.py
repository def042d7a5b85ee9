"""deploys/prune.py and deploys/unused.py on fake nodes: listed first, then removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import IMAGE_ID, Fakes

OLD = "Qwen/Qwen2.5-7B-Instruct"
FILE = "deploys/prune.py"


def kept(**more: Any) -> dict[str, Any]:
    """What a node keeps: of the group that runs, of one that is gone, and of others."""
    return {
        "repositories": [
            {"id": OLD, "bytes": 15_200_000_000, "placed": True, "also": ""},
            {"id": "openai/gpt-oss-120b", "bytes": 1, "placed": True, "also": ""},
            {"id": "some/body", "bytes": 2_000_000_000, "placed": False, "also": ""},
        ],
        "compiled": [
            {"image": image, "rank": "sglang-0", "bytes": 9} for image in ("ab" * 6, "cd" * 6)
        ],
        "images": [
            {"id": IMAGE_ID, "tags": [], "bytes": 1, "used": True, "names": ["x:1"]},
        ],
        "tasks": [],
        "leases": [],
        **more,
    }


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    answer(sparks, kept())
    return sparks


def answer(sparks: Fakes, *answers: Any) -> None:
    for spark in sparks.sparks:
        spark.answers = {"unused_here": [json.dumps(one) for one in answers]}


def test_a_dry_run_shows_sizes_and_changes_nothing(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", yes=False, file=FILE)
    assert run.code == 0, run.text
    for node in ("@fake/spark-1", "@fake/spark-2"):
        assert f"plan: {node}: weights {OLD}, 15.2 GB" in run.text
        assert f"plan: {node}: compile cache of sglang-0 with image cdcdcdcdcdcd" in run.text
        assert f"{node}: weights some/body, 2.0 GB: left, no record that a deploy" in run.text
        assert len([c for c in run.commands[node] if "unused_here" in c]) == 1
    assert "gpt-oss-120b" not in run.text


def test_what_is_unused_is_removed_on_every_node(sparks: Fakes) -> None:
    answer(sparks, kept() | {"left": {}})
    run = sparks.deploy(file=FILE)
    assert run.code == 0, run.text
    assert run.text.count(f"removed: weights {OLD}") == 2
    assert run.text.count("removed: compile cache cdcdcdcdcdcd/sglang-0") == 2
    assert "removed: weights some/body" not in run.text


def test_nothing_unused_is_no_change(sparks: Fakes) -> None:
    answer(sparks, kept(repositories=[], compiled=[]))
    run = sparks.deploy(file=FILE)
    assert run.code == 0, run.text
    assert "nothing is unused" in run.text
    assert all(len([c for c in cs if "unused_here" in c]) == 1 for cs in run.commands.values())


def test_what_could_not_be_removed_fails_the_run(sparks: Fakes) -> None:
    answer(sparks, kept() | {"left": {f"weights {OLD}": "Permission\x1b[31m denied"}})
    run = sparks.deploy(file=FILE)
    assert run.code == 1
    assert f"weights {OLD} could not be removed: Permission denied -> run this again" in run.text


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (kept(leases=["blue"]), "another run holds the lease on the group blue"),
        (kept(repositories=[{"id": "../x", "bytes": 1, "placed": True}]), "could not be read"),
        ({"failed": "docker ps: Cannot connect"}, "could not be read: docker ps: Cannot connect"),
        (["nonsense"], "could not be read"),
    ],
)
def test_a_refusal_removes_nothing(sparks: Fakes, there: Any, words: str) -> None:
    answer(sparks, there)
    run = sparks.deploy(file=FILE)
    assert run.code == 1
    assert words in run.text
    assert "refused, nothing was changed" in run.text
    assert "removed:" not in run.text


def test_the_document_lists_what_is_unused_by_node(sparks: Fakes) -> None:
    answer(sparks, kept(leases=["blue"]))
    run = sparks.deploy(file="deploys/unused.py")
    document = json.loads(run.out)
    assert [node["name"] for node in document["nodes"]] == ["@fake/spark-1", "@fake/spark-2"]
    assert document["nodes"][0]["unused"] == [
        {"kind": "compiled", "name": "of sglang-0 with image cdcdcdcdcdcd", "bytes": 9, "left": ""},
        {"kind": "weights", "name": OLD, "bytes": 15_200_000_000, "left": ""},
        {
            "kind": "weights",
            "name": "some/body",
            "bytes": 2_000_000_000,
            "left": "no record that a deploy has placed it",
        },
    ]
    assert "group blue" in document["notes"][0]
