"""Two planted secrets, a Hugging Face token and an API key, and everywhere they must not be."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deploying import DATA, HEAD, WORKER, Deploy, combined_output
from sparks import Cluster

TOKEN, KEY = "hf_planted0secret0token", "sk-planted0secret0key"
PLANTED = (TOKEN, KEY)
KEY_FILE = "/var/lib/spark-serving/sglang/api_key"
# On tmpfs, as long as a download lasts.
TOKEN_FOLDER = "/run/spark-serving/download"
LOUD = ("-vvv", "--debug")
LOOKS = (("--dry", "--diff", *LOUD), ("--debug-operations",), ("--debug-facts",))
# A process becomes another program soon or hardly ever: after so many looks it is read again at one
# look of so many.
YOUNG = 25
PROGRAMS = ("deploys/listing.py", "deploys/verify.py", "deploys/check.py", "debug-inventory")


@pytest.fixture
def planted(deploy: Deploy, tmp_path: Path) -> Deploy:
    """An inventory that names both secrets' files, and a group that is not there yet."""
    files = {"hf_token_file": TOKEN, "api_key_file": KEY}
    for name, secret in files.items():
        (tmp_path / name).write_text(f"{secret}\n")
        (tmp_path / name).chmod(0o600)
    data = {**DATA, **{name: str(tmp_path / name) for name in files}}
    deploy.cluster.forks = False
    return Deploy(deploy.cluster, deploy.cluster.inventory(tmp_path, **data))


def holds(text: str) -> list[str]:
    """The secrets in a text."""
    return [secret for secret in PLANTED if secret in text]


class Processes:
    """Arguments and environments of all processes of this machine, which are the controller's and
    every node's; taken over and over."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._over = threading.Event()

    def look(self) -> None:
        arguments, looks = dict[str, tuple[int, str | None]](), 0
        while not self._over.wait(0.02):
            looks += 1
            pids = [pid for pid in os.listdir("/proc") if pid.isdecimal()]
            arguments = {pid: arguments[pid] for pid in pids if pid in arguments}
            for pid in pids:
                first, known = arguments.get(pid, (looks, None))
                if looks - first > YOUNG and (looks + int(pid)) % YOUNG:
                    continue
                words = _read(Path("/proc", pid, "cmdline"))
                if words != known:  # a new process, or another program
                    arguments[pid] = looks, words
                    self.texts.update((words, _read(Path("/proc", pid, "environ"))))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """As long as the context lasts."""
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def show(self, words: str) -> bool:
        return any(words in text for text in self.texts)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:  # it has ended
        return ""


def docker_inspects(cluster: Cluster) -> Iterator[str]:
    """Containers with their labels, events, the journal, every rank's log."""
    for node in cluster.nodes.values():
        yield str(node.containers())
        yield node.run("docker events --since 10m --until 0s").stdout
        yield node.run("journalctl --no-pager -q", check=False).stdout
    yield cluster.node(1).logs(HEAD)
    yield cluster.node(2).logs(WORKER)


def files_with(cluster: Cluster, secret: str) -> list[tuple[int, str]]:
    """(node, path) of every file with it: on disk, Docker's own included, and in memory."""
    places = []
    for number, node in cluster.nodes.items():
        layer = cluster.state / node.name / "disk"
        paths = [line.removeprefix(str(layer)) for line in grep(secret, layer)]
        memory = node.run(f"grep -rlF {secret} /run /tmp /dev/shm", check=False).stdout
        places += [(number, path) for path in (*paths, *memory.split())]
    return places


def grep(secret: str, *folders: Path) -> list[str]:
    words = ["grep", "-rlF", secret, *map(str, folders)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()


def test_planted_secrets_appear_nowhere_else(planted: Deploy, tmp_path: Path) -> None:
    cluster, processes, outputs = planted.cluster, Processes(), list[str]()
    with processes.watched():
        outputs += [planted.succeeds(*words) for words in LOOKS]
        outputs.append(planted.succeeds(*LOUD))
        outputs += [planted.succeeds(program=program) for program in PROGRAMS]
        outputs.append(planted.succeeds("--json"))
        outputs += benchmarked(cluster, planted.inventory, tmp_path / "result.json")
    assert cluster.http("/v1/models").status == 401
    assert cluster.http("/v1/models", key=KEY).status == 200

    assert processes.show("sglang.launch_server --model-path")
    assert processes.show("curl -s --noproxy")
    assert not [text for text in processes.texts if holds(text)]
    assert not [text for text in outputs if holds(text)]
    docker = list(docker_inspects(cluster))
    assert all(any(words in text for text in docker) for words in ("sglang.launch", "STUB engine"))
    assert not [text for text in docker if holds(text)]
    logs = [path for _, path in files_with(cluster, "STUB engine") if path.endswith("-json.log")]
    assert logs, "the search sees Docker's own files"
    assert files_with(cluster, TOKEN) == []
    ((number, path),) = files_with(cluster, KEY)
    assert (number, path.endswith(KEY_FILE)) == (1, True)
    assert cluster.node(1).run(f"stat -c '%a %U' {KEY_FILE}").stdout == "600 root\n"
    for name, secret in (("hf_token_file", TOKEN), ("api_key_file", KEY)):
        assert grep(secret, tmp_path, cluster.state / "home") == [str(tmp_path / name)]


def benchmarked(cluster: Cluster, inventory: Path, file: Path) -> Iterator[str]:
    """What spark-bench says and writes: it finds the key's file by the inventory."""
    page = file.with_suffix(".html")
    for words in (
        ("run", "quick", "-n", 2, "-o", 4, "--inventory", inventory, "--output", file),
        ("report", file, "--output", page),
    ):
        done = cluster.ctl(sys.executable, "-m", "spark_bench", *words, timeout=90)
        assert done.returncode == 0, combined_output(done)
        yield combined_output(done)
    yield file.read_text()
    yield page.read_text()


def test_only_the_download_gets_a_token(planted: Deploy) -> None:
    """The image here has no client of the hub's: the download fails once it has the token."""
    cluster, processes = planted.cluster, Processes()
    with processes.watched():
        done = planted(*LOUD, model="llama8b", revision="main")
    assert done.returncode == 1, combined_output(done)
    assert processes.show(TOKEN_FOLDER), "the token's folder was given to a container"
    assert not [text for text in processes.texts if holds(text)]
    assert not holds(combined_output(done))
    for node in cluster.nodes.values():
        assert not holds(str(node.containers()))
        assert not holds(node.run("docker events --since 10m --until 0s").stdout)
        assert not holds(node.run("journalctl --no-pager -q", check=False).stdout)
    assert files_with(cluster, TOKEN) == []


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        pytest.param("600", "", id="0600"),
        pytest.param("644", "can be read by others", id="read by others"),
    ],
)
def test_a_token_file(deploy: Deploy, mode: str, words: str) -> None:
    path = deploy.inventory.parent / "token"
    path.write_text(TOKEN)
    path.chmod(int(mode, 8))
    settings: dict[str, Any] = {"model": "llama8b", "hf_token_file": str(path)}
    if words:
        assert words in deploy.refused(**settings)
    else:
        assert "plan: spark-01" in deploy.succeeds("--dry", **settings)
