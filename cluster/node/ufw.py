"""ufw's rules as data: what a rule covers, and which one decides (the first that matches)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from cluster.node.readings import Interface, Shown

ANY = "any"
BLOCKS = ("deny", "reject")
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Rule(Shown):
    """One rule for incoming packets. "any" is everything; ports as ufw has them: "80,443", "60:70".

    + source, target: an address or a network; the target is on the node itself
    + interface: the one that packets come in by; "" for all
    + v6: it is for IPv6; a rule without an address holds for both versions, and is listed for each
    """

    action: str = "allow"
    protocol: str = ANY
    port: str = ANY
    source: str = ANY
    target: str = ANY
    source_port: str = ANY
    interface: str = ""
    v6: bool = False
    comment: str = ""

    @property
    def key(self) -> tuple[str | bool, ...]:
        """What identifies a rule to ufw: adding an equal one only changes action and comment."""
        return (self.protocol, self.port, self.source, self.target, self.source_port,
                self.interface, self.v6)  # fmt: skip

    @property
    def blocks(self) -> bool:
        return self.action in BLOCKS

    def words(self) -> tuple[str, ...]:
        """The rule as arguments of ufw, without comment."""
        came = ("in", "on", self.interface) if self.interface else ()
        source = (self.source, *(("port", self.source_port) if self.source_port != ANY else ()))
        port = ("port", self.port) if self.port != ANY else ()
        proto = ("proto", self.protocol) if self.protocol != ANY else ()
        return (self.action, *came, "from", *source, "to", self.target, *port, *proto)

    def __str__(self) -> str:
        return " ".join(self.words())

    def meets(self, packet: Rule) -> bool:
        """Whether some packet matches both rules."""
        return (
            self.v6 == packet.v6
            and _either(self.protocol, packet.protocol)
            and _either(self.interface or ANY, packet.interface or ANY)
            and ports_meet(self.port, packet.port)
            and ports_meet(self.source_port, packet.source_port)
            and networks_meet(self.source, packet.source)
            and networks_meet(self.target, packet.target)
        )

    def covers(self, packet: Rule) -> bool:
        """Whether this rule matches every packet that the other one matches."""
        return (
            self.v6 == packet.v6
            and self.protocol in (ANY, packet.protocol)
            and self.interface in ("", packet.interface)
            and _ports_cover(self.port, packet.port)
            and _ports_cover(self.source_port, packet.source_port)
            and _network_covers(self.source, packet.source)
            and _network_covers(self.target, packet.target)
        )


@dataclass(frozen=True)
class Login(Shown):
    """The present SSH connection, as the node sees it."""

    client: str
    server: str
    port: int


@dataclass(frozen=True)
class Ufw(Shown):
    """A node's ufw.

    + incoming: what happens to packets without a rule: DROP, REJECT or ACCEPT
    + rules: for incoming packets, in ufw's order, IPv4 before IPv6
    + ssh_ports: where sshd listens for others
    + login: the connection of this reading; None without SSH (the node itself)
    + no_root: sudo's words, where the login can't become root: then nothing else is known
    """

    installed: bool = True
    active: bool = False
    incoming: str = "DROP"
    rules: tuple[Rule, ...] = ()
    ssh_ports: tuple[int, ...] = ()
    login: Login | None = None
    no_root: str = ""


def deciding_rule(rules: tuple[Rule, ...], packet: Rule) -> Rule | None:
    """The first rule that matches every packet of this kind, or blocks some; None if none does."""
    for rule in rules:
        if rule.covers(packet) or (rule.blocks and rule.meets(packet)):
            return rule
    return None


def interface_of(interfaces: tuple[Interface, ...], address: str) -> str:
    """The interface that has an address; "" where none has."""
    return next((i.name for i in interfaces if address in {str(a.ip) for a in i.addresses}), "")


def port_range(port: str) -> tuple[int, int]:
    """First and last of one range."""
    low, _, high = port.partition(":")
    return int(low), int(high or low)


def ports_meet(one: str, other: str) -> bool:
    if ANY in (one, other):
        return True
    return any(
        a[0] <= b[1] and b[0] <= a[1]
        for a in map(port_range, one.split(","))
        for b in map(port_range, other.split(","))
    )


def _ports_cover(outer: str, inner: str) -> bool:
    if outer == ANY:
        return True
    ranges = [port_range(part) for part in outer.split(",")]
    return inner != ANY and all(
        any(low <= port_range(part)[0] and port_range(part)[1] <= high for low, high in ranges)
        for part in inner.split(",")
    )


def _either(one: str, other: str) -> bool:
    return one == other or ANY in (one, other)


def networks_meet(one: str, other: str) -> bool:
    if ANY in (one, other):
        return True
    a, b = _network(one), _network(other)
    return a.version == b.version and a.overlaps(b)


def _network_covers(outer: str, inner: str) -> bool:
    if outer == ANY:
        return True
    if inner == ANY:
        return False
    a, b = _network(outer), _network(inner)
    return a.version == b.version and (a.prefixlen <= b.prefixlen and a.overlaps(b))


def _network(text: str) -> Network:
    return ip_network(text, strict=False)
