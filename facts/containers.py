"""What a node's container engine has: ranks (or processes in their place) and images; and the state
of the engine itself."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field
from pyinfra.api import QuoteString, StringCommand

from cluster.command import Command, load_script
from cluster.node import readings
from cluster.rank import compile_caches, docker, process
from facts import fact, system

# Seconds. A healthy daemon answers in well under one; one that thrashes or hangs must not stop us.
SECONDS = 30
# In `docker info` of a daemon whose images containerd keeps.
CONTAINERD_STORE = "io.containerd.snapshotter.v1"
# Docker's words for a daemon that does not run; Docker 29 says "check if the path is correct and if
# the daemon is running".
STOPPED = ("is the docker daemon running", "if the daemon is running", "connection refused")

_PROCESSES = load_script(__file__, "scripts/processes.sh")
_SERVED = load_script(__file__, "scripts/served_marks.sh")


class Containers(fact.Fact[list[readings.Rank]]):
    """Containers that carry our label, and those under one of `names`, ours or not.

    A daemon that does not answer fails the fact: no answer is never "nothing there".
    """

    default = staticmethod(list[readings.Rank])
    label = docker.LABEL

    def selection(self, names: Sequence[str]) -> str:
        """Docker's template that prints the id of a container we look for, else an empty line."""
        labelled = f"(.Label {json.dumps(self.label)})"
        named = "".join(f" (eq .Names {json.dumps(name)})" for name in names)
        return f"{{{{if or {labelled}{named}}}}}{{{{.ID}}}}{{{{end}}}}"

    def command(self, names: Sequence[str] = (), seconds: int = SECONDS) -> StringCommand:
        list_all = ("docker", "ps", "--all", "--no-trunc", "--format", self.selection(names))
        return StringCommand(
            "ids=$(",
            fact.render(Command(list_all, seconds)),
            ') || exit; [ -z "$ids" ] ||',
            fact.render(Command(("docker", "inspect", "--type=container", "--format"), seconds)),
            QuoteString("{{json .}}"),
            "$ids",
        )

    def parse(self, output: list[str]) -> list[readings.Rank]:
        ranks = []
        for line in output:
            if not line.startswith("{"):
                continue
            container = msgspec.json.decode(line, type=_Container)
            state = container.state
            # Docker's zero time; a running container's ExitCode is 0, whatever its last end was.
            ended = not state.finished_at.startswith("0001-") and state.status != "running"
            ranks.append(
                readings.Rank(
                    name=container.name.removeprefix("/"),
                    id=container.id,
                    status=state.status,
                    image_id=container.image,
                    label=(container.config.labels or {}).get(self.label),
                    exit_code=state.exit_code if ended else None,
                    oom_killed=state.oom_killed,
                    restarts=container.restart_count,
                    restart_policy=container.host_config.restart_policy.name or "no",
                    started_at=state.started_at,
                )
            )
        return sorted(ranks, key=lambda rank: rank.name)


class _State(Struct, rename="pascal"):
    status: str
    started_at: str
    finished_at: str
    exit_code: int
    oom_killed: bool = field(name="OOMKilled")


class _Policy(Struct, rename="pascal"):
    name: str


class _HostConfig(Struct, rename="pascal"):
    restart_policy: _Policy


class _Config(Struct, rename="pascal"):
    labels: dict[str, str] | None = None


class _Container(Struct, rename="pascal"):
    """What we read of `docker inspect`; a container that lacks any of these can't be read."""

    id: str
    name: str
    image: str
    restart_count: int
    state: _State
    host_config: _HostConfig
    config: _Config


