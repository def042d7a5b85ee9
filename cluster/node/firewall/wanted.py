"""Every rule of ours that a node must have, SSH's first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from cluster.node.firewall.owners import WAS_OFF, foreign, is_twin, lets_in, login, mark, ours_of
from cluster.node.firewall.place import Place
from cluster.node.ufw import ANY, Rule, Ufw
from cluster.settings.schema import Settings

# RoCE v2's UDP port, by IANA.
ROCE_PORT = "4791"


def rules(seen: Ufw, place: Place, settings: Settings) -> tuple[Rule, ...]:
    """Every rule of ours that the node must have, SSH's first."""
    off = not seen.active or any(r.comment.endswith(WAS_OFF) for r in ours_of(seen, settings.group))
    comment = mark(settings.group) + (WAS_OFF if off else "")
    others = [a for name, mine in place.peers.items() if name != place.node.name for a in mine]
    networks = settings.api_networks if place.head else ()
    return (
        *(replace(rule, comment=comment) for rule in _ssh(seen, place, settings)),
        *(Rule(protocol="tcp", source=a, comment=comment) for a in others),
        *(Rule(protocol="udp", port=ROCE_PORT, source=a, comment=comment) for a in others),
        *(
            Rule(protocol="tcp", port=str(settings.port), source=written(n), comment=comment)
            for n in dict.fromkeys(networks)
        ),
    )


def written(network: str) -> str:
    """A network as ufw keeps it: host bits off; one address, and everything, without a prefix."""
    net = ip_network(network, strict=False)
    if net.prefixlen == 0:
        return ANY
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def _ssh(seen: Ufw, place: Place, settings: Settings) -> list[Rule]:
    """What lets in whoever is asking now, where no rule of others does, and what we opened once:
    somebody else may come by it.

    An active ufw lets SSH in as its owner wants it: there only this login is looked at, and its
    address alone is let in.
    """
    ports = {*map(str, seen.ssh_ports), *([str(seen.login.port)] if seen.login else [])}
    opened = [r for r in ours_of(seen, settings.group) if r.port in ports and not is_twin(r)]
    asked = {seen.login.port} if seen.login else set(seen.ssh_ports)
    others = foreign(seen, settings.group)
    shut = [
        port
        for port in sorted(asked if seen.active else {*asked, *seen.ssh_ports})
        if not lets_in(others, login(seen, place.node, port))
    ]
    client = seen.login.client if seen.login and seen.active else ANY
    new = [Rule(protocol="tcp", port=str(p), source=client, v6=":" in client) for p in shut]
    wide = {rule.port for rule in opened if rule.source == ANY}
    return list({r.key: r for r in (*opened, *(r for r in new if r.port not in wide))}.values())
