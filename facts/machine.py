"""How a node's system is set up: who configures its interfaces, and what its login may keep."""

from collections.abc import Sequence
from ipaddress import IPv4Network

import msgspec
from msgspec import Struct
from pyinfra.api import StringCommand

from cluster.command import load_script
from cluster.node.host import HostSetup
from cluster.node.netplan import FILE, GUARD, Claim, Setup
from facts.fact import Fact, quote
from facts.network import SBIN

_TRY_ROOT = load_script(__file__, "scripts/try_root.sh")

_NETWORK = SBIN + "\n" + load_script(__file__, "scripts/network_setup.sh")

_HOST = load_script(__file__, "scripts/host_settings.sh")


class NetworkSetup(Fact[Setup]):
    """Who configures a node's interfaces, where its routes lead, and which one SSH came in by.

    + names: interfaces and MAC addresses to look for in configuration files
    """

    def command(self, names: Sequence[str] = ()) -> StringCommand:
        return quote(("sh", "-c", _TRY_ROOT, "sh", "sh", "-c", _NETWORK, "sh", FILE, GUARD, *names))

    def parse(self, output: list[str]) -> Setup:
        lines = output
        end = lines.index("own") if "own" in lines else len(lines)
        values = dict(line.partition(" ")[::2] for line in lines[:end] if "\t" not in line)
        tabbed = [line.split("\t") for line in lines[:end] if line.count("\t") == 2]
        # Several names or patterns may stand after one key of systemd's.
        claims = [
            Claim(file, word, driver=kind == "driver")
            for kind, file, names in tabbed
            for word in names.split()
        ]
        routes = msgspec.json.decode(values.get("routes") or "[]", type=list[_Route])
        return Setup(
            netplan="netplan" in values,
            ssh=values.get("ssh", ""),
            by_ssh="ssh" in values,
            routes=tuple((r.network, r.dev) for r in routes if r.dst != "default"),
            claims=tuple(dict.fromkeys(claims)),
            own=None if end == len(lines) else "\n".join(lines[end + 1 :]),
            guarded="guarded" in values,
            no_root=values.get("no-root", ""),
        )


class _Route(Struct):
    """What we read of a line of `ip -j route`."""

    dst: str
    dev: str = ""

    @property
    def network(self) -> str:
        """The destination as it stands; ValueError where it is none."""
        IPv4Network(self.dst, strict=False)
        return self.dst


class HostSettings(Fact[HostSetup]):
    """The login, whether it lingers, logind's RemoveIPC, and what is installed."""

    def command(self) -> str:
        return _HOST

    def parse(self, output: list[str]) -> HostSetup:
        values = dict(line.partition(" ")[::2] for line in output)
        ipc = values.get("removeipc")
        return HostSetup(
            login=values["login"],
            linger="linger" in values,
            remove_ipc=None if ipc is None else ipc == "true",
            apt="apt" in values,
            earlyoom="earlyoom" in values,
            no_root=values.get("no-root", ""),
        )
