"""How a node's system is set up: its interfaces' configuration, its firewall, what its login may
keep."""

from collections.abc import Sequence
from ipaddress import IPv4Network, ip_address

import msgspec
from msgspec import Struct
from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.node import host, netplan, ufw
from facts.fact import Fact, port, quote, render
from facts.network import SBIN

_TRY_ROOT = load_script(__file__, "scripts/try_root.sh")

_NETWORK = SBIN + "\n" + load_script(__file__, "scripts/network_setup.sh")

_HOST = load_script(__file__, "scripts/host_settings.sh")

_FIREWALL = load_script(__file__, "scripts/firewall.sh")


class NetworkSetup(Fact[netplan.Setup]):
    """Who configures a node's interfaces, where its routes lead, and which one SSH came in by.

    + names: interfaces and MAC addresses to look for in configuration files
    """

    def command(self, names: Sequence[str] = ()) -> StringCommand:
        return quote(
            (
                "sh",
                "-c",
                _TRY_ROOT,
                "sh",
                "sh",
                "-c",
                _NETWORK,
                "sh",
                netplan.FILE,
                netplan.GUARD,
                *names,
            )
        )

    def parse(self, output: list[str]) -> netplan.Setup:
        lines = output
        end = lines.index("own") if "own" in lines else len(lines)
        values = dict(line.partition(" ")[::2] for line in lines[:end] if "\t" not in line)
        tabbed = [line.split("\t") for line in lines[:end] if line.count("\t") == 2]
        # Several names or patterns may stand after one key of systemd's.
        claims = [
            netplan.Claim(file, word, driver=kind == "driver")
            for kind, file, names in tabbed
            for word in names.split()
        ]
        routes = msgspec.json.decode(values.get("routes") or "[]", type=list[_Route])
        return netplan.Setup(
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
        """The destination as it stands; ValueError if it is none."""
        IPv4Network(self.dst, strict=False)
        return self.dst


class HostSettings(Fact[host.HostSetup]):
    """The login, whether it lingers, logind's RemoveIPC, and what is installed."""

    def command(self) -> str:
        return _HOST

    def parse(self, output: list[str]) -> host.HostSetup:
        values = dict(line.partition(" ")[::2] for line in output)
        ipc = values.get("removeipc")
        return host.HostSetup(
            login=values["login"],
            linger="linger" in values,
            remove_ipc=None if ipc is None else ipc == "true",
            apt="apt" in values,
            earlyoom="earlyoom" in values,
            no_root=values.get("no-root", ""),
        )


class UfwState(Fact[ufw.Ufw]):
    """ufw with its rules, sshd's ports and the login's own connection; needs root."""

    def command(self) -> StringCommand:
        return render(Command(("sh", "-c", _TRY_ROOT, "sh", "sh", "-c", _FIREWALL), 40))

    def parse(self, output: list[str]) -> ufw.Ufw:
        lines = [line.split() for line in output if line.strip()]
        values: dict[str, list[str]] = {words[0]: words[1:] for words in lines}
        ports = {port(words[1]) for words in lines if words[0] == "port" and words[1:]}
        # Ports that others can reach; an sshd's forwarded ports on loopback are not.
        sockets = [words[4] for words in lines if words[0] == "listen" and len(words) > 4]
        reachable = {
            port(socket.rpartition(":")[2])
            for socket in sockets
            if not socket.rpartition(":")[0].startswith(("127.", "[::1]"))
        }
        rules = (
            _rule(words[2:], v6=words[1] == "6")
            for words in lines
            if words[0] == "rule" and words[2:]
        )
        login = None
        # SSH_CONNECTION: the client's address and port, then the server's.
        if len(connection := values.get("login", [])) == 4:
            client, _, server, at = connection
            login = ufw.Login(_plain(client), _plain(server), port(at))
        return ufw.Ufw(
            installed="missing" not in values,
            active=values.get("status") == ["active"],
            incoming=(values.get("incoming") or ["DROP"])[0],
            rules=tuple(rule for rule in rules if rule),
            ssh_ports=tuple(sorted(ports & reachable)),
            login=login,
            no_root=" ".join(values.get("no-root", ())),
        )


def _plain(address: str) -> str:
    """Without an IPv6 zone; IPv4 that a socket of both kinds took stays IPv4."""
    parsed = ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _rule(words: list[str], *, v6: bool) -> ufw.Rule | None:
    """ACTION PROTO DPORT DST SPORT SRC [DAPP SAPP] in|out[_INTERFACE] [comment=HEX]; None for
    what goes out or through."""
    comment = ""
    if words[-1].startswith("comment="):
        comment = bytes.fromhex(words.pop().removeprefix("comment=")).decode(errors="replace")
    action, protocol, ports, target, source_port, source, *_, way = words
    direction, _, interface = way.partition("_")
    if direction != "in" or "!" in way or action.startswith("route:"):
        return None
    return ufw.Rule(
        action=action.partition("_")[0],
        protocol=protocol,
        port=ports,
        source=_anywhere(source),
        target=_anywhere(target),
        source_port=source_port,
        interface=interface,
        v6=v6,
        comment=comment,
    )


def _anywhere(network: str) -> str:
    return ufw.ANY if network in ("0.0.0.0/0", "::/0") else network
