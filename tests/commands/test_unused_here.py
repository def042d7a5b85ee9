"""unused_here.py as a node runs it: what it lists, what it removes, and what it never touches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from operations.node_weights import SCRIPT as WEIGHTS
from operations.prune import SCRIPT

COMMIT = "c" * 40
ID = "sha256:" + "ab" * 32
# A Docker with one image in a file, whose `run` is `rm` on this machine.
DOCKER = """#!/bin/sh
case "$1 $2" in
  "image ls") cat "$FAKE/ids";;
  "image inspect") cat "$FAKE/image";;
  "image rm") echo "$3" >>"$FAKE/removed"; : >"$FAKE/ids";;
  "ps --all") [ "$3" = --quiet ] && cat "$FAKE/containers" || cat "$FAKE/tasks";;
  "inspect --type=container") cat "$FAKE/uses";;
  "run --rm") exit 1;;
esac
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake = tmp_path / "fake"
    fake.mkdir()
    docker = fake / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    for name in ("ids", "containers", "tasks", "uses"):
        (fake / name).write_text("")
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def ask(script: str, **task: Any) -> dict[str, Any]:
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def look(node: Path) -> dict[str, Any]:
    return ask(SCRIPT, do="look", hub=str(node / "hub"), root=str(node / "kept"), task="t")


def remove(node: Path, *items: tuple[str, str]) -> dict[str, Any]:
    task = {"hub": str(node / "hub"), "root": str(node / "kept"), "items": items}
    return dict(ask(SCRIPT, do="remove", **task)["left"])


def place(node: Path, name: str) -> Path:
    """A repository that a copy of ours has placed on a node."""
    base, digest = node / "hub" / f"models--{name.replace('/', '--')}", "2" * 64
    part = base / ".spark-serving-part" / COMMIT
    part.mkdir(parents=True)
    (part / "config.json").write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    entry = {"size": 2, "kind": "sha256", "hash": digest, "by": "hub", "blob": digest}
    files = {"config.json": {**entry, "mtime_ns": 0}}
    reply = ask(
        WEIGHTS, do="place", root=str(base), hub=True, commit=COMMIT, ref="main", files=files,
        part=str(part),
    )  # fmt: skip
    assert reply["bad"] == []
    return base


# ---- weights


def test_what_a_copy_placed_is_ours_and_goes_whole(node: Path) -> None:
    base = place(node, "org/m")
    (read,) = look(node)["repositories"]
    assert (read["id"], read["placed"], read["also"]) == ("org/m", True, "")
    assert read["bytes"] > 0
    assert remove(node, ("weights", "org/m")) == {}
    assert not base.exists()
    assert remove(node, ("weights", "org/m")) == {}


def test_what_a_download_begins_is_ours(node: Path) -> None:
    base = node / "hub/models--org--m"
    ask(WEIGHTS, do="record", root=str(base), hub=True, commit=COMMIT, ref="", files={})
    entry = {"size": 2, "kind": "sha256", "hash": "2" * 64, "by": "hub", "blob": "2" * 64}
    files = {"config.json": {**entry, "mtime_ns": 0}}
    ask(WEIGHTS, do="record", root=str(base), hub=True, commit=COMMIT, ref="", files=files)
    assert look(node)["repositories"][0]["placed"] is True


def test_what_was_there_before_is_not_even_after_it_was_recorded(node: Path) -> None:
    base = node / "hub/models--org--m"
    (base / "blobs").mkdir(parents=True)
    (base / "blobs" / ("2" * 64)).write_text("{}")
    entry = {"size": 2, "kind": "sha256", "hash": "2" * 64, "by": "hub", "blob": "2" * 64}
    files = {"config.json": {**entry, "mtime_ns": 0}}
    ask(WEIGHTS, do="record", root=str(base), hub=True, commit=COMMIT, ref="", files=files)
    assert look(node)["repositories"][0]["placed"] is False
    assert "has changed meanwhile" in remove(node, ("weights", "org/m"))["weights org/m"]
    assert (base / "blobs" / ("2" * 64)).exists()


