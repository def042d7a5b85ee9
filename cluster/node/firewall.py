"""Which ufw rules a node needs, which of its rules are ours, and which others block them.

In this order: SSH; between the nodes, all TCP and RoCE v2 from each fabric address; the API, for
the networks in api_networks; Prometheus, Alertmanager and Grafana, for those in
monitoring_networks; or, on every node that serves, what a host that only monitors scrapes. Our
rules carry our comment; no other rule is ever changed.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cluster.fabric import Fabric, NodeFabric
from cluster.findings import Finding, error, warning
from cluster.node.readings import NodeFacts
from cluster.node.ufw import ANY, Rule, Ufw, deciding_rule, interface_of, ports_meet
from cluster.settings.schema import Settings


@dataclass(frozen=True)
class RuleContext:
    """What the rules of one node depend on, beside the settings.

    + peers: node name → fabric addresses, of the whole group; nothing for a single node
    + head: whether it answers the API
    + monitor: the IPv4 address from which a host that only monitors comes to it; "" for none
    """

    node: NodeFacts
    peers: Mapping[str, tuple[str, ...]]
    head: bool
    monitor: str = ""


def member_addresses(node: NodeFacts, member: NodeFabric) -> tuple[str, ...]:
    """Where a node sends from to its peers: the rendezvous, and both halves of its cabled port."""
    ports = {p.qsfp for p in node.rdma if p.netdev == member.interface or p.hca in member.hcas}
    halves = [p.interface for p in node.rdma if p.qsfp in ports]
    named = [i for i in node.interfaces if i.name == member.interface]
    there = [str(a.ip) for i in (*named, *halves) for a in i.addresses]
    return tuple(sorted({member.address, *there}, key=ip_address))


def peer_addresses(facts: Mapping[str, NodeFacts], fabric: Fabric) -> dict[str, tuple[str, ...]]:
    """Node name → its addresses on the fabric, head first; nothing for a single node."""
    if len(fabric.nodes) < 2:
        return {}
    return {m.name: member_addresses(facts[m.name], m) for m in fabric.nodes}


# In the comment of rules that were added while ufw was off: once they go, it may be off again.
WAS_OFF = ", ufw was off"


def rule_comment(group: str) -> str:
    """The comment that marks a rule as this group's."""
    return f"spark-serving {group}"


def is_ours(rule: Rule, group: str) -> bool:
    return rule.comment in (rule_comment(group), rule_comment(group) + WAS_OFF)


def is_twin(rule: Rule) -> bool:
    """Whether it is the IPv6 twin of a rule without addresses: ufw adds and deletes both."""
    return rule.v6 and ANY == rule.source == rule.target


def own_rules(ufw: Ufw, group: str) -> tuple[Rule, ...]:
    return tuple(r for r in ufw.rules if is_ours(r, group))


def foreign_rules(ufw: Ufw, group: str) -> tuple[Rule, ...]:
    return tuple(r for r in ufw.rules if not is_ours(r, group))


def login_packet(ufw: Ufw, node: NodeFacts, port: int) -> Rule:
    """A new SSH connection like the present one, as a rule that covers just that."""
    if ufw.login is None:
        return Rule(protocol="tcp", port=str(port))
    server, client = ufw.login.server, ufw.login.client
    interface = interface_of(node.interfaces, server)
    return Rule(protocol="tcp", port=str(port), source=client, target=server,
                interface=interface, v6=":" in client)  # fmt: skip


def lets_in(there: tuple[Rule, ...], packet: Rule) -> bool:
    """Whether the rules of others let this login in.

    If nobody is logged in, whether they let anybody in: who may come is up to them.
    """
    if packet.source == ANY:
        return any(rule.meets(packet) and not rule.blocks for rule in there)
    decides = deciding_rule(there, packet)
    return decides is not None and not decides.blocks


# RoCE v2's UDP port, by IANA.
ROCE_PORT = "4791"


