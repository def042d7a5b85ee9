"""What ufw must be told to have our rules, or to have them no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.findings import Finding, warning
from cluster.node.firewall.owners import WAS_OFF, foreign, is_twin, lets_in, login, ours_of
from cluster.node.firewall.place import Place
from cluster.node.ufw import ANY, Rule, Ufw


@dataclass(frozen=True)
class Change:
    """What ufw must be told on one node.

    + restrict: its policy must first become to drop what has no rule
    + enable, disable: ufw itself
    """

    add: tuple[Rule, ...] = ()
    remove: tuple[Rule, ...] = ()
    restrict: bool = False
    enable: bool = False
    disable: bool = False

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.restrict or self.enable or self.disable)

    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Arguments of ufw, in the order in which nothing is cut on the way."""
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
            *(["ufw is switched off, as it was before"] if self.disable else []),
            *(f"+ {rule}" for rule in self.add),
            *(f"- {rule}" for rule in self.remove),
            *(["incoming packets without a rule are dropped by default"] if self.restrict else []),
            *(["ufw is off: it is switched on, with the rules that it has"] if self.enable else []),
        )


def changes(seen: Ufw, wanted: Sequence[Rule], group: str) -> Change:
    """What brings ours to be the wanted rules, and ufw to be on. A wanted rule that somebody else
    has made stays theirs."""
    there = {rule.key for rule in seen.rules if not is_twin(rule) and not rule.blocks}
    keys = {rule.key for rule in wanted}
    return Change(
        add=tuple(rule for rule in wanted if rule.key not in there),
        remove=tuple(r for r in _removable(seen, group) if r.key not in keys),
        restrict=not seen.active and seen.incoming == "ACCEPT",
        enable=not seen.active,
    )


def _removable(seen: Ufw, group: str) -> tuple[Rule, ...]:
    """Ours, but for the IPv6 twins."""
    return tuple(rule for rule in ours_of(seen, group) if not is_twin(rule))


def absence(seen: Ufw, place: Place, group: str) -> tuple[Change, tuple[Finding, ...]]:
    """What takes ours away. ufw is switched off only where it was off before ours came and has no
    other rules; else it stays on, and with it the SSH rule that nothing else stands in for."""
    node, ours, others = place.node.name, _removable(seen, group), foreign(seen, group)
    if not seen.active:
        return Change(remove=ours), ()
    if not ours:
        return Change(), ()
    if not others and all(rule.comment.endswith(WAS_OFF) for rule in ours):
        return Change(remove=ours, disable=True), ()
    stays = [rule for rule in ours if _needed(rule, seen, place, others)]
    told = f" and keeps `{stays[0]}`, without which SSH would be cut" if stays else ""
    off = warning(f"ufw stays on{told}", node, "sudo ufw disable, if it is not wanted")
    gone = tuple(rule for rule in ours if rule not in stays)
    return Change(remove=gone), (off,)


def _needed(rule: Rule, seen: Ufw, place: Place, others: tuple[Rule, ...]) -> bool:
    """Whether the login comes in by this rule of ours alone."""
    ports = [seen.login.port] if seen.login else seen.ssh_ports
    who = (ANY, seen.login.client) if seen.login else (ANY,)
    return rule.source in who and any(
        rule.port == str(port) and not lets_in(others, login(seen, place.node, port))
        for port in ports
    )
