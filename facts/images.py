"""Local images, and the SGLang that an image holds."""

from __future__ import annotations

import json

from pyinfra.api import FactBase, StringCommand

from cluster import node
from cluster.words import bounded
from facts.containers import SECONDS
from facts.disk import CLIMB, Disk
from facts.shell import joined, quoted

_VERSION = "import importlib.metadata as m; print(m.version('sglang'))"


class Image(FactBase[node.Image | None]):
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

    def process(self, output: list[str]) -> node.Image | None:
        reference, *lines = output
        seen = next(json.loads(line) for line in lines if line.startswith("{"))
        return node.Image(
            reference=reference,
            id=seen["Id"],
            digests=tuple(seen.get("RepoDigests") or ()),
            size=seen.get("Size", 0),
        )


class Room(FactBase[node.Disk]):
    """The file system on which Docker keeps its images."""

    def command(self) -> StringCommand:
        info = ("docker", "info", "--format", "{{.DockerRootDir}}")
        return joined("path=$(", quoted(bounded(SECONDS, *info)), ") || exit", CLIMB.rstrip())

    def process(self, output: list[str]) -> node.Disk:
        return Disk().process(output)


class SglangVersion(FactBase[str | None]):
    """The version of SGLang in an image, asked of its Python in a container without network."""

    def command(self, image: str) -> StringCommand:
        run = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image)
        return quoted(bounded(60, *run, "-c", _VERSION))

    def process(self, output: list[str]) -> str:
        return output[-1].strip()
