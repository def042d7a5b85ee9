"""What the ranks' own words say, those of failed ones too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from cluster.doctor.report import CHECK, DEPLOY, Ailment
from cluster.engine.diagnosis import Diagnosis, End, Weight, diagnose, transport
from cluster.engine.log import STOPPING, last_words
from cluster.node.readings import Rank
from cluster.status import Status

# Of a failed rank that was kept: its last lines, and how much of each.
WORDS = 3
WORD_LENGTH = 120


@dataclass(frozen=True)
class Words:
    """What a container said, and how it ended.

    + lines: of its log; transport: NCCL's lines that tell what carries its traffic
    """

    node: str
    rank: Rank
    lines: Sequence[str] = ()
    transport: Sequence[str] = ()


def logs(words: Sequence[Words], *, ready: bool, rdma: bool) -> Iterator[Ailment]:
    """What the ranks' own words say. In a group that serves they are warnings: it got over them.

    + rdma: the fabric was chosen for RDMA
    """
    found = [(w, d) for w in words for d in _telling(w, ready)]
    causes = any(d.weight <= Weight.FAILED for _, d in found) or any(map(_asked_to_end, words))
    for said, diagnosis in sorted(found, key=lambda pair: pair[1].weight):
        follows = causes and diagnosis.weight >= Weight.PEER
        mild = ready or follows or diagnosis.weight is Weight.NOTE
        yield _said(said, diagnosis, "warning" if mild else "error")
    if rdma:
        yield from _slow(words)


def _asked_to_end(words: Words) -> bool:
    """Whether the rank was stopped, by a deploy or by hand: that the others lost it follows."""
    return not words.rank.running and any(STOPPING in line for line in words.lines)


def _telling(words: Words, ready: bool) -> list[Diagnosis]:
    """What a rank's log tells, without what only follows from the rest of it; one that serves again
    has no end to explain."""
    told = diagnose(words.lines, _end(words.rank))
    why = any(d.weight < Weight.CONSEQUENCE for d in told)
    told = tuple(d for d in told if not (why and d.weight is Weight.CONSEQUENCE))
    return [d for d in told if not (ready and words.rank.running and d.key == "ended")]


def _end(rank: Rank) -> End:
    return End(rank.exit_code, rank.oom_killed, rank.restarts)


def _said(words: Words, d: Diagnosis, level: Literal["error", "warning"]) -> Ailment:
    return Ailment(
        level=level,
        key=d.key,
        cause=d.cause,
        where=f"{words.node} {words.rank.called}",
        evidence=d.evidence,
        cure=d.cure,
    )


def _slow(words: Sequence[Words]) -> Iterator[Ailment]:
    for said in words:
        told = transport(said.transport)
        if told.kind == "tcp" and said.rank.running:
            yield Ailment(
                level="error",
                key="nccl-tcp",
                cause="NCCL carries the traffic over TCP, 10 to 20 times slower than RDMA",
                where=f"{said.node} {said.rank.called}",
                evidence=told.evidence,
                cure=f"{CHECK} tells what the fabric lacks; ibdev2netdev and rdma link on the node",
            )


def leftovers(status: Status, words: Sequence[Words]) -> Iterator[Ailment]:
    """Containers of failed or interrupted switches, with their last words."""
    said = {(w.node, w.rank.called): w for w in words}
    switching = status.holder is not None and not status.holder.stale
    for left in status.leftovers:
        if left.kind == "stray" or (left.kind == "previous" and switching):
            continue
        found = said.get((left.node, left.container))
        yield Ailment(
            level="warning",
            key=f"left-{left.kind}",
            cause="a failed rank was kept to be looked at"
            if left.kind == "failed"
            else "a switch was interrupted: the group before it is still set aside",
            where=f"{left.node} {left.container}",
            evidence=_last(found) if found else left.state,
            cure=f"docker logs {quote(left.container)} on it; the next deploy clears it"
            if left.kind == "failed"
            else f"{DEPLOY} takes the switch up where it ended",
        )


def _last(words: Words) -> str:
    return " / ".join(line[:WORD_LENGTH] for line in last_words(words.lines, WORDS))
