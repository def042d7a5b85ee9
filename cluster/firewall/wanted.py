"""Every rule of ours that a node must have, SSH's first."""

from __future__ import annotations

from ipaddress import ip_network

from cluster.firewall.owners import WAS_OFF, foreign, lets_in, login, mark, ours_of
from cluster.firewall.place import Place
from cluster.settings import Settings
from cluster.ufw import ANY, Rule, Ufw

# RoCE v2's UDP port, by IANA.
ROCE_PORT = "4791"


def rules(seen: Ufw, place: Place, settings: Settings) -> tuple[Rule, ...]:
    """Every rule of ours that the node must have, SSH's first."""
    off = not seen.active or any(r.comment.endswith(WAS_OFF) for r in ours_of(seen, settings.group))
    comment = mark(settings.group) + (WAS_OFF if off else "")
    others = [a for name, mine in place.peers.items() if name != place.node.name for a in mine]
    networks = settings.api_networks if place.head else ()
    return (
        *(Rule(protocol="tcp", port=str(p), comment=comment) for p in _ssh(seen, place, settings)),
        *(Rule(protocol="tcp", source=a, comment=comment) for a in others),
        *(Rule(protocol="udp", port=ROCE_PORT, source=a, comment=comment) for a in others),
        *(
            Rule(protocol="tcp", port=str(settings.port), source=_written(n), comment=comment)
            for n in dict.fromkeys(networks)
        ),
    )


def _written(network: str) -> str:
    """A network as ufw keeps it: host bits off; one address, and everything, without a prefix."""
    net = ip_network(network, strict=False)
    if net.prefixlen == 0:
        return ANY
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def _ssh(seen: Ufw, place: Place, settings: Settings) -> list[int]:
    """The SSH ports that no rule of others opens for whoever is asking now, and those that we
    opened once: somebody else may come by them.

    An active ufw lets SSH in as its owner wants it: there only this login's port is looked at.
    """
    opened = {port for port in seen.ssh_ports if _opened(port, seen, settings.group)}
    asked = {seen.login.port} if seen.login else set(seen.ssh_ports)
    ports = asked if seen.active else {*asked, *seen.ssh_ports}
    others = foreign(seen, settings.group)
    shut = {p for p in ports if not lets_in(others, login(seen, place.node, p))}
    return sorted(opened | shut)


def _opened(port: int, seen: Ufw, group: str) -> bool:
    return any(r.port == str(port) and r.source == ANY for r in ours_of(seen, group))
