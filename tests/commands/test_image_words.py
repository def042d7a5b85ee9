"""An image comes over a stream, whole or not at all: the script run for real by sh."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster.engine.diagnosis import docker_error
from cluster.transfer import images

IMAGE = "lmsysorg/sglang:spark"


def run(tmp_path: Path, sender: str, loader: str) -> subprocess.CompletedProcess[str]:
    """`sender` instead of ssh and what it asks for, `loader` instead of docker."""
    for name, script in (("ssh", sender), ("docker", loader)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    words = images.copy_image(IMAGE, ("ssh", "-p", "22", "me@head"), str(tmp_path), 20)
    return subprocess.run(
        words.bounded, env=environment, capture_output=True, text=True, timeout=30
    )


def test_an_image_saved_there_is_loaded_here(tmp_path: Path) -> None:
    done = run(tmp_path, 'echo "$@"', f"cat >{tmp_path}/came; echo $@ >>{tmp_path}/came")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "came").read_text() == (f"-p 22 me@head docker save {IMAGE}\nload --quiet\n")


@pytest.mark.parametrize(
    ("sender", "loader", "key"),
    [
        pytest.param(
            "head -c 9999 /dev/zero; echo Timeout, server 10.0.0.1 not responding. >&2; exit 255",
            "cat >/dev/null; echo 'Error processing tar file(status 1): unexpected EOF'; exit 1",
            "image-cut",
            id="cut",
        ),
        pytest.param("echo no >&2; exit 255", "cat >/dev/null", "", id="the sender alone fails"),
        pytest.param(
            "echo 'Error response from daemon: file integrity checksum failed for \"./usr/x\"' >&2"
            "; exit 1",
            "cat >/dev/null; echo 'open /docker-import-3/repositories: no such file'; exit 1",
            "image-corrupt",
            id="damaged where it was kept",
        ),
        pytest.param(
            "cat /dev/zero",
            "head -c 9 >/dev/null; echo 'write /x: no space left on device' >&2; exit 1",
            "disk-full",
            id="the disk is full",
        ),
    ],
)
def test_a_broken_image_copy_is_reported(
    tmp_path: Path, sender: str, loader: str, key: str
) -> None:
    done = run(tmp_path, sender, loader)
    assert done.returncode == 1
    assert done.stderr
    symptom = docker_error(done.stderr, IMAGE)
    assert (symptom.key if symptom else "") == key


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            'invalid diffID for layer 0: expected "sha256:73032ee", got "sha256:c3599ee"',
            id="load",
        ),
        pytest.param("filesystem layer verification failed for digest sha256:623c2a0a", id="pull"),
    ],
)
def test_a_damaged_layer_has_a_cure(line: str) -> None:
    symptom = docker_error(line, IMAGE)
    assert symptom
    assert symptom.key == "image-corrupt"
    assert symptom.cure.startswith(f"docker image rm -f {IMAGE} on the node")


def test_progress_is_read_while_it_comes(tmp_path: Path) -> None:
    def progress() -> str:
        words = images.copy_progress(str(tmp_path))
        return subprocess.run(
            words.bounded, capture_output=True, text=True, timeout=20
        ).stdout.strip()

    assert progress() == ""
    run(tmp_path, "head -c 5000000 /dev/zero", "cat >/dev/null")
    assert images.parse_progress(progress()) == 5_000_000
