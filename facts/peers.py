"""Whether a node reaches its peers over the fabric, proved with short-lived listeners."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from pyinfra.api import QuoteString, StringCommand

from cluster.node.peers import PROBE_PORT, PeerReport, Reach
from cluster.printable import tail
from facts.fact import UNEXPECTED, Fact

SCRIPT = (Path(__file__).parent / "scripts" / "probe_peers.py").read_text()
GRACE = 4
"""Seconds beyond its own that the script may take: a last ping, a slow start of Python."""


class Peers(Fact[PeerReport]):
    """What one node reaches; ask all nodes at the same moment, as each listens for the others.

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
