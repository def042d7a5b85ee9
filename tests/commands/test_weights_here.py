"""weights_here.py as a node runs it: what it reads, what it believes, what it puts in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from operations.node_weights import SCRIPT

COMMIT = "c" * 40
SMALL, LARGE = b"{}", b"large" * 1000
GIT = sha1(b"blob 2\0" + SMALL).hexdigest()
SHA = sha256(LARGE).hexdigest()


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def ask(
    do: str, root: Path, hub: bool = True, before: Sequence[str] = (), **request: Any
) -> dict[str, Any]:
    task = {"do": do, "root": str(root), "hub": hub, **request}
    words = [*before, sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def look(root: Path, revision: str = "", hub: bool = True, full: bool = False) -> dict[str, Any]:
    return ask("look", root, hub, revision=revision, full=full)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A cache as Hugging Face's client leaves it."""
    base = tmp_path / "models--org--m"
    at = base / "snapshots" / COMMIT
    (base / "blobs").mkdir(parents=True)
    at.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs/main").write_text(COMMIT)
    for name, blob, content in (("config.json", GIT, SMALL), ("m.safetensors", SHA, LARGE)):
        (base / "blobs" / blob).write_bytes(content)
        (at / name).symlink_to(f"../../blobs/{blob}")
    return base


def recorded(repo: Path) -> dict[str, Any]:
    reply = look(repo)
    names = ("size", "kind", "hash", "by", "blob", "mtime_ns")
    files = {path: {n: f[n] for n in names} for path, f in reply["files"].items()}
    ask("record", repo, commit=COMMIT, ref="main", files=files)
    return files


def spoil(file: Path, keep_time: bool) -> None:
    stat, content = file.stat(), file.read_bytes()
    file.write_bytes(b"X" + content[1:])
    if keep_time:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_blobs_are_checked_by_their_own_names(repo: Path) -> None:
    reply = look(repo)
    assert reply["commit"] == COMMIT
    assert not reply["recorded"]
    proofs = {p: (f["kind"], f["hash"], f["by"], f["good"]) for p, f in reply["files"].items()}
    assert proofs == {
        "config.json": ("git", GIT, "name", True),
        "m.safetensors": ("sha256", SHA, "name", True),
    }


def test_a_damaged_blob_in_another_owners_cache_is_found(repo: Path) -> None:
    spoil(repo / "blobs" / SHA, keep_time=True)
    reply = look(repo)["files"]
    assert (reply["m.safetensors"]["good"], reply["config.json"]["good"]) == (False, True)


def test_unchanged_files_are_not_read_again(repo: Path) -> None:
    recorded(repo)
    reply = look(repo)
    assert reply["recorded"]
    assert [f["read"] for f in reply["files"].values()] == [0, 0]


def test_a_changed_time_is_read_again(repo: Path) -> None:
    recorded(repo)
    os.utime(repo / "blobs" / SHA)
    assert look(repo)["files"]["m.safetensors"]["read"] == len(LARGE)


def test_a_full_check_finds_a_flipped_byte_that_kept_its_time(repo: Path) -> None:
    recorded(repo)
    spoil(repo / "blobs" / SHA, keep_time=True)
    assert look(repo)["files"]["m.safetensors"]["good"]
    assert not look(repo, full=True)["files"]["m.safetensors"]["good"]


def test_a_missing_file_of_the_manifest_is_reported(repo: Path) -> None:
    recorded(repo)
    (repo / "snapshots" / COMMIT / "m.safetensors").unlink()
    reply = look(repo)
    assert list(reply["absent"]) == ["m.safetensors"]
    assert reply["absent"]["m.safetensors"]["hash"] == SHA


def test_recording_unchanged_weights_writes_nothing(repo: Path) -> None:
    recorded(repo)
    before = {p: p.stat().st_mtime_ns for p in repo.rglob("*")}
    recorded(repo)
    assert {p: p.stat().st_mtime_ns for p in repo.rglob("*")} == before


@pytest.mark.parametrize("revision", ["main", "", COMMIT])
def test_a_revision_by_name_or_commit(repo: Path, revision: str) -> None:
    assert look(repo, revision)["files"].keys() == {"config.json", "m.safetensors"}


def test_a_revision_that_is_not_there(repo: Path) -> None:
    assert (look(repo, "v9")["commit"], look(repo, "v9")["files"]) == ("", {})


