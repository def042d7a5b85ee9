"""How a deploy ended, as data: the document that `--data report=FILE` writes.

It is written when the run begins, at every step and at the end, each time as a whole: a run that
is killed leaves a document that says "interrupted". It never holds a secret.
"""

from typing import Literal

import msgspec

from cluster.findings import Finding
from cluster.printable import printable

Result = Literal["converged", "changed", "planned", "refused", "failed", "interrupted"]
Step = Literal[
    "start", "check", "image", "vocabularies", "weights", "recheck", "api_key", "switch", "end"
]


class OutcomeFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    + level: "error" or "warning"
    + key: names the kind of problem, whatever the words of `what`; "" where it has no name
    + where: a node's name, or "" for the whole cluster
    + cure: a command or a setting; "" where there is none
    """

    level: str
    what: str
    key: str = ""
    where: str = ""
    cure: str = ""


class ServedNow(msgspec.Struct, frozen=True, kw_only=True):
    """The group that serves when the run ends, as far as the run knows.

    + model: the id under which the API serves it
    + url: of the head's API, as the reader of the document reaches it
    + ready: whether it answered; null: this run did not check
    """

    model: str
    url: str
    ready: bool | None


class PreviousServed(msgspec.Struct, frozen=True, kw_only=True):
    """The group that served before a switch that failed; `restored`: whether it serves again."""

    model: str
    restored: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The document.

    + version: of the document: 1. Fields may be added to a version; none changes its meaning
    + outcome: converged: everything was as declared; changed: it is so now; planned: nothing was to
      be carried out (--dry); refused: a check failed, and no rank was touched; failed: something
      else went wrong; interrupted: the run ended by a signal, or has not ended
    + step: what the run was doing last; "end" if it came to its end
    + group, model: that were declared; "" if the declaration could not be read
    + findings: why it was refused, or failed; warnings too. The cause comes first
    + plan: a line for each change that was planned
    + serves: what serves when the run ends; null: nothing of this group, or it is unknown
    + previous: the group before a failed switch; null: there was none, or nothing was switched
    """

    outcome: Result
    step: Step
    version: int = 1
    group: str = ""
    model: str = ""
    findings: tuple[OutcomeFinding, ...] = ()
    plan: tuple[str, ...] = ()
    serves: ServedNow | None = None
    previous: PreviousServed | None = None


def outcome_finding(finding: Finding) -> OutcomeFinding:
    """A finding as the document has it."""
    return OutcomeFinding(
        level=finding.level.value,
        key=finding.key,
        what=printable(finding.what),
        where=finding.where,
        cure=printable(finding.cure),
    )