@pytest.mark.parametrize("other", ["snapshots/" + "d" * 40, "blobs/" + "e" * 64])
def test_what_another_program_added_keeps_the_whole(node: Path, other: str) -> None:
    base = place(node, "org/m")
    (base / other).mkdir()
    assert look(node)["repositories"][0]["also"] == other
    assert remove(node, ("weights", "org/m"))
    assert (base / "snapshots" / COMMIT / "config.json").exists()


def test_links_are_neither_listed_nor_followed(node: Path) -> None:
    base = place(node, "org/m")
    outside = node / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    (node / "hub/models--org--link").symlink_to(outside)
    (base / "blobs/link").unlink(missing_ok=True)
    (base / "refs/elsewhere").symlink_to(outside)
    own = node / "kept/compile/abababababab/sglang-0"
    (own / "kernels").mkdir(parents=True)
    (own / "kernels/link").symlink_to(outside)
    (node / "kept/compile/cdcdcdcdcdcd").symlink_to(outside)
    (node / "kept/compile/abababababab/blue-0").symlink_to(outside)
    there = look(node)
    assert [r["id"] for r in there["repositories"]] == ["org/m"]
    assert [(c["image"], c["rank"]) for c in there["compiled"]] == [("abababababab", "sglang-0")]
    names = [("compiled", "abababababab/sglang-0"), ("compiled", "abababababab/blue-0")]
    assert remove(node, *names, ("weights", "org/link"), ("weights", "org/m")) == {}
    assert (outside / "file").read_text() == "x"
    assert not own.exists()
    assert not base.exists()


@pytest.mark.parametrize("name", ["../outside", "abababababab/../../outside", "/outside", ""])
def test_a_name_that_is_not_listed_removes_nothing(node: Path, name: str) -> None:
    (node / "outside").mkdir()
    place(node, "org/m")
    assert remove(node, ("compiled", name), ("weights", name), ("other", "org/m")) == {}
    assert (node / "outside").exists()
    assert look(node)["repositories"]


# ---- images


def with_image(node: Path, *tags: str, recorded: str = "", used: bool = False) -> None:
    fake = node / "fake"
    (fake / "ids").write_text(f"{ID}\n")
    (fake / "image").write_text(json.dumps({"RepoTags": tags, "Size": 7}))
    if recorded:
        record = node / "kept/images" / ("ab" * 32)
        record.parent.mkdir(parents=True)
        record.write_text(f"{recorded}\n")
    if used:
        (fake / "containers").write_text("c1\n")
        (fake / "uses").write_text(f"{ID}\n")


def test_an_image_of_ours_goes_by_its_names(node: Path) -> None:
    with_image(node, "a/b:1", recorded="a/b:1")
    assert look(node)["images"] == [
        {"id": ID, "tags": ["a/b:1"], "bytes": 7, "used": False, "names": ["a/b:1"]}
    ]
    assert remove(node, ("image", ID)) == {}
    assert (node / "fake/removed").read_text().split() == ["a/b:1", ID]
    assert not list((node / "kept/images").iterdir())


@pytest.mark.parametrize(
    "how",
    [{"recorded": ""}, {"recorded": "a/b:1", "used": True}, {"recorded": "other:1"}],
    ids=["no record", "used", "another name"],
)
def test_an_image_that_has_changed_meanwhile_stays(node: Path, how: dict[str, Any]) -> None:
    with_image(node, "a/b:1", **how)
    assert remove(node, ("image", ID)) == {f"image {ID}": "it has changed meanwhile"}
    assert not (node / "fake/removed").exists()


def test_who_holds_a_lease_is_reported(node: Path) -> None:
    (node / "spark-serving").mkdir()
    (node / "spark-serving/blue.lease").write_text("{}")
    stale = node / "spark-serving/old.lease"
    stale.write_text("{}")
    os.utime(stale, (1, 1))
    assert "blue" in look(node)["leases"]
    assert "old" not in look(node)["leases"]