def test_a_missing_model_folder_reads_as_empty(tmp_path: Path) -> None:
    reply = look(tmp_path / "nowhere/models--x")
    assert (reply["commit"], reply["files"], reply["closed"]) == ("", {}, [])
    assert reply["free"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_folder_that_engines_mount_is_made_by_the_login(tmp_path: Path) -> None:
    model = tmp_path / "model"
    request = {"revision": "", "full": False, "cache": str(tmp_path / "cache/hub")}
    ask("look", model, hub=False, **request)
    assert (tmp_path / "cache/hub").is_dir()
    assert not model.exists()


# ---- placing


def came(repo: Path, part: Path, **contents: bytes) -> dict[str, Any]:
    files = recorded(repo)
    for name, content in contents.items():
        part.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(content)
    return files


def test_a_complete_file_gets_its_name(repo: Path, tmp_path: Path) -> None:
    other, part = tmp_path / "other", tmp_path / "other/.spark-serving-part" / COMMIT
    files = came(repo, part, **{"config.json": SMALL, "m.safetensors": LARGE})
    reply = ask("place", other, commit=COMMIT, ref="main", files=files, part=str(part))
    assert reply["bad"] == []
    at = other / "snapshots" / COMMIT
    assert (at / "m.safetensors").read_bytes() == LARGE
    assert os.readlink(at / "m.safetensors") == f"../../blobs/{SHA}"
    assert (other / "refs/main").read_text() == COMMIT
    assert not part.exists()
    assert [f["read"] for f in look(other)["files"].values()] == [0, 0]


def test_a_download_with_a_wrong_hash_is_never_placed(repo: Path, tmp_path: Path) -> None:
    other, part = tmp_path / "other", tmp_path / "other/.spark-serving-part" / COMMIT
    files = came(repo, part, **{"config.json": SMALL, "m.safetensors": LARGE[:-1] + b"X"})
    reply = ask("place", other, commit=COMMIT, ref="main", files=files, part=str(part))
    assert reply["bad"] == ["m.safetensors"]
    assert not (other / "snapshots" / COMMIT / "m.safetensors").exists()
    assert not (other / "refs/main").exists()
    assert json.loads((other / ".spark-serving.json").read_text())["revisions"] == {}


# ---- plain files, which no hub knows


def test_a_local_path_is_checked_against_its_first_reading(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "m.safetensors").write_bytes(LARGE)
    reply = look(model, hub=False)
    assert reply["files"]["m.safetensors"]["by"] == "itself"
    names = ("size", "kind", "hash", "by", "blob", "mtime_ns")
    files = {p: {n: f[n] for n in names} for p, f in reply["files"].items()}
    ask("record", model, hub=False, commit="", ref="", files=files)
    spoil(model / "m.safetensors", keep_time=True)
    assert not look(model, hub=False, full=True)["files"]["m.safetensors"]["good"]
    os.utime(model / "m.safetensors")
    assert look(model, hub=False)["files"]["m.safetensors"]["good"], "changed on purpose"


def test_a_lone_file(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(LARGE)
    assert list(look(model, hub=False)["files"]) == [""]
    part = tmp_path / "there/m.gguf.spark-serving-part"
    part.mkdir(parents=True)
    (part / "m.gguf").write_bytes(LARGE)
    entry = {"size": len(LARGE), "kind": "sha256", "hash": SHA, "by": "itself", "blob": "",
             "mtime_ns": 0}  # fmt: skip
    there = tmp_path / "there/m.gguf"
    request = {"commit": "", "ref": "", "files": {"": entry}, "part": str(part)}
    assert ask("place", there, hub=False, **request)["bad"] == []
    assert there.read_bytes() == LARGE
    assert look(there, hub=False)["files"][""]["read"] == 0


# ---- what nobody can write


def unwritable(folder: Path) -> tuple[str, ...]:
    """Words before a command that finds the folder so: root writes all but a read-only mount."""
    folder.chmod(0o555)
    return () if os.geteuid() else ("unshare", "--mount", "sh", "-c", READ_ONLY, str(folder))


@pytest.mark.parametrize("do", ["record", "place"])
def test_read_only_complete_files_are_good(tmp_path: Path, do: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "m.safetensors").write_bytes(LARGE)
    reply = look(model, hub=False)["files"]
    request: dict[str, Any] = {"commit": "", "ref": "", "files": reply}
    request |= {"part": str(tmp_path / "nothing")} if do == "place" else {}
    result = ask(do, model, False, unwritable(model), **request)
    assert ".spark-serving.json" in result["unrecorded"]
    assert not result.get("bad")
    assert [p.name for p in model.iterdir()] == ["m.safetensors"]
    assert look(model, hub=False)["files"]["m.safetensors"]["read"] == len(LARGE), "read again"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_read_only_cache_is_read_but_not_recorded(repo: Path) -> None:
    request = {"revision": "", "full": False}
    reply = ask("look", repo, before=unwritable(repo), **request)
    assert reply["closed"] == []
    assert all(file["good"] for file in reply["files"].values())
    files = {"commit": COMMIT, "ref": "main", "files": reply["files"]}
    assert ask("record", repo, before=unwritable(repo), **files)["unrecorded"]


# ---- receiving


def receive(part: Path, sender: str, stall: float = 5, **sizes: int) -> str:
    """From a stand-in for ssh: a shell line that finds the wishes on its stdin."""
    files = [[name, f"snapshots/{name}", size] for name, size in sizes.items()]
    request: dict[str, Any] = {"part": str(part), "files": files, "stall": stall}
    reply = ask("receive", part.parent, ssh=["sh", "-c", sender, "sh"], **request)
    failed: str = reply["failed"]
    return failed


def test_received_bytes_fill_their_files_and_resume_partial_ones(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "b").write_bytes(b"BB")
    (part / "c").write_bytes(b"longer than it is")
    assert receive(part, f"cat >{tmp_path}/asked; printf aaabbcccc", a=3, b=4, c=4) == ""
    assert [(part / name).read_bytes() for name in "abc"] == [b"aaa", b"BBbb", b"cccc"]
    output = (tmp_path / "asked").read_text()
    assert output == "0/3/snapshots/a\n2/4/snapshots/b\n0/4/snapshots/c\n"


@pytest.mark.parametrize(
    ("sender", "failed"),
    [
        pytest.param("printf aa; echo 'no such file' >&2; exit 1", "no such file", id="an error"),
        pytest.param("printf aa", "interrupted", id="an end too early"),
        pytest.param("printf aa; exec sleep 60", "no byte for 1 s", id="silence"),
        pytest.param("exec no-such-program 2>&-", "interrupted", id="no ssh"),
    ],
)
def test_a_failed_transfer_says_why(tmp_path: Path, sender: str, failed: str) -> None:
    assert failed in receive(tmp_path / "part", sender, stall=1, a=3)
    assert (tmp_path / "part/a").stat().st_size <= 2


def test_extra_bytes_from_the_source_are_ignored(tmp_path: Path) -> None:
    assert receive(tmp_path / "part", "yes", a=4) == ""
    assert (tmp_path / "part/a").read_bytes() == b"y\ny\n"


# ---- what a hub or another node must not be able to do


EVIL: dict[str, Any] = {
    "size": 2,
    "kind": "git",
    "hash": GIT,
    "by": "hub",
    "blob": GIT,
    "mtime_ns": 1,
}


@pytest.mark.parametrize("do", ["record", "place"])
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"commit": "/home/nvidia"}, id="a commit that is a path"),
        pytest.param({"files": {"../../../.bashrc": EVIL}}, id="a name that leaves"),
        pytest.param({"files": {"a": {**EVIL, "blob": "../../x"}}}, id="a blob that is a path"),
        pytest.param({"files": {"a": {**EVIL, "hash": 7}}}, id="a hash that is none"),
        pytest.param({"ref": "../../../x"}, id="a branch that leaves"),
    ],
)
def test_an_impossible_request_changes_nothing(
    repo: Path, do: str, changed: dict[str, Any]
) -> None:
    before = sorted(str(p) for p in repo.parent.rglob("*"))
    request = {"commit": COMMIT, "ref": "main", "files": {}, **changed}
    request |= {"part": str(repo / "nothing")} if do == "place" else {}
    reply = ask(do, repo, **request)
    assert "ref" in changed or "unfit" in reply
    assert not (repo.parent / "x").exists()
    if "ref" not in changed:
        assert sorted(str(p) for p in repo.parent.rglob("*")) == before


