"""What is wrong with the answers, probe by probe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.probes.abilities import Abilities
from cluster.probes.exchange import ProbeReply

Outcome = Literal["right", "wrong", "skipped"]


@dataclass(frozen=True)
class ProbeVerdict:
    """What one probe found.

    + asked, answered: what was sent and came, in short; as the server sent it, so not printable
    + why: what is wrong, or why the probe was skipped; "" where all is right
    + causes: what usually causes it, the likeliest first
    + tried_on: on what this probe was right, and how often
    + fails: whether it is wrong and that fails a switch; otherwise it is a warning
    """

    name: str
    outcome: Outcome
    asked: str = ""
    answered: str = ""
    why: str = ""
    causes: tuple[str, ...] = ()
    tried_on: str = ""
    fails: bool = False


def judge(
    abilities: Abilities, replies: Sequence[ProbeReply], *, strict: bool = False
) -> tuple[ProbeVerdict, ...]:
    """A verdict for each probe.

    + replies: to the requests of `probe_rounds` for the same abilities; a missing one counts as
      unanswered
    + strict: every wrong probe fails a switch, on whatever it was tried
    """
    return ()
