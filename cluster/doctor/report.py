"""The document: what is wrong, the most telling first.

`VERSION` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.findings import Finding, Level
from cluster.status import Status

VERSION = 1
# For cures; `placed` puts the inventory's name in.
DEPLOY = "pyinfra INVENTORY deploy.py"
CHECK = "pyinfra INVENTORY deploys/check.py"


@dataclass(frozen=True, kw_only=True)
class Ailment:
    """One thing that is wrong.

    + level: an error keeps the group from serving as declared, or soon will; a warning does not
    + key: its stable name
    + where: node, or node and container; "" for the whole cluster
    + evidence: what shows it: a log's line, a program's words
    + cure: a command
    """

    level: Literal["error", "warning"]
    key: str
    cause: str
    where: str = ""
    evidence: str = ""
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The document. ok: no error (there may be warnings); looked: what was looked at."""

    version: int = VERSION
    ok: bool
    state: str
    ailments: tuple[Ailment, ...]
    looked: tuple[str, ...]


def report(status: Status, ailments: Iterable[Ailment], looked: Sequence[str]) -> Report:
    """The document: the most telling first, nothing twice."""
    told = sorted(dict.fromkeys(ailments), key=lambda a: a.level)
    return Report(
        ok=not any(a.level == "error" for a in told),
        state=status.state,
        ailments=tuple(told),
        looked=tuple(looked),
    )


def checked(findings: Iterable[Finding], told: Sequence[Ailment]) -> Iterator[Ailment]:
    """What the checks found, but for what is told already."""
    known = {(a.where.split()[0] if a.where else "", a.key.split("-")[0]) for a in told}
    for finding in findings:
        if finding.level is Level.OK or ((finding.where, "docker") in known and _docker(finding)):
            continue
        yield Ailment(
            level="error" if finding.level is Level.ERROR else "warning",
            key="check",
            cause=finding.what,
            where=finding.where,
            cure=finding.cure,
        )


def _docker(finding: Finding) -> bool:
    return "Docker" in finding.what or "could not be read" in finding.what


def placed(ailment: Ailment, inventory: str) -> Ailment:
    """The same with the inventory's name where a cure says INVENTORY."""
    return replace(ailment, cure=ailment.cure.replace("INVENTORY", inventory))
