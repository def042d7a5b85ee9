"""Local images, and the SGLang that an image holds."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct
from pyinfra.api import StringCommand

from cluster import node
from cluster.words import bounded
from facts.containers import SECONDS
from facts.disk import CLIMB, Disk
from facts.fact import Fact
from facts.shell import joined, quoted

_VERSION = "import importlib.metadata as m; print(m.version('sglang'))"
# A version as pip has it, on a line of its own: the image's entry point may print more.
_PEP_440 = re.compile(r"[0-9]{1,9}(\.[0-9A-Za-z]+)*([-+.][0-9A-Za-z.]+)?")


class Image(Fact[node.Image | None]):
    """The local image of a reference (tag, digest or id), None where it isn't there."""

    def command(self, image: str, seconds: int = SECONDS) -> StringCommand:
        inspect = ("docker", "image", "inspect", "--format", "{{json .}}", image)
        return joined(
            "out=$(",
            quoted(bounded(seconds, *inspect)),
            " 2>&1); s=$?; case $s$out in (0*) printf '%s\\n' ",
            quoted((image,)),
            ' "$out";; (*"o such image"*) ;; (*) printf \'%s\\n\' "$out" >&2; exit $s;; esac',
        )

    def parse(self, output: list[str]) -> node.Image | None:
        reference, *lines = output
        printed = next(line for line in lines if line.startswith("{"))
        seen = msgspec.json.decode(printed, type=_Inspected)
        return node.Image(
            reference=reference, id=seen.id, digests=seen.repo_digests or (), size=seen.size
        )


class _Inspected(Struct, rename="pascal"):
    """What we read of `docker image inspect`."""

    id: str
    repo_digests: tuple[str, ...] | None = None
    size: int = 0


class Room(Fact[node.Disk]):
    """The file system on which Docker keeps its images."""

    def command(self) -> StringCommand:
        info = ("docker", "info", "--format", "{{.DockerRootDir}}")
        return joined("path=$(", quoted(bounded(SECONDS, *info)), ") || exit", CLIMB.rstrip())

    def parse(self, output: list[str]) -> node.Disk:
        return Disk().process(output)


class SglangVersion(Fact[str | None]):
    """The version of SGLang in an image, asked of its Python in a container without network."""

    def command(self, image: str) -> StringCommand:
        run = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image)
        return quoted(bounded(60, *run, "-c", _VERSION))

    def parse(self, output: list[str]) -> str:
        versions = [found[0] for line in output if (found := _PEP_440.fullmatch(line.strip()))]
        return versions[-1]
