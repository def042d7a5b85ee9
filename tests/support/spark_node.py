"""One simulated Spark from the outside: run a command, see its containers, put it back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

Completed = subprocess.CompletedProcess[str]

HF_CACHE = "/var/hf-cache"
# written all the time by the system itself
VOLATILE = (
    "var/log",
    "var/lib/systemd",
    "var/lib/containerd",
    "var/lib/private",
    "run.ready",
    "usr/lib/python3",
)
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Node:
    """Node number N of the testbed in `state`; `tb` runs the testbed's own commands."""

    number: int
    state: Path
    tb: Callable[..., Completed]
    files: dict[str, str] = field(default_factory=dict)
    passing: list[str] = field(default_factory=list)
    image: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"spark-{self.number:02d}"

    def run(self, command: str, check: bool = True, timeout: float = 60) -> Completed:
        """Run a shell command on the node as root, not over SSH."""
        done = self.tb("exec", self.number, "bash", "-c", command, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{done.stderr}")
        return done

    def docker(self, method: str, path: str) -> Any:
        """The reply of the node's Docker to one request of its API; None: it has no body.

        It saves the 20 ms of CPU time of a `docker` command. OSError where no Docker answers.
        """
        connection = HTTPConnection("docker", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.settimeout(60)
            connection.sock.connect(str(self.root / "run/docker.sock"))
            connection.request(method, path)
            reply = connection.getresponse()
            body = reply.read()
        assert reply.status < 300, f"{self.name}: {method} {path}: {reply.status} {body!r}"
        return json.loads(body) if body else None

    def containers(self) -> list[dict[str, Any]]:
        """`docker inspect` of every container, running or not, in the order of their names."""
        listed = self.docker("GET", "/containers/json?all=1")
        inspected = [self.docker("GET", f"/containers/{one['Id']}/json") for one in listed]
        return sorted(inspected, key=lambda container: str(container["Name"]))

    def logs(self, container: str) -> str:
        """What the container printed, both streams."""
        return self.run(f"docker logs {container} 2>&1").stdout

    def running(self, label: str) -> set[str]:
        """Ids of the containers that run and have this label."""
        listed = self.docker("GET", "/containers/json")
        return {one["Id"] for one in listed if label in one["Labels"]}

    def images(self) -> dict[str, str]:
        """Image id by tag; an image without one by its id."""
        listed = self.docker("GET", "/images/json")
        return {tag: one["Id"] for one in listed for tag in named(one)}

    def load(self, tar: Path) -> None:
        """`docker load` of an image's tar."""
        shutil.copy(tar, self.root / "dev/shm/image.tar")
        self.run("docker load -q -i /dev/shm/image.tar; code=$?; rm /dev/shm/image.tar; exit $code")

    def add_weights(self, model: str, **files: bytes) -> str:
        """Fake a complete download of `model` in the Hugging Face cache; its snapshot path."""
        base = f"{HF_CACHE}/hub/models--{model.replace('/', '--')}"
        snapshot = f"{base}/snapshots/{REVISION}"
        contents = {"config.json": b"{}", **INDEXED, **files}
        lines = [f"mkdir -p {snapshot} {base}/refs", f"printf {REVISION} > {base}/refs/main"]
        lines += [
            f"printf %s {_quoted(data)} > {snapshot}/{name}" for name, data in contents.items()
        ]
        self.run("\n".join([*lines, f"chown -R nvidia: {HF_CACHE}"]))
        return snapshot

    # ---- what changed, and putting it back

    def snapshot(self) -> dict[str, Any]:
        """Containers, images, and every file that differs from the node's base system."""
        try:
            containers, images, engine = self.containers(), self.images(), True
        except OSError:
            containers, images, engine = [], {}, False
        return {
            "engine": engine,
            "containers": {
                c["Id"]: (c["Name"], c["State"]["StartedAt"], c["State"]["Status"])
                for c in containers
            },
            "images": images,
            "files": self._files(),
            "passing": self._passing(),
        }

    def _passing(self) -> list[str]:
        """What lies in the memory file systems, but for systemd's own directories."""
        return [
            f"/{folder}/{name}"
            for folder in ("run", "tmp", "dev/shm")
            for name in sorted(os.listdir(self.root / folder))
            if not name.startswith((".", "systemd-private-"))
        ]

    def _files(self) -> dict[str, str]:
        """Type, mode, owner, size and time of each path in the root's writable layer."""
        layer = self.state / self.name / "disk" / "upper"
        prune = [word for path in VOLATILE for word in ("-path", f"./{path}", "-o")][:-1]
        form = "%P\\t%y%m %U %s %T@ %l\\n"
        find = ["find", ".", "(", *prune, ")", "-prune", "-o", "-mindepth", "1"]
        # a directory's size and time tell nothing that its entries do not
        find += ["(", "-type", "d", "-printf", "%P\\t%y%m %U\\n", "-o", "-printf", form, ")"]
        lines = subprocess.run(find, cwd=layer, capture_output=True, text=True, check=True).stdout
        return dict(line.split("\t", 1) for line in lines.splitlines())

    def remember(self) -> None:
        """Take the node as it is now for what `reset` goes back to."""
        self.passing, self.image = self._passing(), self.images()
        self._remember_files()

    def _remember_files(self) -> None:
        self.files = self._files()
        layer = self.state / self.name / "disk" / "upper"
        keep = ["tar", "c", "-C", str(layer), *(f"--exclude=./{path}" for path in VOLATILE), "."]
        with (self.state / self.name / "base.tar").open("wb") as tar:
            subprocess.run(keep, stdout=tar, check=True)

    def reset(self, image: Callable[[], Path]) -> None:
        """Back to what `remember` saw: no containers, the files, addresses, an open firewall."""
        self.tb("on", self.number)
        self._kill_strays()
        self.tb("net", self.number)
        with contextlib.suppress(OSError):  # its Docker may be down
            self._remove_containers()
        self._restore_files()
        self.run(RESET)
        self._remove_containers()
        self._restore_images(self.images(), image)

    def _remove_containers(self) -> None:
        for one in self.docker("GET", "/containers/json?all=1"):
            self.docker("DELETE", f"/containers/{one['Id']}?force=1")

    def _restore_images(self, now: dict[str, str], image: Callable[[], Path]) -> None:
        if now == self.image:
            return
        names = [name for name in now if name not in self.image and not name.startswith("sha256:")]
        words = [f"docker rmi -f {name}" for name in names]
        # an image under a newer one is there even where `docker images` hides it
        words += [f"docker tag {id} {name} || true" for name, id in self.image.items()]
        self.run("\n".join([*words, "docker images -qf dangling=true | xargs -r docker rmi -f"]))
        if self.images() != self.image:
            self.load(image())

    def _kill_strays(self) -> None:
        """End what tests left running by `run`: it stays in the node's outermost cgroup."""
        for pid in _processes(f"{self.state.name}-{self.name}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _restore_files(self) -> None:
        # After the containers: Docker creates the folders of their mounts anew when it starts them.
        if strays := set(self._passing()) - set(self.passing):
            self.run(f"rm -rf {' '.join(_quoted(path.encode()) for path in strays)}")
        now = self._files()
        if now == self.files:
            return
        new = [path for path in now if path not in self.files]
        hidden = [
            path for path in new if now[path].startswith("c0 ")
        ]  # removed from the base system
        # a directory of the base system that something was written to: what is in it stays
        folders = [path for path in new if now[path].startswith("d") and Path("/", path).is_dir()]
        rest = [path for path in new if path not in {*hidden, *folders}]
        gone = [f"rm -rf {_quoted(('/' + path).encode())}" for path in rest]
        if gone:
            self.run("\n".join(gone))
        changed = [f"./{path}" for path, what in self.files.items() if now.get(path) != what]
        self._unpack(self.state / self.name / "base.tar", changed)
        for path in hidden:
            subprocess.run(["cp", "-a", f"/{path}", f"{self.root}/{path}"], check=True)
        for unit, folder in (("ssh", "etc/ssh/"), ("docker", "etc/docker/")):
            if any(path.startswith(folder) for path in {*new, *(c[2:] for c in changed)}):
                self.restart(unit)
        self._remember_files()

    def restart(self, unit: str) -> None:
        """Restart a unit, however often that was done lately."""
        self.run(f"systemctl reset-failed {unit}; systemctl restart {unit}")

    def _unpack(self, tar: Path, paths: list[str]) -> None:
        if paths:
            words = ["tar", "x", "--no-recursion", "-f", str(tar), "-C", str(self.root), *paths]
            subprocess.run(words, check=True)

    @property
    def root(self) -> Path:
        """The node's / as this machine can reach it."""
        pid = (self.state / self.name / "pid1").read_text().strip()
        return Path(f"/proc/{pid}/root")


INDEXED = {
    "model.safetensors.index.json": b'{"metadata": {"total_size": 4}, "weight_map": '
    b'{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}',
    "model-00001-of-00002.safetensors": b"aa",
    "model-00002-of-00002.safetensors": b"bb",
}

RESET = """
systemctl is-active -q docker || { systemctl reset-failed docker; systemctl restart docker; }
iptables -P INPUT ACCEPT; iptables -F INPUT; iptables -F OUTPUT
chown nvidia: /var/hf-cache
"""


def named(image: dict[str, Any]) -> list[str]:
    """The tags of one of Docker's images; of one without a tag, its id."""
    return [tag for tag in image["RepoTags"] or () if "<none>" not in tag] or [image["Id"]]


def _quoted(data: bytes) -> str:
    return "'" + data.decode().replace("'", "'\\''") + "'"


def _processes(group: str) -> list[int]:
    """Processes in the node's outermost cgroup itself (systemd's own are all in deeper ones)."""
    candidates = (f"/sys/fs/cgroup/systemd/{group}", f"/sys/fs/cgroup/{group}/init")
    for path in map(Path, candidates):
        if path.is_dir():
            return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    return []