class Processes(fact.Fact[list[readings.Rank]]):
    """Every running rank of the process runtime, by name. One that ended leaves no trace."""

    default = staticmethod(list[readings.Rank])

    def command(self) -> str:
        return _PROCESSES

    def parse(self, output: list[str]) -> list[readings.Rank]:
        ranks: list[tuple[str, readings.Rank]] = []
        for line in output:
            if len(fields := line.split("\t", 3)) != 4 or not fields[0].isdecimal():
                continue
            pid, parent, start, arguments = fields
            name = re.search(rf" {process.NAME}(\S+)", arguments)
            # The JSON after our marker, as it stands; a shell that merely quotes such a command has
            # none.
            after = arguments.partition(f" {process.LABEL}")[2]
            try:
                _, end = json.JSONDecoder().raw_decode(after)
            except (ValueError, RecursionError):
                continue
            if name:
                rank = readings.Rank(name[1], pid, "running", label=after[:end], started_at=start)
                ranks.append((parent, rank))
        pids = {(rank.name, rank.id) for _, rank in ranks}
        # A fork keeps its parent's arguments until it runs something else.
        first = (rank for parent, rank in ranks if (rank.name, parent) not in pids)
        return sorted(first, key=lambda rank: (rank.name, rank.id))


class ServedMarks(fact.Fact[tuple[str, ...]]):
    """Which ranks have served with kernels compiled on the node; () where nothing is kept.

    A folder that the login may not write, or create, fails the fact.
    """

    default = staticmethod(tuple[str, ...])

    def command(self, root: str) -> StringCommand:
        return fact.join("root=", fact.quote((root,)), "\n", _SERVED)

    def parse(self, output: list[str]) -> tuple[str, ...]:
        return compile_caches.parse_marks(output)


class EngineState(fact.Fact[readings.Engine]):
    """Whether Docker answers, its version and runtimes ("cdi": it can provide NVIDIA GPUs).

    Never fails: what stands in the way is `error`.
    """

    @staticmethod
    def default() -> readings.Engine:
        return readings.Engine(error="broken", detail="Docker printed nothing")

    def command(self, seconds: int = SECONDS) -> StringCommand:
        return StringCommand(
            "if command -v docker >/dev/null; then",
            fact.render(Command(("docker", "info", "--format", "{{json .}}"), seconds)),
            '2>&1 || echo "docker info: exit status $?"; else echo missing; fi',
        )

    def parse(self, output: list[str]) -> readings.Engine:
        if "missing" in output:
            return readings.Engine(error="missing", detail="there is no docker command")
        printed = next((line for line in output if line.startswith("{")), "{}")
        try:
            info = msgspec.json.decode(printed, type=_Info)
        except fact.UNEXPECTED as e:
            return readings.Engine(error="broken", detail=f"docker info: {e}: {printed[:200]}")
        words = [*(info.server_errors or ()), *(x for x in output if x[:1] != "{")]
        if not info.server_version:
            text, error = " ".join(words).lower(), "broken"
            if "permission denied" in text:
                error = "denied"
            elif any(phrase in text for phrase in STOPPED):
                error = "stopped"
            return readings.Engine(error=error, detail=words[0] if words else "")
        return readings.Engine(info.server_version, info.all_runtimes, images=info.image_folder)


class _Device(Struct):
    id: str = field(name="ID", default="")


class _Info(Struct, rename="pascal"):
    """What we read of `docker info`."""

    server_version: str = ""
    server_errors: tuple[str, ...] | None = None
    runtimes: dict[str, Any] | None = None
    discovered_devices: tuple[_Device, ...] | None = None
    driver_status: tuple[tuple[str, ...], ...] | None = None
    docker_root_dir: str = ""

    @property
    def image_folder(self) -> str:
        if any(CONTAINERD_STORE in pair for pair in self.driver_status or ()):
            return readings.IMAGE_FOLDERS[1]
        return self.docker_root_dir or readings.Engine.images

    @property
    def all_runtimes(self) -> tuple[str, ...]:
        """The runtimes' names, and "cdi" where it can hand out NVIDIA GPUs."""
        devices = self.discovered_devices or ()
        cdi = any(device.id.startswith("nvidia.com/gpu") for device in devices)
        return (*sorted(self.runtimes or ()), *(["cdi"] if cdi else []))