def required_rules(ufw: Ufw, place: RuleContext, settings: Settings) -> tuple[Rule, ...]:
    """Every rule of ours that the node must have, SSH's first."""
    off = not ufw.active or any(r.comment.endswith(WAS_OFF) for r in own_rules(ufw, settings.group))
    comment = rule_comment(settings.group) + (WAS_OFF if off else "")
    others = [a for name, mine in place.peers.items() if name != place.node.name for a in mine]
    opened = [(str(settings.port), network) for network in settings.api_networks]
    if not place.monitor:
        opened += [(p, n) for p in monitoring_ports(settings) for n in settings.monitoring_networks]
    scraped = [(port, place.monitor) for port in scraped_ports(settings) if place.monitor]
    return (
        *(replace(rule, comment=comment) for rule in _ssh_rules(ufw, place, settings)),
        *(Rule(protocol="tcp", source=a, comment=comment) for a in others),
        *(Rule(protocol="udp", port=ROCE_PORT, source=a, comment=comment) for a in others),
        *(
            Rule(protocol="tcp", port=port, source=as_ufw_writes(network), comment=comment)
            for port, network in dict.fromkeys((opened if place.head else []) + scraped)
        ),
    )


def monitoring_ports(settings: Settings) -> dict[str, str]:
    """Port → what listens there on the head for others; nothing where it is loopback's alone.

    The exporters listen on the fabric, where every port is open to the other nodes.
    """
    if settings.monitoring == "absent" or settings.monitoring_address == "loopback":
        return {}
    names = {settings.prometheus_port: "Prometheus", settings.alertmanager_port: "Alertmanager"}
    if settings.grafana_password_file:
        names[settings.grafana_port] = "Grafana"
    return {str(port): name for port, name in names.items()}


def scraped_ports(settings: Settings) -> tuple[str, ...]:
    """The ports of each node that serves to which a host that only monitors connects."""
    if settings.monitoring == "absent":
        return ()
    return (str(settings.node_exporter_port), *[str(settings.port)] * settings.enable_metrics)


def as_ufw_writes(network: str) -> str:
    """A network as ufw stores it: no host bits, no prefix for a single address, "any" for all."""
    net = ip_network(network, strict=False)
    if net.prefixlen == 0:
        return ANY
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def _ssh_rules(ufw: Ufw, place: RuleContext, settings: Settings) -> list[Rule]:
    """The SSH rules: those that we added before, as somebody else may rely on them, and what lets
    in whoever is logged in now where no rule of others does.

    An active ufw lets SSH in as its owner wants it: then only this login counts, and only its
    address is let in.
    """
    ports = {*map(str, ufw.ssh_ports), *([str(ufw.login.port)] if ufw.login else [])}
    opened = [r for r in own_rules(ufw, settings.group) if r.port in ports and not is_twin(r)]
    login_ports = {ufw.login.port} if ufw.login else set(ufw.ssh_ports)
    others = foreign_rules(ufw, settings.group)
    shut = [
        port
        for port in sorted(login_ports if ufw.active else {*login_ports, *ufw.ssh_ports})
        if not lets_in(others, login_packet(ufw, place.node, port))
    ]
    client = ufw.login.client if ufw.login and ufw.active else ANY
    new = [Rule(protocol="tcp", port=str(p), source=client, v6=":" in client) for p in shut]
    wide = {rule.port for rule in opened if rule.source == ANY}
    return list({r.key: r for r in (*opened, *(r for r in new if r.port not in wide))}.values())


# The ports that Linux hands out (ip_local_port_range): NCCL, Gloo and ZMQ listen there.
RANDOM_PORTS = "32768:60999"


