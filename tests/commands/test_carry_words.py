"""The way's scripts, run for real by sh: what a key may do, and what stays of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster import carry

KEYS = [
    carry.Key("/dev/shm/a", "169.254.2.1", "ssh-ed25519 AAAAa"),
    carry.Key("/dev/shm/b", "169.254.3.1", "ssh-ed25519 AAAAb"),
]
OFFERED = carry.offered(KEYS)
SHORT = ("-vlogDtpre.iLsfxCIvu", "--numeric-ids", "--inplace", ".", "/raid/hub/models--a--b/")


def run(words: tuple[str, ...], home: Path, stdin: str = "") -> str:
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        words, input=stdin, env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def admit(home: Path, name: str = "0a1b") -> None:
    run(carry.admit(name, 600), home, OFFERED)


def tree(home: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below, with its mode and content."""
    return {
        str(path.relative_to(home)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in home.rglob("*")
    }


def keys_of(home: Path) -> Path:
    return home / ".ssh/authorized_keys"


@pytest.fixture(
    params=[
        pytest.param(None, id="no .ssh"),
        pytest.param("", id="no file"),
        pytest.param(b"", id="an empty file"),
        pytest.param(b"ssh-ed25519 AAAA me@home\n\n# end\n", id="keys"),
        pytest.param(b"ssh-ed25519 AAAA me@home\n\xff spark", id="keys without a last newline"),
    ]
)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A login's home, with what its owner keeps in ~/.ssh."""
    if request.param is not None:
        (tmp_path / ".ssh").mkdir(0o700)
    if isinstance(request.param, bytes):
        keys_of(tmp_path).write_bytes(request.param)
        keys_of(tmp_path).chmod(0o640)
    return tmp_path


def test_what_was_there_comes_back_byte_for_byte(home: Path) -> None:
    before = tree(home)
    admit(home)
    content = keys_of(home).read_bytes()
    assert content.startswith(before.get(".ssh/authorized_keys", (0, b""))[1])
    assert content.count(carry.MARKER.encode()) == len(KEYS)
    run(carry.clear(), home)
    assert tree(home) == before


def test_a_new_way_takes_the_keys_of_a_killed_one_away(home: Path) -> None:
    before = tree(home)
    admit(home, "0a")
    admit(home, "0b")
    assert b"-0a." not in keys_of(home).read_bytes()
    run(carry.survey(), home)
    assert tree(home) == before


def test_a_line_that_came_meanwhile_stays(tmp_path: Path) -> None:
    admit(tmp_path)
    with keys_of(tmp_path).open("a") as keys:
        keys.write("ssh-ed25519 BBBB new\n")
    run(carry.clear(), tmp_path)
    assert keys_of(tmp_path).read_text() == "ssh-ed25519 BBBB new\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "elsewhere").write_text("mine\n")
    keys_of(tmp_path).symlink_to("../elsewhere")
    admit(tmp_path)
    assert keys_of(tmp_path).is_symlink()
    assert carry.MARKER in (tmp_path / "elsewhere").read_text()
    run(carry.clear(), tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "mine\n"


def test_a_key_is_bound(tmp_path: Path) -> None:
    admit(tmp_path)
    line, other = keys_of(tmp_path).read_text().splitlines()
    assert line.startswith('restrict,from="169.254.2.1",expiry-time="2')
    assert line.endswith('carry 600" ssh-ed25519 AAAAa spark-serving-carry-0a1b.folder')
    assert 'from="169.254.3.1"' in other
    assert keys_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert keys_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def asked(command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """As sshd runs the forced command; rsync and docker only tell their words."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("rsync", "docker"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tools / name).chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SSH_ORIGINAL_COMMAND": command,
    }
    words = ["bash", "-c", f"exec sh -c '{carry.DISPATCHER}' carry 20"]
    return subprocess.run(
        words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(" ".join(("rsync --server --sender", *SHORT)), id="rsync"),
        pytest.param(
            "rsync --server --sender -logDtpre.iLsfxCIvu --files-from=- --from0 . /raid", id="list"
        ),
        pytest.param("docker save lmsysorg/sglang:spark", id="image"),
        pytest.param("docker save registry:5443/a/b@sha256:0123abc", id="digest"),
    ],
)
def test_what_a_key_may_ask_for(tmp_path: Path, command: str) -> None:
    done = asked(command, tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{command}\n"), done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("", id="a shell"),
        pytest.param("id", id="another command"),
        pytest.param("rsync --server -logDtpre.iLsfxCIvu . /home", id="rsync that writes"),
        pytest.param("rsync --server --sender -s", id="options to come"),
        pytest.param("rsync --server --sender -logse.iLsf . /", id="options to come, among others"),
        pytest.param("rsync --server --sender -e.L --log-file=/home/x . /", id="a log file"),
        pytest.param("rsync --server --sender -e.L --remove-source-files . /", id="removal"),
        pytest.param("rsync --server --sender -e.L . /x; touch made", id="semicolon"),
        pytest.param("rsync --server --sender -e.L . $(touch${IFS}made)", id="substitution"),
        pytest.param("docker save a\ntouch made", id="newline"),
        pytest.param("docker save -o made lmsysorg/sglang:spark", id="save to a file"),
        pytest.param("docker save a --output=made", id="save to a file, later"),
        pytest.param("docker run a", id="docker"),
        pytest.param("docker save a | sh", id="pipe"),
        pytest.param("docker save * `id`", id="patterns"),
    ],
)
def test_what_a_key_may_not_ask_for(tmp_path: Path, command: str) -> None:
    done = asked(command, tmp_path)
    assert done.returncode == 126
    assert "this key only sends files and images" in done.stderr
    assert not (tmp_path / "made").exists()


def test_the_dispatcher_fits_into_authorized_keys() -> None:
    assert not set(carry.DISPATCHER) & set("'\"\n")


def test_the_source_tells_its_login(tmp_path: Path) -> None:
    found = run(carry.survey(), tmp_path).splitlines()
    assert found[0].startswith("user ")
    assert not (tmp_path / ".ssh").exists()


def test_a_key_is_made_in_memory_and_replaces_the_older_one(tmp_path: Path) -> None:
    first, second = (
        carry.key(run(carry.make_key("127.0.0.1"), tmp_path).splitlines()) for _ in "ab"
    )
    assert first and second
    try:
        assert second.address == "127.0.0.1"
        assert second.public.startswith("ssh-ed25519 ")
        assert Path(second.folder).stat().st_mode & 0o777 == 0o700
        assert not Path(first.folder).exists()
    finally:
        run(carry.drop(second), tmp_path)
    assert not Path(second.folder).exists()