# What a container takes from its image's configuration; Docker versions print more, each its own.
_CONFIG = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell", "StopSignal"),
    *("User", "Volumes", "WorkingDir"),
)
_ROOT = (
    "{{$root := .DockerRootDir}}{{range .DriverStatus}}"
    f'{{{{if eq (index . 1) "{CONTAINERD_STORE}"}}}}'
    f'{{{{$root = "{readings.IMAGE_FOLDERS[1]}"}}}}{{{{end}}}}'
    "{{end}}{{$root}}"
)
_VERSION = "import importlib.metadata as m; print(m.version('sglang'))"
# A version as pip has it, on a line of its own: the image's entry point may print more.
_PEP_440 = re.compile(r"[0-9]{1,9}(\.[0-9A-Za-z]+)*([-+.][0-9A-Za-z.]+)?")


class Image(fact.Fact[readings.ImageReading | None]):
    """The local image of a reference (tag, digest or id), None if it isn't there."""

    def command(self, image: str, seconds: int = SECONDS) -> StringCommand:
        inspect = ("docker", "image", "inspect", "--format", "{{json .}}", image)
        return fact.join(
            "out=$(",
            fact.render(Command(inspect, seconds)),
            " 2>&1); s=$?; case $s$out in (0*) printf '%s\\n' ",
            fact.quote((image,)),
            ' "$out";; (*"o such image"*) ;; (*) printf \'%s\\n\' "$out" >&2; exit $s;; esac',
        )

    def parse(self, output: list[str]) -> readings.ImageReading | None:
        reference, *lines = output
        printed = next(line for line in lines if line.startswith("{"))
        inspected = msgspec.json.decode(printed, type=_Inspected)
        return readings.ImageReading(
            reference=reference,
            id=inspected.id,
            digests=inspected.repo_digests or (),
            content=inspected.content,
            size=inspected.size,
        )


class _Layers(Struct, rename="pascal"):
    layers: tuple[str, ...] | None = None


class _Inspected(Struct, rename="pascal"):
    """What we read of `docker image inspect`."""

    id: str
    repo_digests: tuple[str, ...] | None = None
    size: int = 0
    architecture: str = ""
    os: str = ""
    root_fs: _Layers | None = msgspec.field(name="RootFS", default=None)
    config: dict[str, Any] | None = None

    @property
    def content(self) -> str:
        """A digest of the layers and of the configuration that they run with; "" without layers."""
        if self.root_fs is None or not self.root_fs.layers:
            return ""
        config = self.config or {}
        run_config = {name: config[name] for name in _CONFIG if config.get(name)}
        parts = [self.architecture, self.os, self.root_fs.layers, run_config]
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


class Unpacked(fact.Fact[int]):
    """Bytes of an image's layers as containers see them."""

    def command(self, image: str) -> StringCommand:
        words = ("docker", "history", "--human=false", "--format", "{{.Size}}", image)
        return fact.render(Command(words, SECONDS))

    def parse(self, output: list[str]) -> int:
        return sum(fact.count(line) for line in output)


class Room(fact.Fact[readings.DiskReading]):
    """The file system on which Docker keeps its images."""

    def command(self) -> StringCommand:
        info = ("docker", "info", "--format", _ROOT)
        return fact.join(
            "path=$(",
            fact.render(Command(info, SECONDS)),
            ") || exit",
            system.CLIMB.rstrip(),
        )

    def parse(self, output: list[str]) -> readings.DiskReading:
        return system.Disk().process(output)


class SglangVersion(fact.Fact[str | None]):
    """The version of SGLang in an image, from its Python in a container without network."""

    def command(self, image: str) -> StringCommand:
        run = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image)
        return fact.render(Command((*run, "-c", _VERSION), 60))

    def parse(self, output: list[str]) -> str:
        versions = [match[0] for line in output if (match := _PEP_440.fullmatch(line.strip()))]
        return versions[-1]