def find_obstacles(
    ufw: Ufw, wanted: Sequence[Rule], place: RuleContext, settings: Settings
) -> Iterator[Finding]:
    """Findings on what keeps the required rules from working: other rules that precede them."""
    node = place.node.name
    if not ufw.installed:
        yield error("ufw is not installed", node, "sudo apt-get install ufw", key="ufw-missing")
        return
    if ufw.active and ufw.incoming == "ACCEPT":
        yield warning(
            "ufw allows whatever has no rule (default: allow incoming): these rules block nothing",
            node,
            "sudo ufw default deny incoming",
            key="ufw-allows-all",
        )
    if not ufw.login and not ufw.ssh_ports:
        yield warning("nothing listens for SSH: no rule is added for it", node, key="ufw-no-ssh")
    api = Rule(protocol="tcp", port=str(settings.port))
    others = foreign_rules(ufw, settings.group)
    api_open = any(r.meets(api) and not r.blocks for r in others)
    if place.head and not settings.api_networks and not api_open:
        yield warning(
            f"api_networks is empty: only the nodes will reach the API, port {settings.port}",
            node,
            """--data 'api_networks=["192.168.1.0/24"]', or the same in the inventory""",
            key="api-networks-empty",
        )
    if place.head and settings.api_networks:
        yield from _wider_than_networks(ufw, place, settings)
    for rule in wanted:
        # Other rules that precede this one, and block some of what it allows.
        for other in ufw.rules:
            if other.key == rule.key and not other.blocks:
                break
            if other.blocks and not is_ours(other, settings.group) and other.meets(rule):
                yield from _obstacle(other, rule, ufw, place, settings)


def _wider_than_networks(ufw: Ufw, place: RuleContext, settings: Settings) -> Iterator[Finding]:
    """Rules of others that let more than api_networks reach the API, which listens on IPv4."""
    port = str(settings.port)
    api = Rule(protocol="tcp", port=port)
    peers = [a for mine in place.peers.values() for a in mine]
    sources = (*map(as_ufw_writes, settings.api_networks), *peers, *filter(None, [place.monitor]))
    meant = [Rule(source=source) for source in sources]
    for other in foreign_rules(ufw, settings.group):
        if other.blocks or not other.meets(api):
            continue
        some = replace(other, protocol="tcp", port=port, action="allow", comment="")
        cabled = other.interface and other.interface in _fabric_interfaces(place)
        if (
            deciding_rule(ufw.rules, some) != other
            or cabled
            or any(each.covers(some) for each in meant)
        ):
            continue
        wide = other.port == ANY or any(ports_meet(other.port, str(p)) for p in ufw.ssh_ports)
        rule = shlex.join(other.words())
        yield warning(
            f"its rule `{other}` opens the API, port {port}, to more than api_networks",
            place.node.name,
            "it opens more than the API: first add rules for what you still need (SSH!), then "
            f"sudo ufw delete {rule}"
            if wide
            else f"sudo ufw delete {rule}",
            key="firewall-api-open",
        )


def _obstacle(
    other: Rule, rule: Rule, ufw: Ufw, place: RuleContext, settings: Settings
) -> Iterator[Finding]:
    """What a rule of others blocks that one of ours allows; nothing where that does no harm."""
    what = f"its rule `{other}` comes before ours and blocks"
    cure = f"sudo ufw delete {shlex.join(other.words())}"
    node = place.node.name
    services = {str(settings.port): "the API", **monitoring_ports(settings)}
    services |= {str(settings.node_exporter_port): "node_exporter"} if place.monitor else {}
    if rule.port not in (ANY, ROCE_PORT, *services):
        # A deny that concerns only other people's logins stays as it is.
        if not ufw.login or other.meets(login_packet(ufw, place.node, int(rule.port))):
            yield error(f"{what} SSH to port {rule.port}", node, cure, key="ufw-blocks")
        return
    if rule.port in services:
        level, clients = warning, f"some of {rule.source}"
        if other.covers(rule):
            level, clients = error, rule.source
        yield level(f"{what} {services[rule.port]} for {clients}", node, cure, key="ufw-blocks")
        return
    used = f"{settings.port},{settings.dist_port},{RANDOM_PORTS}"
    unused = rule.protocol == "tcp" and not ports_meet(other.port, used)
    elsewhere = other.interface and other.interface not in _fabric_interfaces(place)
    if not (unused or elsewhere):
        yield error(f"{what} the peer {rule.source}", node, cure, key="ufw-blocks")


