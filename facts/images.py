"""Local images, and the SGLang that an image holds."""

import hashlib
import re
from typing import Any

import msgspec
from msgspec import Struct
from pyinfra.api import StringCommand

from cluster.command import Command
from cluster.node import readings
from facts import containers, fact, system

# What a container takes from its image's configuration; Docker versions print more, each its own.
_CONFIG = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell", "StopSignal"),
    *("User", "Volumes", "WorkingDir"),
)
_ROOT = (
    "{{$root := .DockerRootDir}}{{range .DriverStatus}}"
    f'{{{{if eq (index . 1) "{containers.CONTAINERD_STORE}"}}}}'
    f'{{{{$root = "{readings.IMAGE_FOLDERS[1]}"}}}}{{{{end}}}}'
    "{{end}}{{$root}}"
)
_VERSION = "import importlib.metadata as m; print(m.version('sglang'))"
# A version as pip has it, on a line of its own: the image's entry point may print more.
_PEP_440 = re.compile(r"[0-9]{1,9}(\.[0-9A-Za-z]+)*([-+.][0-9A-Za-z.]+)?")


class Image(fact.Fact[readings.ImageReading | None]):
    """The local image of a reference (tag, digest or id), None if it isn't there."""

    def command(self, image: str, seconds: int = containers.SECONDS) -> StringCommand:
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
        """A digest of the layers and of what they are run with; "" without layers."""
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
        return fact.render(Command(words, containers.SECONDS))

    def parse(self, output: list[str]) -> int:
        return sum(fact.count(line) for line in output)


class Room(fact.Fact[readings.DiskReading]):
    """The file system on which Docker keeps its images."""

    def command(self) -> StringCommand:
        info = ("docker", "info", "--format", _ROOT)
        return fact.join(
            "path=$(",
            fact.render(Command(info, containers.SECONDS)),
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
