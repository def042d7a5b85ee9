"""How a problem is reported: what is wrong, where, and the cure."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

from cluster.printable import printable


class Level(Enum):
    """How bad a finding is; only an ERROR refuses a deploy."""

    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    """One problem, or one thing that is in order.

    + level: an error refuses the deploy, a warning is printed, ok is shown by `check` alone
    + what: one sentence: the setting or the thing, its value, and what is allowed
    + where: the node's name, or "" for the whole cluster
    + cure: how to fix it, as a command if there is one; "" if nothing needs fixing
    + key: names the kind of problem, for programs, whatever its words; "" for what is in order
    """

    level: Level
    what: str
    where: str = ""
    cure: str = ""
    key: str = ""

    def __str__(self) -> str:
        """In one line, printable: it quotes nodes, hubs and servers."""
        place = f"{self.where}: " if self.where else ""
        cure = f" -> {self.cure}" if self.cure else ""
        return printable(f"{place}{self.what}{cure}")


def error(what: str, where: str = "", cure: str = "", *, key: str) -> Finding:
    return Finding(Level.ERROR, what, where, cure, key)


def warning(what: str, where: str = "", cure: str = "", *, key: str) -> Finding:
    return Finding(Level.WARNING, what, where, cure, key)


def ok(what: str, where: str = "", key: str = "") -> Finding:
    return Finding(Level.OK, what, where, key=key)


class Refused(Exception):
    """The deploy is refused before anything changed; `findings` say why (at least one ERROR)."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(str(f) for f in findings))


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raise Refused with every ERROR among the findings, if there is one."""
    errors = [f for f in findings if f.level is Level.ERROR]
    if errors:
        raise Refused(*errors)


def nearest_names(word: str, names: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Up to three names that are spelled like a word, the most similar first.

    + cutoff: how similar they must be, from 0 (anything) to 1 (the same)
    """
    return get_close_matches(word, list(names), n=3, cutoff=cutoff)


def did_you_mean(word: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """ "; did you mean a or b?", or "" where no name is close to the word."""
    near = nearest_names(word, names, cutoff=cutoff)
    return f"; did you mean {' or '.join(near)}?" if near else ""
