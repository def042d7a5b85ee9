"""Whose a rule is, and whether rules let a login in."""

from __future__ import annotations

from cluster.node.readings import NodeFacts
from cluster.node.ufw import ANY, Rule, Ufw, first, interface_of

# In the comment of rules that came when ufw was off: without them it may be off again.
WAS_OFF = ", ufw was off"


def mark(group: str) -> str:
    """The comment by which a rule is known as this group's."""
    return f"spark-serving {group}"


def is_ours(rule: Rule, group: str) -> bool:
    return rule.comment in (mark(group), mark(group) + WAS_OFF)


def is_twin(rule: Rule) -> bool:
    """ufw adds and deletes it together with the IPv4 rule that names no address either."""
    return rule.v6 and ANY == rule.source == rule.target


def ours_of(seen: Ufw, group: str) -> tuple[Rule, ...]:
    return tuple(r for r in seen.rules if is_ours(r, group))


def foreign(seen: Ufw, group: str) -> tuple[Rule, ...]:
    return tuple(r for r in seen.rules if not is_ours(r, group))


def login(seen: Ufw, node: NodeFacts, port: int) -> Rule:
    """A new SSH connection like the present one, as a rule that covers just that."""
    if seen.login is None:
        return Rule(protocol="tcp", port=str(port))
    server, client = seen.login.server, seen.login.client
    interface = interface_of(node.interfaces, server)
    return Rule(protocol="tcp", port=str(port), source=client, target=server,
                interface=interface, v6=":" in client)  # fmt: skip


def lets_in(there: tuple[Rule, ...], packet: Rule) -> bool:
    """Whether rules of others let this login in; where nobody is logged in, whether they let in
    anybody: then who may come is theirs to say."""
    if packet.source == ANY:
        return any(rule.meets(packet) and not rule.blocks for rule in there)
    decides = first(there, packet)
    return decides is not None and not decides.blocks
