"""ufw: whether it is on, its rules, and how SSH comes in."""

from collections.abc import Iterator
from ipaddress import ip_address

from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.node.host import as_root
from cluster.node.ufw import ANY, Login, Rule, Ufw
from facts.fact import Fact, port, render

_READ = load_script(__file__, "scripts/firewall.sh")


class UfwState(Fact[Ufw]):
    """ufw with its rules, sshd's ports and the login's own connection; needs root."""

    def command(self) -> StringCommand:
        return render(Command(as_root("sh", "-c", _READ), 40))

    def parse(self, output: list[str]) -> Ufw:
        lines = [line.split() for line in output if line.strip()]
        values: dict[str, list[str]] = {words[0]: words[1:] for words in lines}
        ports = {port(words[1]) for words in lines if words[0] == "port" and words[1:]}
        return Ufw(
            installed="missing" not in values,
            active=values.get("status") == ["active"],
            incoming=(values.get("incoming") or ["DROP"])[0],
            rules=tuple(_rules(lines)),
            ssh_ports=tuple(sorted(ports & set(_listening(lines)))),
            login=_login(values.get("login", [])),
        )


def _login(words: list[str]) -> Login | None:
    """SSH_CONNECTION: the client's address and port, then the server's."""
    if len(words) != 4:
        return None
    client, _, server, at = words
    return Login(_plain(client), _plain(server), port(at))


def _plain(address: str) -> str:
    """Without an IPv6 zone; IPv4 that a socket of both kinds took stays IPv4."""
    parsed = ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _listening(lines: list[list[str]]) -> Iterator[int]:
    """Ports that others can reach; an sshd's forwarded ports on loopback are none."""
    for words in lines:
        if words[0] == "listen" and len(words) > 4:
            address, _, listened = words[4].rpartition(":")
            if not address.startswith(("127.", "[::1]")):
                yield port(listened)


def _rules(lines: list[list[str]]) -> Iterator[Rule]:
    for words in lines:
        if words[0] == "rule" and words[2:] and (rule := _rule(words[2:], v6=words[1] == "6")):
            yield rule


def _rule(words: list[str], *, v6: bool) -> Rule | None:
    """ACTION PROTO DPORT DST SPORT SRC [DAPP SAPP] in|out[_INTERFACE] [comment=HEX]; None for
    what goes out or through."""
    comment = ""
    if words[-1].startswith("comment="):
        comment = bytes.fromhex(words.pop().removeprefix("comment=")).decode(errors="replace")
    action, protocol, ports, target, source_port, source, *_, way = words
    direction, _, interface = way.partition("_")
    if direction != "in" or "!" in way or action.startswith("route:"):
        return None
    return Rule(
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
    return ANY if network in ("0.0.0.0/0", "::/0") else network
