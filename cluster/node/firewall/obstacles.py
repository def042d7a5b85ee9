"""What keeps our rules from working: no ufw, or rules of others that come before them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.findings import Finding, error, warning
from cluster.node.firewall.owners import foreign, is_ours, login
from cluster.node.firewall.place import Place
from cluster.node.firewall.wanted import ROCE_PORT, written
from cluster.node.ufw import ANY, Rule, Ufw, first, interface_of, ports_meet
from cluster.settings.schema import Settings

# The ports that Linux hands out (ip_local_port_range): NCCL, Gloo and ZMQ listen there.
RANDOM_PORTS = "32768:60999"


def problems(
    seen: Ufw, wanted: Sequence[Rule], place: Place, settings: Settings
) -> Iterator[Finding]:
    """What keeps the wanted rules from working: rules of others that come before them."""
    node = place.node.name
    if not seen.installed:
        yield error("ufw is not installed", node, "sudo apt-get install ufw")
        return
    if seen.active and seen.incoming == "ACCEPT":
        yield warning(
            "ufw lets in what has no rule (default: allow incoming): these rules close nothing",
            node,
            "sudo ufw default deny incoming",
        )
    if not seen.login and not seen.ssh_ports:
        yield warning("nothing listens for SSH: no rule is made for it", node)
    if place.head and not settings.api_networks and not _api_open(seen, settings):
        yield warning(
            f"api_networks names no network: nobody but the nodes will reach the API, port "
            f"{settings.port}",
            node,
            """--data 'api_networks=["192.168.1.0/24"]', or the same in the inventory""",
        )
    if place.head and settings.api_networks:
        yield from _wider(seen, place, settings)
    for rule in wanted:
        for other in _before(seen, rule, settings.group):
            if finding := _obstacle(other, rule, seen, place, settings):
                yield finding


def _api_open(seen: Ufw, settings: Settings) -> bool:
    """Whether somebody else's rule lets the API's clients in."""
    api = Rule(protocol="tcp", port=str(settings.port))
    return any(r.meets(api) and not r.blocks for r in foreign(seen, settings.group))


def _wider(seen: Ufw, place: Place, settings: Settings) -> Iterator[Finding]:
    """Rules of others that let more than api_networks reach the API, which listens on IPv4."""
    port = str(settings.port)
    api = Rule(protocol="tcp", port=port)
    peers = [a for mine in place.peers.values() for a in mine]
    meant = [Rule(source=source) for source in (*map(written, settings.api_networks), *peers)]
    for other in foreign(seen, settings.group):
        if other.blocks or not other.meets(api):
            continue
        some = replace(other, protocol="tcp", port=port, action="allow", comment="")
        cabled = other.interface and other.interface in _fabric_interfaces(place)
        if first(seen.rules, some) != other or cabled or any(each.covers(some) for each in meant):
            continue
        wide = other.port == ANY or any(ports_meet(other.port, str(p)) for p in seen.ssh_ports)
        rule = shlex.join(other.words())
        yield warning(
            f"its rule `{other}` opens the API, port {port}, to more than api_networks",
            place.node.name,
            "it opens more than the API: first add rules for what you still need (SSH!), then "
            f"sudo ufw delete {rule}"
            if wide
            else f"sudo ufw delete {rule}",
        )


def _before(seen: Ufw, rule: Rule, group: str) -> Iterator[Rule]:
    """Rules of others that block some of what this one shall let in, and come before it."""
    for other in seen.rules:
        if other.key == rule.key and not other.blocks:
            return
        if other.blocks and not is_ours(other, group) and other.meets(rule):
            yield other


def _obstacle(
    other: Rule, rule: Rule, seen: Ufw, place: Place, settings: Settings
) -> Finding | None:
    what = f"its rule `{other}` comes before ours and blocks"
    cure = f"sudo ufw delete {shlex.join(other.words())}"
    node = place.node.name
    if rule.port not in (ANY, ROCE_PORT, str(settings.port)):
        # Another's deny for somebody else stays as it is.
        if seen.login and not other.meets(login(seen, place.node, int(rule.port))):
            return None
        return error(f"{what} SSH to port {rule.port}", node, cure)
    if rule.port == str(settings.port):
        level = error if other.covers(rule) else warning
        return level(f"{what} the API for {_whom(other, rule)}", node, cure)
    used = f"{settings.port},{settings.dist_port},{RANDOM_PORTS}"
    if rule.protocol == "tcp" and not ports_meet(other.port, used):
        return None
    if other.interface and other.interface not in _fabric_interfaces(place):
        return None
    return error(f"{what} the peer {rule.source}", node, cure)


def _whom(other: Rule, rule: Rule) -> str:
    return rule.source if other.covers(rule) else f"some of {rule.source}"


def _fabric_interfaces(place: Place) -> set[str]:
    own = place.peers.get(place.node.name, ())
    return {interface_of(tuple(place.node.interfaces), address) for address in own}
