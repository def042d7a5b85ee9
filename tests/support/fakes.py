"""Sparks that are not there: @fake hosts which answer as healthy Sparks would.

Everything that a node says is made in the format of our own facts' commands, and each test may
change it: an inventory file, the CLI in a process of its own, and the commands that each node got.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyinfra_runs import run_pyinfra
from right_answers import ASKING, printed

from cluster.catalog.models import find_model
from cluster.fabric import FabricOptions, choose_fabric
from cluster.plan.specs import declared_specs
from cluster.rank.spec import Spec
from cluster.settings.declaration import HostData, parse_declaration
from cluster.settings.resolve import resolve
from cluster.transfer.weights import TIKTOKEN
from facts.node import MARK, NodeReading
from operations import shell

ROOT = Path(__file__).parents[2]
IMAGE_ID = "sha256:" + "ab" * 32
IMAGE_PIN = "lmsysorg/sglang@sha256:" + "cd" * 32
VERSION = "0.5.3.post3"
# In every command about the run's lease, which `commands` leave out.
LEASE = "dir=$base/spark-serving"
COMMIT = "c" * 40
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


RIGHT = printed()


def node_name(rank: int) -> str:
    return f"@fake/spark-{rank + 1}"


@dataclass
class Spark:
    """One node's answers.

    + up: whether the cable's both halves carry traffic
    + drafts: draft model that is looked for → whether the node has it
    + unrecorded: why weights_here.py can't write down what it read; "": it did, long ago
    + container: `docker inspect` of its rank, None where there is none
    + sections: parts of the reading that say something else: name → (status, lines)
    + answers: further responses, before all others: part of a command → response
    """

    rank: int
    up: bool = True
    mtu: int = 9000
    image: bool = True
    model: str = "openai/gpt-oss-120b"
    weights: bool = True
    drafts: dict[str, bool] = field(default_factory=dict)
    unrecorded: str = ""
    listeners: tuple[str, ...] = ()
    container: dict[str, Any] | None = None
    sections: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return node_name(self.rank)

    def address(self, half: int) -> str:
        return f"192.168.{100 + half}.{10 + self.rank}"

    # ---- the reading

    def reading(self, full: bool) -> list[str]:
        parts = self.light() | (self.heavy() if full else {})
        sections = {name: (0, lines) for name, lines in parts.items()}
        sections |= {name: part for name, part in self.sections.items() if name in parts}
        return [
            f"{MARK} docker {self.name}",
            *(line for name, part in sections.items() for line in section(name, *part)),
        ]

    def light(self) -> dict[str, list[str]]:
        return {
            "identity": [f"{self.rank:032x}", self.name, "/home/me", "1748772000.5"],
            "interfaces": [json.dumps(self.interfaces())],
            "rdma": self.rdma(),
            "memory": ["MemTotal: 131334144", "MemAvailable: 120000000"],
            "ranks": [json.dumps(self.container)] if self.container else [],
            "image": self.inspected_image(),
        }

    def heavy(self) -> dict[str, list[str]]:
        return {
            "engine": ['{"ServerVersion":"29.1.0","Runtimes":{"nvidia":{},"runc":{}}}'],
            "gpus": ["0, NVIDIA GB10, 580.126.09, 12.1, [N/A], 3.74 W, 41"],
            "listeners": ['LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=9,fd=3))',
                          *self.listeners],
            "disk /raid/hf-cache": disk("/raid/hf-cache", "yes yes"),
            "disk /var/lib/docker": disk("/var/lib/docker", "yes no"),
            "weights": self.weights_lines(),
            "served": [],
            **{f"draft {id}": cached(id, whole) for id, whole in self.drafts.items()},
            "tiktoken": [f"{sha}  {name}" for name, sha in TIKTOKEN.items()],
        }  # fmt: skip

    def interfaces(self) -> list[dict[str, Any]]:
        lan = link("enP7s7", 1500, True, f"10.0.0.{5 + self.rank}")
        halves = ("enp1s0f1np1", "enP2p1s0f1np1")
        return [
            lan,
            *(link(n, self.mtu, self.up, self.address(i)) for i, n in enumerate(halves)),
        ]

    def rdma(self) -> list[str]:
        state = ("4: ACTIVE", "5: LinkUp") if self.up else ("1: DOWN", "3: Disabled")
        lines = []
        for hca, netdev, pci in (
            ("rocep1s0f1", "enp1s0f1np1", "0000:01:00.1"),
            ("roceP2p1s0f1", "enP2p1s0f1np1", "0002:01:00.1"),
        ):
            lines += [f"hca {hca}", f"state {state[0]}", f"phys_state {state[1]}"]
            lines += ["rate 200 Gb/sec (4X HDR)", "link_layer Ethernet", f"pci {pci}"]
            lines += [f"netdev {netdev}"]
        return lines

    def inspected_image(self) -> list[str]:
        inspected = {"Id": IMAGE_ID, "RepoDigests": [IMAGE_PIN], "Size": 24_831_838_208}
        return ["lmsysorg/sglang:spark", json.dumps(inspected)] if self.image else []

    def weights_lines(self) -> list[str]:
        return cached(self.model, self.weights)

    # ---- every other command

    def responses(self, cluster: Fakes) -> dict[str, Any]:
        usual = {
            ASKING: RIGHT,
            f"printf '%s\\n' '{MARK} begin gpus'": self.reading(full=True),
            f"{MARK} docker": self.reading(full=False),
            "metadata as m": [VERSION],
            '"seconds": ': [json.dumps(self.peers(cluster))],
            "/v1/models": cluster.served(),
            "printf 'node %s": self.look(),
            "weights_here": [json.dumps(self.held())],
            "docker logs --tail 40": ["exited 0", json.dumps(self.hub())],
            LEASE: ["taken"],
            "docker image inspect": self.inspected_image(),
            # What there is to end after a failure: a look's lines hold it too.
            "docker ps --all": [line for line in self.look() if line.startswith("{")],
        }
        # The first match wins; any other command succeeds without output.
        outputs = {**self.answers, **{k: v for k, v in usual.items() if k not in self.answers}}
        return {part: answer(output) for part, output in outputs.items()} | {
            shell.BEFORE: answer([])
        }

    def peers(self, cluster: Fakes) -> dict[str, Any]:
        others = [spark for spark in cluster.sparks if spark is not self]
        ports = {"30000": "open", "50000": "open", "47918": "open"}
        reached = [
            {"peer": o.address(0), "ping": "ok", "full_ping": "ok", "ports": ports} for o in others
        ]
        return {"address": self.address(0), "busy": [], "peers": reached}

    def held(self) -> dict[str, Any]:
        """What weights_here.py finds, and that all it is asked to place is good."""
        files = {name: known_file(n) for n, name in enumerate(("config.json", *SHARDS))}
        return {
            "commit": COMMIT if self.weights else "",
            "at": f"/raid/hf-cache/hub/x/snapshots/{COMMIT}",
            "files": files if self.weights else {},
            "absent": {},
            "recorded": self.weights and not self.unrecorded,
            "shards": {},
            "closed": [],
            "partial": False,
            "free": 10**12,
            "begun": 0,
            "uid": 1000,
            "gid": 1000,
            "bad": [],
            "unrecorded": self.unrecorded,
        }

    def hub(self) -> dict[str, Any]:
        """The result of hub_client.py, of its list and of its fetch alike."""
        files = {name: known_file(n) for n, name in enumerate(("config.json", *SHARDS))}
        listed = [[name, f["size"], f["kind"], f["hash"]] for name, f in files.items()]
        return {"commit": COMMIT, "files": listed, "times": dict.fromkeys(files, 5)}

    def look(self) -> list[str]:
        """What `RankLook` gets once the rank is started."""
        name = "sglang-head" if self.rank == 0 else f"sglang-worker-{self.rank}"
        return [
            f"node {self.name}",
            f"name {name}",
            json.dumps(container(name, "{}", policy="no")),
            "asked",
            "health 200 0.01",
            "log The server is fired up and ready to roll!",
        ]


def answer(output: Any) -> Any:
    """What comes back of a command, as the frame around it has the node say it.

    output: the lines of stdout, or pyinfra's dict of stdout, stderr and success
    """
    frame = output if isinstance(output, dict) else {"stdout": output}
    lines = frame.get("stdout", [])
    lines = [lines] if isinstance(lines, str) else lines
    ended = f"{shell.END}{0 if frame.get('success', True) else 1}"
    out = [f"{shell.MARK}{line}" for line in (*lines, "", ended)]
    return {**frame, "stdout": out} if isinstance(output, dict) else out


def cached(model: str, whole: bool) -> list[str]:
    """As `ModelWeights` prints what the hub's cache has of a model."""
    repo = f"/raid/hf-cache/hub/models--{model.replace('/', '--')}"
    if not whole:
        return [f"model\t{model}", f"path\t{repo}"]
    return [
        f"model\t{model}",
        "revision\tabc",
        f"path\t{repo}/snapshots/abc",
        "config",
        *(f'shard\tmodel.safetensors.index.json\t"{shard}"' for shard in SHARDS),
        *(f"32624407872 {shard}" for shard in SHARDS),
    ]


