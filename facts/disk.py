"""File systems."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from cluster import node
from facts import shell

# $p climbs to the nearest folder that exists. df -k: macOS knows no -B.
CLIMB = """; exists=no writable=no; case $path in (/*) ;; (*) path=$PWD/$path;; esac; p=$path
while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
[ ! -e "$path" ] || exists=yes; [ ! -w "$path" ] || writable=yes
printf '%s\\n' "$path" "$exists $writable"; df -Pk "$p"
"""


class Disk(FactBase[node.Disk]):
    """The file system of `path`, or of its nearest folder that exists."""

    def command(self, path: str) -> StringCommand:
        return shell.joined("path=", shell.path(path), CLIMB.rstrip())

    def process(self, output: list[str]) -> node.Disk:
        path, flags, _header, usage = output[0], output[1], output[2], output[-1]
        # Device and mount point may hold spaces: the figures stand before the percentage.
        figures = usage[: usage.index("%")].split()
        exists, writable = flags.split()
        return node.Disk(
            path=path,
            exists=exists == "yes",
            writable=writable == "yes",
            total=int(figures[-4]) * 1024,
            free=int(figures[-2]) * 1024,
        )
