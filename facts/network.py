"""Network interfaces and listening ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from pyinfra.api import FactBase

from cluster.node import Interface, Listener

# A login without root may lack the sbin folders, where some systems keep `ip`.
SBIN = "PATH=$PATH:/usr/sbin:/sbin"
ADDRESSES = "ip -j addr"


class Interfaces(FactBase[list[Interface]]):
    """Every network interface in the kernel's order; [] where there is no `ip` (macOS)."""

    default = staticmethod(list[Interface])

    def command(self) -> str:
        return f"{SBIN}; command -v ip >/dev/null || exit 0; {ADDRESSES}"

    def process(self, output: list[str]) -> list[Interface]:
        # An old iproute2 leaves empty objects behind.
        return [_interface(link) for link in json.loads("\n".join(output)) if link]


def _interface(link: dict[str, Any]) -> Interface:
    inet = [a for a in link.get("addr_info", ()) if a.get("family") == "inet"]
    inet.sort(key=lambda a: bool(a.get("secondary")))
    return Interface(
        name=link["ifname"],
        mtu=link["mtu"],
        up=link.get("operstate") == "UP",
        mac=link.get("address", ""),
        ipv4=tuple(f"{a['local']}/{a['prefixlen']}" for a in inet),
    )


# Without ss: the sockets in state 0A (LISTEN) of /proc/net/tcp, whose owners stay unknown.
# Without /proc (macOS): lsof's fields, a letter before each value.
_LISTENERS = """
if command -v ss >/dev/null; then ss -Hltnp
elif [ -r /proc/net/tcp ]; then
  for f in /proc/net/tcp /proc/net/tcp6; do
    [ ! -r $f ] || while read -r _ local _ state _; do
      [ "$state" != 0A ] || echo "proc $local"
    done <$f
  done
else lsof -nP -iTCP -sTCP:LISTEN -Fpcn || [ $? = 1 ]
fi
""".strip()


class Listeners(FactBase[list[Listener]]):
    """Every listening TCP port, with its owner where the login may see it."""

    default = staticmethod(list[Listener])

    def command(self) -> str:
        return _LISTENERS

    def process(self, output: list[str]) -> list[Listener]:
        seen = [*_from_ss(output), *_from_proc(output), *_from_lsof(output)]
        return sorted(dict.fromkeys(seen), key=lambda at: (at.port, at.address))


def _from_ss(output: list[str]) -> Iterator[Listener]:
    for line in output:
        if line.startswith("LISTEN"):
            owner = re.search(r'users:\(\("(?P<process>[^"]*)",pid=(?P<pid>\d+)', line)
            process, pid = owner.groups() if owner else ("", None)
            yield _listener(line.split()[3], process, pid)


def _from_proc(output: list[str]) -> Iterator[Listener]:
    for line in output:
        if line.startswith("proc "):
            address, _, port = line[5:].partition(":")
            yield Listener(int(port, 16), _from_hex(address))


def _from_lsof(output: list[str]) -> Iterator[Listener]:
    process, pid = "", ""
    for line in output:
        if re.fullmatch(r"p\d+", line):
            process, pid = "", line[1:]
        elif pid and line.startswith("c"):
            process = line[1:]
        elif pid and line.startswith("n"):
            yield _listener(line[1:], process, pid)


def _listener(local: str, process: str, pid: str | None) -> Listener:
    """`local` as ss and lsof print it: 0.0.0.0:22, [::1]:631, *:8080, 127.0.0.53%lo:53."""
    address, _, port = local.rpartition(":")
    address = re.sub(r"%.*", "", address.strip("[]"))
    return Listener(int(port), address, process, int(pid) if pid else None)


def _from_hex(address: str) -> str:
    """The kernel prints each 32-bit word in the machine's order, little-endian on ours."""
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    return str(ip_address(b"".join(words)))