def known_file(number: int) -> dict[str, Any]:
    """A file as weights_here.py reports it, read long ago."""
    digest = f"{number:064x}"
    proof = {"kind": "sha256", "hash": digest, "by": "hub", "blob": digest}
    return {"size": 7, "mtime_ns": 5, "good": True, "read": 0, **proof}


def section(name: str, status: int, lines: list[str]) -> list[str]:
    """As `NodeReading` prints a part; where it failed, the lines are its stderr."""
    out, words = (lines, []) if status == 0 else ([], lines)
    return [f"{MARK} begin {name}", *out, f"{MARK} end {status}", *(words or [""])]


def link(name: str, mtu: int, up: bool, address: str) -> dict[str, Any]:
    inet = {"family": "inet", "local": address, "prefixlen": 24}
    return {
        "ifname": name, "mtu": mtu, "operstate": "UP" if up else "DOWN", "addr_info": [inet]
    }  # fmt: skip


def disk(path: str, flags: str) -> list[str]:
    return [path, flags, "Filesystem", "/dev/nvme0n1p2 3905011724 801240000 2905011724 22% /"]


def container(name: str, spec: str, **changed: Any) -> dict[str, Any]:
    """`docker inspect`'s line for a rank."""
    status, code = changed.get("status", "running"), changed.get("code", 0)
    policy = changed.get("policy", "unless-stopped")
    ended = "2025-06-01T11:00:00Z" if status == "exited" else "0001-01-01T00:00:00Z"
    return {
        "Id": f"id-of-{name}",
        "Name": f"/{name}",
        "Image": changed.get("image", IMAGE_ID),
        "RestartCount": 0,
        "State": {
            "Status": status,
            "OOMKilled": False,
            "ExitCode": code,
            "StartedAt": "2025-05-01T10:00:00Z",
            "FinishedAt": ended,
        },
        "HostConfig": {"RestartPolicy": {"Name": policy}},
        "Config": {"Labels": {"spark-serving.spec": spec} if spec else {}},
    }


