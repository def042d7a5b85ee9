"""Network interfaces, listening ports, and whether a node reaches its peers over the fabric."""

import json
import re
from collections.abc import Sequence
from ipaddress import IPv4Interface, ip_address
from pathlib import Path

import msgspec
from msgspec import Struct, field
from pyinfra.api import QuoteString, StringCommand

from cluster.command import load_script
from cluster.node.peers import PROBE_PORT, PeerReport, Reach
from cluster.node.readings import Interface, Listener
from cluster.printable import tail
from facts.fact import UNEXPECTED, Fact, count, port

# A login without root may lack the sbin folders, where some systems keep `ip`.
SBIN = "PATH=$PATH:/usr/sbin:/sbin"
# With -d it prints an interface's kind: a bond, a VLAN, a bridge …
ADDRESSES = "ip -j -d addr"


class Interfaces(Fact[list[Interface]]):
    """Every network interface in the kernel's order; [] if there is no `ip` (macOS)."""

    default = staticmethod(list[Interface])

    def command(self) -> str:
        return f"{SBIN}; command -v ip >/dev/null || exit 0; {ADDRESSES}"

    def parse(self, output: list[str]) -> list[Interface]:
        links = msgspec.json.decode("\n".join(output), type=list[_Link])
        interfaces = []
        for link in links:
            if link == _Link():
                continue  # An old iproute2 leaves empty objects behind.
            if not link.ifname:
                raise ValueError("an interface without a name")
            inet = [a for a in link.addr_info if a.family == "inet" and a.local]
            inet.sort(key=lambda a: a.secondary)
            kind = link.linkinfo.info_kind if link.linkinfo else None
            interfaces.append(
                Interface(
                    name=link.ifname,
                    mtu=link.mtu,
                    up=link.operstate == "UP",
                    mac=link.address,
                    ipv4=tuple(
                        IPv4Interface(f"{a.local}/{a.prefixlen}").with_prefixlen for a in inet
                    ),
                    kind=kind or ("bond" if "MASTER" in link.flags else ""),
                    master=link.master or "",
                    link=link.link or "",
                )
            )
        return interfaces


class _Address(Struct):
    family: str = ""
    local: str = ""
    prefixlen: int = 0
    secondary: bool = False


class _LinkInfo(Struct):
    info_kind: str | None = None


class _Link(Struct):
    """What we read of an interface in `ip -j -d addr`; without linkinfo (an old iproute2) a flag
    marks a bond. `link` is null if the other end is in another namespace."""

    ifname: str = ""
    mtu: int = 0
    operstate: str = ""
    address: str = ""
    addr_info: list[_Address] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    linkinfo: _LinkInfo | None = None
    master: str | None = None
    link: str | None = None


_LISTENERS = load_script(__file__, "scripts/listeners.sh")


class Listeners(Fact[list[Listener]]):
    """Every listening TCP port, with its owner if the login may see it."""

    default = staticmethod(list[Listener])

    def command(self) -> str:
        return _LISTENERS

    def parse(self, output: list[str]) -> list[Listener]:
        """`output`: the lines of ss, of /proc/net/tcp behind "proc ", or of lsof."""
        listeners: list[Listener] = []
        process, pid = "", ""
        for line in output:
            if line.startswith("LISTEN") and len(line.split()) > 3:
                owner = re.search(r'users:\(\("(?P<process>[^"]*)",pid=(?P<pid>\d+)', line)
                listeners.append(_listener(line.split()[3], *(owner.groups() if owner else ())))
            elif line.startswith("proc "):
                address, _, number = line[5:].partition(":")
                # The kernel prints each 32-bit word in the machine's order, little-endian on ours.
                words = (bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
                ip = str(ip_address(b"".join(words)))
                listeners.append(Listener(port(str(int(number, 16))), ip))
            elif re.fullmatch(r"p\d+", line):
                process, pid = "", line[1:]
            elif pid and line.startswith("c"):
                process = line[1:]
            elif pid and line.startswith("n"):
                listeners.append(_listener(line[1:], process, pid))
        return sorted(dict.fromkeys(listeners), key=lambda at: (at.port, at.address))


def _listener(local: str, process: str = "", pid: str = "") -> Listener:
    """`local` as ss and lsof print it: 0.0.0.0:22, [::1]:631, *:8080, 127.0.0.53%lo:53."""
    address, _, number = local.rpartition(":")
    address = re.sub(r"%.*", "", address.strip("[]"))
    return Listener(port(number), address, process, count(pid) if pid else None)


SCRIPT = (Path(__file__).parent / "scripts" / "probe_peers.py").read_text()
GRACE = 4
"""Seconds beyond its own that the script may take: a last ping, a slow start of Python."""


class Peers(Fact[PeerReport]):
    """What one node reaches. Run it on all nodes at once, as each listens for the others.

    Never fails: what stands in the way is `error`.

    + address: the node's own on the fabric
    + peers: the other nodes' addresses
    + ports: that must be free here and open there; `PROBE_PORT` is tried as well
    + mtu: bytes that must pass unfragmented
    + deadline: seconds; a node whose peers are all done ends well before it
    """

    @staticmethod
    def default() -> PeerReport:
        return PeerReport(error="the probe printed nothing")

    def command(
        self,
        address: str,
        peers: Sequence[str],
        ports: Sequence[int],
        mtu: int = 9000,
        deadline: int = 6,
    ) -> StringCommand:
        task = {
            "address": address,
            "peers": list(peers),
            "ports": [*dict.fromkeys((*ports, PROBE_PORT))],
            "mark": PROBE_PORT,
            "mtu": mtu,
            "seconds": deadline,
        }
        words = ("timeout", str(deadline + GRACE), "python3", "-c", SCRIPT, json.dumps(task))
        return StringCommand(*(QuoteString(w) for w in words), '2>&1 || echo "exit status $?"')

    def parse(self, output: list[str]) -> PeerReport:
        try:
            report = msgspec.json.decode(output[-1], type=_Probe)
        except UNEXPECTED:
            return PeerReport(error=tail("; ".join(output[-2:])))
        if report.error or not report.address:
            return PeerReport(error=report.error or "the probe names no address")
        return PeerReport(report.address, report.busy, report.peers)


class _Probe(Struct):
    """What scripts/probe_peers.py prints."""

    address: str = ""
    busy: tuple[int, ...] = ()
    peers: tuple[Reach, ...] = ()
    error: str = ""
