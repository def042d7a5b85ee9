"""The simulated cluster as tests see it: its nodes, its controller, pyinfra run from there.

cluster.pyinfra("deploy.py", inventory=cluster.inventory(tmp_path))
cluster.node(1).containers()
cluster.http("/v1/models")
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import testbed_image
from local_hub import Hub
from pyinfra_runs import run_pyinfra
from spark_node import HF_CACHE, Node

HERE = Path(__file__).parents[1] / "cluster"
ROOT = HERE.parents[1]
TESTBED = HERE / "testbed"
PYINFRA = Path(sys.executable).with_name("pyinfra")
IMAGE = "lmsysorg/sglang:spark"
# Which engine the nodes have (SPARK_DOCKER), and what its daemon.json says of the image store:
# without one it is this machine's Docker, else Docker 28 from testbed/docker28.
ENGINE = os.environ.get("SPARK_DOCKER", "")
DOCKER_28 = ROOT / ".cache" / "docker28"
STORES: dict[str, dict[str, object]] = {
    "28": {},
    "28-containerd": {"features": {"containerd-snapshotter": True}},
}

Completed = subprocess.CompletedProcess[str]


IMAGE_FOLDER = "/var/lib/containerd" if STORES.get(ENGINE) else "/var/lib/docker"
LAYER = {"TB_LAYER": str(DOCKER_28)} if ENGINE else {}


@dataclass(frozen=True)
class Answer:
    """What a server answered: status 0 where nothing listens or nothing came in time."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Cluster:
    """A running testbed. Addresses: node N is 198.18.0.N (management) and 169.254.N.1 (fabric).

    + state: the testbed's own directory (TB_STATE); namespaces and cgroups carry its name
    + undo: `tb` commands that put back what a test did to links and nodes
    + forks: whether a run of pyinfra may be a fork: what /proc shows of its arguments and
      environment is not the run's
    + changed: whether a test may have left anything since it was reset and served the usual model
    + usual: the snapshot after the last deploy of the usual model
    """

    state: Path
    nodes: dict[int, Node] = field(default_factory=dict)
    undo: list[tuple[str, ...]] = field(default_factory=list)
    registry_touched: bool = False
    forks: bool = True
    changed: bool = True
    usual: dict[str, Any] = field(default_factory=dict)

    # ---- the testbed itself

    def tb(self, *words: object, timeout: float = 120, check: bool = True) -> Completed:
        """Run a command of `testbed/tb`, e.g. tb("rate", 1, "q1a", "100mbit")."""
        return self._script("tb", *words, timeout=timeout, check=check)

    def registry(self, *words: object) -> Completed:
        """Run a command of `testbed/registry`: "up", "down", or "slow", RATE (until `reset`)."""
        self.registry_touched = words != ("up",)
        return self._script("registry", *words, timeout=30, check=True)

    def _script(self, name: str, *words: object, timeout: float, check: bool) -> Completed:
        done = run(
            [str(TESTBED / name), *map(str, words)],
            env={**os.environ, "TB_STATE": str(self.state), **LAYER},
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{name} {words}: exit {done.returncode}\n{done.stderr}")
        return done

    def start(self, count: int) -> None:
        """Bring up the fabric, the registry and nodes 1 … count, all with the image."""
        self.tb("fabric")
        if ENGINE:
            runtimes = {"nvidia": {"path": "/usr/local/sbin/runc"}}
            daemon = {"log-level": "warn", "runtimes": runtimes, **STORES[ENGINE]}
            (self.state / "daemon.json").write_text(json.dumps(daemon))
        self.registry("up")
        self.need(count)
        self.node(1).run(f"docker push -q {IMAGE}")

    def need(self, count: int) -> None:
        """Have at least nodes 1 … count, until `keep`."""
        new = [i for i in range(1, count + 1) if i not in self.nodes]
        if not new:
            return
        self.tb("up", count)
        for i in new:
            self.nodes[i] = Node(i, self.state, self.tb)
        self.each(self._furnish, [self.nodes[i] for i in new])

    def _furnish(self, node: Node) -> None:
        node.run(f"install -d -o nvidia -g nvidia {HF_CACHE}")
        node.load(testbed_image.tar())
        node.remember()

    def keep(self, count: int) -> None:
        """Take away the nodes after `count`: each costs every later test a little."""
        for number in [n for n in self.nodes if n > count]:
            self.tb("rm", number)
            del self.nodes[number]

    def stop(self) -> None:
        """Take everything down: processes, mounts, links, cgroups, files."""
        self.tb("down", check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    # ---- nodes, links, power

    def node(self, number: int) -> Node:
        return self.nodes[number]

    def each(self, do: Any, nodes: list[Node] | None = None) -> list[Any]:
        """do(node) for every node, at the same time."""
        chosen = list(self.nodes.values()) if nodes is None else nodes
        with ThreadPoolExecutor(len(chosen) or 1) as pool:
            return list(pool.map(do, chosen))

    def link(self, number: int, port: str, state: str) -> None:
        """Cable of node's port "m" (management), "q1" (both halves), "q1a", "q1b": "up", "down"."""
        self.tb("link", number, port, state)
        if state != "up":
            self.undo.append(("link", str(number), port, "up"))

    def off(self, number: int) -> None:
        """Pull the node's plug: everything on it dies at once, its disk stays."""
        self.tb("off", number)
        self.undo.append(("on", str(number)))

    def on(self, number: int) -> None:
        self.tb("on", number)

    def hang(self, number: int) -> None:
        """Freeze every process of the node; its addresses still answer pings."""
        self.tb("hang", number)
        self.undo.append(("thaw", str(number)))

    def reset(self) -> None:
        """Every node as it was after start: links, addresses, files, no containers, the image."""
        self.changed = self.forks = True
        while self.undo:
            self.tb(*self.undo.pop())
        if self.registry_touched:
            self._script("registry", "slow", "off", timeout=30, check=False)
            self.registry("down")
            self.registry("up")
        self.each(lambda node: node.reset(testbed_image.tar))

    def snapshot(self) -> dict[str, Any]:
        """All that a deploy could change, by node; equal snapshots mean nothing changed."""
        return {node.name: snapshot for node, snapshot in self._snapshots()}

    def _snapshots(self) -> list[tuple[Node, dict[str, Any]]]:
        return list(zip(self.nodes.values(), self.each(Node.snapshot), strict=True))

    def add_image(self, version: str, tag: str) -> None:
        """Give every node a second image, whose stub says it is SGLang `version`."""
        tar = testbed_image.tar(version, tag)
        self.each(lambda node: node.load(tar))

    # ---- the controller

    @contextlib.contextmanager
    def hub(self, folder: Path) -> Iterator[Hub]:
        """A hub beside the controller, where every node reaches it; its files are in `folder`."""
        hub = Hub(folder / "hub", "198.18.0.254", 8099)
        hub.folder.mkdir()
        program = ROOT / "tests/support/local_hub.py"
        words = [TESTBED / "tb", "ctl", sys.executable, program, hub.folder, hub.address, hub.port]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TB_STATE": str(self.state)}
        with subprocess.Popen(list(map(str, words)), env=environment) as server:
            try:
                deadline = time.monotonic() + 10
                while self.ctl("curl", "-s", f"{hub.url}/api/models/x/y").returncode:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                hub.forget()
                yield hub
            finally:
                server.terminate()

    def ctl(self, *words: object, timeout: float = 60, on: int = 0, **env: str) -> Completed:
        """Run a command on the controller: it reaches the nodes' management addresses alone.

        + on: in this node's network instead (with this machine's files)
        """
        there = ["nsenter", f"--net={self.netns(on)}", "--"]
        return run([*there, *map(str, words)], self.environ(env), timeout, cwd=ROOT)

    def netns(self, number: int) -> str:
        """The network of node `number`; of the controller: 0."""
        return f"/run/netns/{self.state.name}-{f'spark-{number:02d}' if number else 'ctl'}"

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        """What a program on the controller has as its environment."""
        home = self.state / "home"
        home.mkdir(exist_ok=True)
        clean = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
        return {**clean, "HOME": str(home), "TB_STATE": str(self.state), **more}

    def pyinfra(
        self,
        *args: object,
        inventory: Path | str,
        data: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 240,
        on: int = 0,
    ) -> Completed:
        """Run the project's pyinfra from the controller, in the repository's root, without prompts.

        + args: what follows the inventory, e.g. "deploy.py", "--dry", "--diff"
        + data: --data KEY=VALUE for each; what is no string goes as JSON
        """
        settings = [
            f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in (data or {}).items()
        ]
        words = [word for setting in settings for word in ("--data", setting)]
        yes = [] if "--dry" in args else ["-y"]
        groups = ["--group-data", "inventories/group_data"] if GROUP_DATA.is_dir() else []
        line = [*yes, *groups, *map(str, (inventory, *args)), *words]
        if not self.forks:
            return self.ctl(PYINFRA, *line, timeout=timeout, on=on, **(env or {}))
        return run_pyinfra(line, self.environ(env or {}), self.netns(on), timeout)

    def inventory(
        self,
        folder: Path,
        head: int = 1,
        workers: tuple[int, ...] | list[int] = (2,),
        **data: object,
    ) -> Path:
        """Write an inventory file of these nodes; `data` goes to both groups."""
        path = folder / "inventory.py"
        shared = {"hf_cache": HF_CACHE, **data}
        path.write_text(
            f"DATA = {shared!r}\n"
            f"head = ({[self.host(head)]!r}, DATA)\n"
            f"workers = ({[self.host(i) for i in workers]!r}, DATA)\n"
        )
        return path

    def host(self, number: int) -> tuple[str, dict[str, object]]:
        """The node as an inventory names it: (name, how to reach it by SSH)."""
        return (
            f"spark-{number:02d}",
            {
                "ssh_config_file": str(self.state / "ssh_config"),
                "ssh_known_hosts_file": str(self.state / "known_hosts"),
                "ssh_strict_host_key_checking": "yes",
            },
        )

    @property
    def head_url(self) -> str:
        return self.url(1)

    def url(self, number: int) -> str:
        return f"http://198.18.0.{number}:30000"

    def http(
        self, path: str, json: object = None, node: int = 1, key: str = "", timeout: float = 5
    ) -> Answer:
        """GET, or POST of `json`, from the controller."""
        return request(self.ctl, self.url(node) + path, json, key, timeout)


GROUP_DATA = ROOT / "inventories" / "group_data"


def request(ctl: Any, url: str, data: object, key: str, timeout: float) -> Answer:
    """One HTTP request by curl through `ctl`."""
    words = ["curl", "-s", "-m", timeout, "-w", "\n%{http_code}", url]
    if data is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(data)]
    if key:
        words += ["-H", f"Authorization: Bearer {key}"]
    body, _, status = ctl(*words, timeout=timeout + 5).stdout.rpartition("\n")
    return Answer(int(status or 0), body)


def run(
    words: list[str], env: dict[str, str], timeout: float, cwd: Path | None = None
) -> Completed:
    """Run to the end, or kill the whole process group after `timeout` seconds and fail."""
    with subprocess.Popen(
        words,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as problem:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if isinstance(problem, subprocess.TimeoutExpired):
                raise AssertionError(f"{words}: no end after {timeout} s\n{out}\n{err}") from None
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)