def _fabric_interfaces(place: RuleContext) -> set[str]:
    own = place.peers.get(place.node.name, ())
    return {interface_of(tuple(place.node.interfaces), address) for address in own}


@dataclass(frozen=True)
class UfwChange:
    """The changes to ufw on one node.

    + restrict: first set its policy to drop incoming packets that no rule matches
    + enable, disable: turn ufw itself on or off
    """

    add: tuple[Rule, ...] = ()
    remove: tuple[Rule, ...] = ()
    restrict: bool = False
    enable: bool = False
    disable: bool = False

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.restrict or self.enable or self.disable)

    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Arguments for ufw, in an order that cuts no connection on the way."""
        return (
            *([("--force", "disable")] if self.disable else []),
            *((*rule.words(), "comment", rule.comment) for rule in self.add),
            *(("delete", *rule.words()) for rule in self.remove),
            *([("default", "deny", "incoming")] if self.restrict else []),
            *([("--force", "enable")] if self.enable else []),
        )

    def lines(self) -> tuple[str, ...]:
        """What will happen, for people."""
        return (
            *(["ufw is turned off, as it was before"] if self.disable else []),
            *(f"+ {rule}" for rule in self.add),
            *(f"- {rule}" for rule in self.remove),
            *(["incoming packets without a rule are dropped by default"] if self.restrict else []),
            *(["ufw is off: turning it on, with the rules it has"] if self.enable else []),
        )


def plan_changes(ufw: Ufw, wanted: Sequence[Rule], group: str) -> UfwChange:
    """What makes our rules the wanted ones, and turns ufw on. A wanted rule that somebody else
    added remains theirs."""
    there = {rule.key for rule in ufw.rules if not is_twin(rule) and not rule.blocks}
    keys = {rule.key for rule in wanted}
    return UfwChange(
        add=tuple(rule for rule in wanted if rule.key not in there),
        remove=tuple(r for r in _removable(ufw, group) if r.key not in keys),
        restrict=not ufw.active and ufw.incoming == "ACCEPT",
        enable=not ufw.active,
    )


def _removable(ufw: Ufw, group: str) -> tuple[Rule, ...]:
    """Our rules without the IPv6 twins, which ufw deletes with the others."""
    return tuple(rule for rule in own_rules(ufw, group) if not is_twin(rule))


def plan_removal(ufw: Ufw, place: RuleContext, group: str) -> tuple[UfwChange, tuple[Finding, ...]]:
    """What removes our rules, and the findings about it.

    ufw is turned off only if it was off before our rules came and has no others; else it stays on,
    and so does the SSH rule that nothing else replaces.
    """
    node, ours, others = place.node.name, _removable(ufw, group), foreign_rules(ufw, group)
    if not ufw.active:
        return UfwChange(remove=ours), ()
    if not ours:
        return UfwChange(), ()
    if not others and all(rule.comment.endswith(WAS_OFF) for rule in ours):
        return UfwChange(remove=ours, disable=True), ()
    # Rules of ours without which this login would not get in.
    ports = [ufw.login.port] if ufw.login else ufw.ssh_ports
    who = (ANY, ufw.login.client) if ufw.login else (ANY,)
    shut = {str(p) for p in ports if not lets_in(others, login_packet(ufw, place.node, p))}
    stays = [rule for rule in ours if rule.source in who and rule.port in shut]
    staying = f" and keeps `{stays[0]}`, without which SSH would be cut" if stays else ""
    off = warning(
        f"ufw stays on{staying}", node, "sudo ufw disable, if it is not wanted", key="ufw-stays-on"
    )
    gone = tuple(rule for rule in ours if rule not in stays)
    return UfwChange(remove=gone), (off,)
