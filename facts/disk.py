"""File systems."""

from __future__ import annotations

from pyinfra.api import StringCommand

from cluster.node import readings
from facts import shell
from facts.fact import Fact, count

# $p climbs to the nearest folder that exists. df -k: macOS knows no -B.
CLIMB = """; exists=no writable=no; case $path in (/*) ;; (*) path=$PWD/$path;; esac; p=$path
while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
[ ! -e "$path" ] || exists=yes; [ ! -w "$path" ] || writable=yes
printf '%s\\n' "$path" "$exists $writable"; df -Pk "$p"
"""


class Disk(Fact[readings.Disk]):
    """The file system of `path`, or of its nearest folder that exists."""

    def command(self, path: str) -> StringCommand:
        return shell.joined("path=", shell.path(path), CLIMB.rstrip())

    def parse(self, output: list[str]) -> readings.Disk:
        path, flags, _header, *rest = output
        usage = next(line for line in reversed(rest) if "%" in line)
        # Device and mount point may hold spaces: the figures stand before the percentage.
        figures = usage[: usage.index("%")].split()
        exists, writable = flags.split()
        if not {exists, writable} <= {"yes", "no"}:
            raise ValueError(f"neither yes nor no: {flags[:40]!r}")
        return readings.Disk(
            path=path,
            exists=exists == "yes",
            writable=writable == "yes",
            total=count(figures[-4]) * 1024,
            free=count(figures[-2]) * 1024,
        )
