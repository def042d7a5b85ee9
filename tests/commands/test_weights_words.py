"""Files are placed whole or not at all: the scripts run for real by sh."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from cluster.transfer import weights
from cluster.transfer.weights import (
    TIKTOKEN,
    copy_vocabulary,
    hub_folder,
    place_vocabulary,
)

CONTENT = b"\x00o200k\n" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


def put(
    folder: Path | str, sha: str = SHA, stdin: bytes = CONTENT, url: str = "", home: str = ""
) -> subprocess.CompletedProcess[bytes]:
    content = base64.b64encode(stdin).decode()
    command = place_vocabulary(str(folder), "o200k_base.tiktoken", sha, url=url, content=content)
    environment = {**os.environ, **({"HOME": home} if home else {})}
    return subprocess.run(
        command.bounded,
        input=command.stdin.encode(),
        env=environment,
        capture_output=True,
        timeout=20,
    )


def test_a_file_is_placed_readable(tmp_path: Path) -> None:
    folder = tmp_path / "it's new/deep"
    assert put(folder).returncode == 0
    placed = folder / "o200k_base.tiktoken"
    assert placed.read_bytes() == CONTENT
    assert placed.stat().st_mode & 0o777 == 0o644
    assert os.listdir(folder) == [placed.name]


def test_from_a_url(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    assert put(tmp_path / "at", url=f"file://{source}").returncode == 0
    assert (tmp_path / "at/o200k_base.tiktoken").read_bytes() == CONTENT


def test_a_damaged_file_from_the_head_is_never_placed(tmp_path: Path) -> None:
    done = put(tmp_path, stdin=CONTENT[:100])
    assert done.returncode != 0
    assert f"expected {SHA}" in done.stderr.decode()
    assert os.listdir(tmp_path) == []


def test_a_whole_file_survives_a_failed_replacement(tmp_path: Path) -> None:
    put(tmp_path)
    assert put(tmp_path, stdin=b"half").returncode != 0
    assert (tmp_path / "o200k_base.tiktoken").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["o200k_base.tiktoken"]


def test_a_half_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "o200k_base.tiktoken").write_bytes(CONTENT[:10])
    assert put(tmp_path).returncode == 0
    assert (tmp_path / "o200k_base.tiktoken").read_bytes() == CONTENT


@pytest.mark.parametrize(("sha", "code"), [(SHA, 0), ("0" * 64, 1)], ids=["right", "damaged"])
def test_from_another_node(tmp_path: Path, sha: str, code: int) -> None:
    """A stand-in for ssh, which sends what the source would."""
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    ssh = ("sh", "-c", 'cat >"$1" && [ "$3" = send ] && cat "$2"', "sh", str(tmp_path / "asked"))
    words = copy_vocabulary(str(tmp_path / "at"), "o200k_base.tiktoken", sha, (*ssh, str(content)))
    done = subprocess.run(words.bounded, capture_output=True, timeout=20)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "asked").read_text() == "0/-/o200k_base.tiktoken\n"
    assert os.listdir(tmp_path / "at") == (["o200k_base.tiktoken"] if code == 0 else [])


def test_a_url_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    assert put(tmp_path / "at", url=f"file://{tmp_path}/gone").returncode != 0
    assert os.listdir(tmp_path / "at") == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert put(tmp_path / "file/below").returncode != 0


def test_the_hashes_are_sha256() -> None:
    assert set(TIKTOKEN) == {"o200k_base.tiktoken", "cl100k_base.tiktoken"}
    assert all(len(bytes.fromhex(sha)) == 32 for sha in TIKTOKEN.values())


@pytest.mark.parametrize(
    ("cache", "folder"),
    [
        ("/raid/hf", "/raid/hf/hub/models--openai--gpt-oss-120b"),
        ("/raid/hf/", "/raid/hf/hub/models--openai--gpt-oss-120b"),
    ],
)
def test_the_hub_clients_model_folder(cache: str, folder: str) -> None:
    assert hub_folder(cache, "openai/gpt-oss-120b") == folder


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A fake docker: runs a container's shell here, with /at being the mounted folder. It starts no
    detached container, but exits with $DETACHED."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(
        """#!/bin/sh
echo "$@" >>"$SEEN"
case "$*" in (*--detach*) exit "$DETACHED";; esac
while [ "$1" != --volume ]; do shift; done
at=${2%:/at}; mkdir -p "$at"; shift 4
script=$(printf %s "$1" | sed "s|/at|$at|g"); name=$3
exec sh -c "$script" sh "$name"
"""
    )
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize("code", [0, 125], ids=["started", "not started"])
def test_the_token_travels_by_stdin_into_a_closed_folder(
    tmp_path: Path, docker: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder, log = tmp_path / "secrets", tmp_path / "seen"
    monkeypatch.setattr(weights, "TOKEN_FOLDER", str(folder))
    start = weights.start_download(
        "sglang", "org/name", "/raid/hf", "sgl:1", "pass", "{}", fetch=True, token=True
    )
    environment = {
        **os.environ,
        "PATH": f"{docker}:{os.environ['PATH']}",
        "SEEN": str(log),
        "DETACHED": str(code),
    }
    done = subprocess.run(start.bounded, input=b"hf_sesame\n{}\n", env=environment, timeout=20)
    assert done.returncode == code
    assert folder.stat().st_mode & 0o777 == 0o700
    if code:
        assert os.listdir(folder) == []
    else:
        assert (folder / "hf_token").read_text() == "hf_sesame"
        assert (folder / "hf_token").stat().st_mode & 0o777 == 0o600
    placing, starting = log.read_text().splitlines()[:2]
    assert "sesame" not in log.read_text()
    assert "--rm" in placing and "--network none" in placing and "--detach" in starting


@pytest.mark.parametrize("file", ["", "hf_token", "hf_token.part"])
def test_a_token_is_deleted_by_a_container_and_no_container_starts_without_one(
    tmp_path: Path, docker: Path, file: str
) -> None:
    folder, log = tmp_path / "secrets", tmp_path / "seen"
    log.touch()
    delete = weights.delete_token(str(folder), "hf_token", "sgl:1")
    environment = {**os.environ, "PATH": f"{docker}:{os.environ['PATH']}", "SEEN": str(log)}

    def run() -> int:
        done = subprocess.run(delete.bounded, env=environment, timeout=20)
        assert done.returncode == 0
        return len(log.read_text().splitlines())

    assert run() == 0
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    if file:
        (folder / file).write_text("hf_sesame")
    assert run() == (1 if file else 0)
    assert os.listdir(folder) == []
    assert run() == (1 if file else 0), "the folder is open: the next run sees that it is empty"


def test_what_the_login_cannot_look_into_is_left_to_a_container(
    tmp_path: Path, docker: Path
) -> None:
    """A file stands in for a folder that is closed: root may look into every folder."""
    folder, log = tmp_path / "secrets", tmp_path / "seen"
    folder.touch(mode=0o600)
    delete = weights.delete_token(str(folder), "hf_token", "sgl:1")
    environment = {**os.environ, "PATH": f"{docker}:{os.environ['PATH']}", "SEEN": str(log)}
    subprocess.run(delete.bounded, env=environment, capture_output=True, timeout=20)
    assert "--network none" in log.read_text()