@dataclass
class Run:
    """What a run printed and did. `commands`: all, by node; `changes`: what changes something."""

    code: int
    out: str
    err: str
    commands: dict[str, list[str]]

    READINGS = (
        *(MARK, "/v1/models", "metadata as m", '"seconds": '),
        *("weights_here", "label=spark-serving.task", ASKING),
    )

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def readings(self) -> dict[str, list[str]]:
        return {n: [c for c in commands if is_reading(c)] for n, commands in self.commands.items()}

    def changes_but(self, reading: str) -> dict[str, list[str]]:
        """Node → the changes but for the commands with this text, which only read."""
        there = {
            n: [c for c in commands if reading not in c] for n, commands in self.changes.items()
        }
        return {node: commands for node, commands in there.items() if commands}

    @property
    def changes(self) -> dict[str, list[str]]:
        changes = {
            n: [c for c in commands if not is_reading(c)] for n, commands in self.commands.items()
        }
        return {node: commands for node, commands in changes.items() if commands}


def is_reading(command: str) -> bool:
    return any(mark in command for mark in Run.READINGS)


@dataclass
class Fakes:
    """A cluster of @fake Sparks and the inventory that names them."""

    folder: Path
    sparks: list[Spark]
    data: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    serves: str = "openai/gpt-oss-120b"

    @classmethod
    def of(cls, folder: Path, nodes: int = 2) -> Fakes:
        return cls(folder, [Spark(rank) for rank in range(nodes)])

    def served(self) -> list[str]:
        models = json.dumps({"data": [{"id": self.serves}]})
        chat = {"choices": [{"message": {"content": "Paris."}}], "usage": {"completion_tokens": 3}}
        return [
            *(f"health {spark.rank} 200 0.05" for spark in self.sparks),
            f"models {models} 200 0.01",
            f"chat {json.dumps(chat)} 200 0.4",
        ]

    def specs(self, **data: Any) -> dict[str, Spec]:
        """What these nodes should run, by way of the same pure functions."""
        data_of_all = self.data | data
        groups = [("head",), *[("workers",)] * (len(self.sparks) - 1)]
        declared = [
            HostData(s.name, g, data_of_all) for s, g in zip(self.sparks, groups, strict=True)
        ]
        want = parse_declaration(declared)
        want = resolve(want, find_model(want.common.model))
        facts = {s.name: NodeReading().process(s.reading(full=False)) for s in self.sparks}
        fabric = choose_fabric([facts[n] for n in want.names], FabricOptions())
        return declared_specs(want, find_model(want.common.model), fabric, facts, VERSION)

    def run_ranks(self, **data: Any) -> None:
        """Every node runs the rank that these settings ask for."""
        for spec, spark in zip(self.specs(**data).values(), self.sparks, strict=False):
            spark.container = container(spec.name, spec.dump())

    def inventory(self) -> Path:
        path = self.folder / "sparks.py"
        hosts = {
            s.name: (s.name, self.data | s.data | {"fake_responses": s.responses(self)})
            for s in self.sparks
        }
        groups = self.groups or {
            "head": [self.sparks[0].name],
            "workers": [s.name for s in self.sparks[1:]],
        }
        lines = ["_hosts = " + repr(hosts)]
        lines += [f"{g} = [{', '.join(f'_hosts[{n!r}]' for n in ns)}]" for g, ns in groups.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def deploy(self, *args: str, yes: bool = True, file: str = "deploy.py") -> Run:
        """`pyinfra … deploy.py` in a process of its own."""
        return self.pyinfra(str(self.inventory()), file, *(["-y"] if yes else []), *args)

    def pyinfra(self, *words: str, **more: str) -> Run:
        """`pyinfra` with these words, in a process of its own; more: of its environment."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}
        done = run_pyinfra(words, environment | more)
        return Run(done.returncode, done.stdout, done.stderr, self.commands())

    def commands(self) -> dict[str, list[str]]:
        """The commands that each node got, in order; the record is empty afterwards."""
        record = self.folder / "commands"
        commands: dict[str, list[str]] = {spark.name: [] for spark in self.sparks}
        for line in record.read_text().splitlines() if record.exists() else ():
            node, command = json.loads(line)
            if LEASE not in command:
                commands[node].append(command.removeprefix(shell.BEFORE).removesuffix(shell.AFTER))
        record.unlink(missing_ok=True)
        return commands
