"""The way's scripts, run for real by sh: what a key may do, and what stays of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from cluster.command import Command
from cluster.transfer import tunnel

KEYS = [
    tunnel.Key("/dev/shm/a", "169.254.2.1", "ssh-ed25519 AAAAa"),
    tunnel.Key("/dev/shm/b", "169.254.3.1", "ssh-ed25519 AAAAb"),
]


def run(command: Command, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        command.bounded,
        input=command.stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def admit(home: Path, name: str = "0a1b") -> None:
    run(tunnel.admit_keys(KEYS, name, 600), home)


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


def test_the_ssh_folder_is_restored_byte_for_byte(home: Path) -> None:
    before = tree(home)
    admit(home)
    content = keys_of(home).read_bytes()
    assert content.startswith(before.get(".ssh/authorized_keys", (0, b""))[1])
    assert content.count(tunnel.MARKER.encode()) == len(KEYS)
    run(tunnel.clear_keys(), home)
    assert tree(home) == before


def test_a_new_tunnel_removes_the_keys_of_a_killed_one(home: Path) -> None:
    before = tree(home)
    admit(home, "0a")
    admit(home, "0b")
    assert b"-0a." not in keys_of(home).read_bytes()
    run(tunnel.survey_source(), home)
    assert tree(home) == before


def test_a_key_line_added_meanwhile_stays(tmp_path: Path) -> None:
    admit(tmp_path)
    with keys_of(tmp_path).open("a") as keys:
        keys.write("ssh-ed25519 BBBB new\n")
    run(tunnel.clear_keys(), tmp_path)
    assert keys_of(tmp_path).read_text() == "ssh-ed25519 BBBB new\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "elsewhere").write_text("mine\n")
    keys_of(tmp_path).symlink_to("../elsewhere")
    admit(tmp_path)
    assert keys_of(tmp_path).is_symlink()
    assert tunnel.MARKER in (tmp_path / "elsewhere").read_text()
    run(tunnel.clear_keys(), tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "mine\n"


def test_a_key_is_restricted(tmp_path: Path) -> None:
    admit(tmp_path)
    line, other = keys_of(tmp_path).read_text().splitlines()
    assert line.startswith('restrict,from="169.254.2.1",expiry-time="2')
    assert 'command="exec timeout --kill-after=5 600 sh -c ' in line
    assert line.endswith('carry - -" ssh-ed25519 AAAAa spark-serving-carry-0a1b.folder')
    assert 'from="169.254.3.1"' in other
    assert keys_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert keys_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700


IMAGE = "registry:5443/a/b@sha256:0123abc"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in the hub's cache, beside what nobody may read."""
    home = tmp_path / "the login's home"
    folder = home / "hub/models--a--b"
    at = folder / "snapshots" / ("c" * 40)
    for file, content in (
        (home / ".ssh/id_ed25519", b"private"),
        (home / "token", b"hf_planted"),
        (home / "hub/models--a--b-2/config.json", b"another model"),
        (folder / "blobs" / ("a" * 64), b"0123456789"),
        (at / "plain file *.txt", b"plain"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (at / "m.safetensors").symlink_to(f"../../blobs/{'a' * 64}")
    (at / "leaves.json").symlink_to(home / "token")
    (at / "folder").symlink_to(home / ".ssh")
    (home / "linked").symlink_to(folder)
    return folder


def run_forced(
    command: str, stdin: str = "", *, home: Path, folder: Path | str = "", image: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """As sshd runs a line of authorized_keys; docker only prints its arguments."""
    tools = home / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "docker").write_text('#!/bin/sh\necho docker "$@"\n')
    (tools / "docker").chmod(0o755)
    run(tunnel.admit_keys(KEYS, "0a1b", 600, folder=str(folder), image=image), home)
    line = keys_of(home).read_text().splitlines()[0]
    forced = re.search(r'command="((?:[^"\\]|\\")*)"', line)
    assert forced
    return subprocess.run(
        ["bash", "-c", forced[1].replace('\\"', '"')],
        env={"PATH": f"{tools}:{os.environ['PATH']}", "SSH_ORIGINAL_COMMAND": command},
        **{"input": stdin.encode(), "cwd": home, "capture_output": True, "timeout": 20},
    )


SNAPSHOT = f"snapshots/{'c' * 40}"


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        pytest.param(f"0/10/{SNAPSHOT}/m.safetensors", b"0123456789", id="a link to its blob"),
        pytest.param(f"7/10/{SNAPSHOT}/m.safetensors", b"789", id="the rest"),
        pytest.param(f"10/10/{SNAPSHOT}/m.safetensors", b"", id="nothing more"),
        pytest.param(f"0/-/{SNAPSHOT}/plain file *.txt", b"plain", id="whatever its size"),
        pytest.param(f"0/10/blobs/{'a' * 64}\n3/5/{SNAPSHOT}/plain file *.txt",
                     b"0123456789in", id="two"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("linked", [False, True], ids=["the folder", "a link to it"])
def test_a_key_reads_files_of_the_model(
    tmp_path: Path, model: Path, wanted: str, content: bytes, linked: bool
) -> None:
    folder = model.parents[1] / "linked" if linked else model
    done = run_forced("send", f"{wanted}\n", home=tmp_path, folder=folder)
    assert (done.returncode, done.stdout) == (0, content), done.stderr


def test_a_lone_file_is_all_that_its_key_reads(tmp_path: Path, model: Path) -> None:
    file = model / SNAPSHOT / "plain file *.txt"
    for name in ("-", "x", "a/b"):
        done = run_forced("send", f"0/5/{name}\n", home=tmp_path, folder=file)
        assert (done.returncode, done.stdout) == (0, b"plain"), done.stderr


@pytest.mark.parametrize(
    "wanted",
    [
        *("../../token", "../models--a--b-2/config.json", "blobs/../../../token", ".."),
        *("/etc/passwd", f"{SNAPSHOT}/leaves.json", f"{SNAPSHOT}/folder/id_ed25519"),
        *(f"{SNAPSHOT}/folder", "blobs", "", "$(cat ../../token)", "`id`", "*", "no/such"),
    ],
)
def test_a_key_cannot_read_other_files(tmp_path: Path, model: Path, wanted: str) -> None:
    done = run_forced("send", f"0/-/{wanted}\n", home=tmp_path, folder=model)
    assert done.returncode != 0
    assert done.stdout == b""
    assert not [secret for secret in (b"planted", b"private") if secret in done.stderr]


@pytest.mark.parametrize("line", ["x/5/a", "-1/5/a", "0 5 a", "0/9/blobs/" + "a" * 64, "$(id)//a"])
def test_an_invalid_file_request_is_refused(tmp_path: Path, model: Path, line: str) -> None:
    done = run_forced("send", f"{line}\n", home=tmp_path, folder=model)
    assert (done.returncode != 0, done.stdout) == (True, b"")


def test_an_image_is_all_that_its_key_saves(tmp_path: Path, model: Path) -> None:
    done = run_forced(f"docker save {IMAGE}", home=tmp_path, image=IMAGE)
    assert done.stdout == f"docker save -- {IMAGE}\n".encode()
    assert run_forced("send", "0/-/etc/passwd\n", home=tmp_path, image=IMAGE).returncode == 126


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("", id="a shell"),
        pytest.param("id", id="another command"),
        pytest.param("send /etc", id="a folder of one's own"),
        pytest.param("rsync --server -logDtpre.iLsfxCIvu . /home", id="rsync that writes"),
        pytest.param("rsync --server --sender -logDtpre.iLsfxCIvu . /", id="rsync that reads"),
        pytest.param("docker save other", id="another image"),
        pytest.param(f"docker save {IMAGE} other", id="one more image"),
        pytest.param(f"docker save {IMAGE}x", id="an image that begins like it"),
        pytest.param(f"docker save -o made {IMAGE}", id="save to a file"),
        pytest.param(f"docker save {IMAGE}; touch made", id="semicolon"),
        pytest.param(f"docker save {IMAGE}\ntouch made", id="newline"),
        pytest.param(f"docker save {IMAGE} | sh", id="pipe"),
        pytest.param("docker save *", id="a pattern"),
        pytest.param("docker save -", id="the word for none"),
        pytest.param("docker run a", id="docker"),
        pytest.param("sftp-server", id="sftp"),
        pytest.param("scp -f /etc/passwd", id="scp"),
    ],
)
def test_a_key_cannot_run_other_commands(tmp_path: Path, model: Path, command: str) -> None:
    done = run_forced(command, home=tmp_path, folder=model, image=IMAGE)
    assert (done.returncode, done.stdout) == (126, b""), done.stdout
    assert b"this key only sends files and images" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("command", ["send", "docker save -", "docker save "])
def test_a_key_that_was_granted_nothing_reads_nothing(tmp_path: Path, command: str) -> None:
    done = run_forced(command, "0/-/etc/passwd\n", home=tmp_path)
    assert (done.returncode, done.stdout) == (126, b"")


def test_a_tunnel_can_be_tried(tmp_path: Path) -> None:
    assert run_forced("true", home=tmp_path).returncode == 0


def test_the_dispatcher_fits_into_authorized_keys() -> None:
    assert not set(tunnel.DISPATCHER) & set("'\\\n")


def test_the_source_reports_its_login(tmp_path: Path) -> None:
    lines = run(tunnel.survey_source(), tmp_path).splitlines()
    assert lines[0].startswith("user ")
    assert not (tmp_path / ".ssh").exists()


def test_a_key_is_made_in_memory_and_replaces_the_older_one(tmp_path: Path) -> None:
    first, second = (
        tunnel.parse_key(run(tunnel.make_key("127.0.0.1"), tmp_path).splitlines()) for _ in "ab"
    )
    assert first and second
    try:
        assert second.address == "127.0.0.1"
        assert second.public.startswith("ssh-ed25519 ")
        assert Path(second.folder).stat().st_mode & 0o777 == 0o700
        assert not Path(first.folder).exists()
    finally:
        run(tunnel.drop_key(second), tmp_path)
    assert not Path(second.folder).exists()