def test_a_branch_without_a_commit_counts_as_missing(repo: Path) -> None:
    (repo / "refs/main").write_text("/home/nvidia")
    assert look(repo)["commit"] == ""
    assert look(repo)["files"] == {}


def test_impossible_manifest_entries_are_ignored(repo: Path) -> None:
    recorded(repo)
    manifest = json.loads((repo / ".spark-serving.json").read_text())
    manifest["revisions"][COMMIT]["../../.bashrc"] = EVIL
    manifest["revisions"][COMMIT]["x"] = None
    (repo / ".spark-serving.json").write_text(json.dumps(manifest))
    assert look(repo)["absent"] == {}
    assert [f["read"] for f in look(repo)["files"].values()] == [0, 0]


def test_duplicate_content_is_placed_once(repo: Path, tmp_path: Path) -> None:
    (repo / "snapshots" / COMMIT / "m.v3").symlink_to(f"../../blobs/{SHA}")
    other, part = tmp_path / "other", tmp_path / "other/.spark-serving-part" / COMMIT
    files = came(repo, part, **{"config.json": SMALL, "m.safetensors": LARGE})
    reply = ask("place", other, commit=COMMIT, ref="main", files=files, part=str(part))
    assert reply["bad"] == []
    assert (other / "snapshots" / COMMIT / "m.v3").read_bytes() == LARGE
    assert [f["read"] for f in look(other)["files"].values()] == [0, 0, 0]


def test_git_lfs_pointers_and_what_git_keeps(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / ".git/lfs/objects").mkdir(parents=True)
    (model / ".git/lfs/objects/x").write_bytes(LARGE)
    (model / "config.json").write_bytes(SMALL)
    (model / "m.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA}\nsize 5000\n"
    )
    reply = look(model, hub=False)
    assert reply["files"].keys() == {"config.json", "m.safetensors"}
    assert reply["placeholders"] == ["m.safetensors"]


@pytest.mark.parametrize("page", ["<!DOCTYPE html><title>Sign in</title>", "<html><body>403"])
def test_a_web_page_is_no_shard(tmp_path: Path, page: str) -> None:
    (tmp_path / "config.json").write_bytes(SMALL)
    (tmp_path / "README.html").write_text(page)
    (tmp_path / "a.safetensors").write_text(page)
    (tmp_path / "b.safetensors").write_bytes(LARGE)
    assert look(tmp_path, hub=False)["placeholders"] == ["a.safetensors"]
