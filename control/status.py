"""How the group stands: one document, whatever part of the cluster is dead."""

from __future__ import annotations

import msgspec
from pyinfra.api import State

from cluster.engine.log import phase
from cluster.findings import Level
from cluster.lease import MOST_SHOWN, STALE_SECONDS
from cluster.printable import json_text
from cluster.reports import status
from cluster.reports.status import LeaseHolder, Leftover, RankStatus, Status
from control import running, survey
from control.survey import Seen
from facts.answers import RankAnswers


def print_status(state: State) -> None:
    """Print the status on stdout; pyinfra's own words go to stderr."""
    print(json_text(msgspec.json.encode(status_document(survey.look(state)))), flush=True)


def status_document(seen: Seen) -> Status:
    """The document of what was read."""
    made = seen.made
    drift = reasons(seen)
    ranks = tuple(_rank(seen, n, node, drift) for n, node in enumerate(made.wanted.names))
    head = seen.answers.get(made.wanted.head, RankAnswers())
    load, served = head.load, head.models
    if head.models_status in (401, 403) and load.model:
        # A key is asked for, but not for /metrics, where the server names its model as well.
        served = (load.model,)
    left = tuple(x for node in made.hosts for x in _left(seen, node))
    told = status.describe_drift(drift, left)
    word = status.group_state(made.settings.state, ranks, served, made.model_name)
    unread = [f"{node}: {why}" for node, why in seen.silent.items()]
    unread += [f"{r.node}: {r.lost}" for r in ranks if r.lost and r.node not in seen.silent]
    return Status(
        group=made.settings.group,
        ok=word == "ready" and not (told or unread or seen.unknown),
        ready=word == "ready",
        state=word,
        declared=made.settings.state,
        wanted=made.model_name,
        served=served,
        url=_url(seen),
        load=load,
        ranks=ranks,
        leftovers=left,
        drift=told,
        unsure=seen.unknown,
        holder=_holder(seen),
        unread=tuple(unread),
        warnings=tuple(
            str(finding)
            for finding in running.exposed(made, runs=True, wanted=False)
            if finding.level is Level.WARNING
        ),
    )


def reasons(seen: Seen) -> dict[str, tuple[str, ...]]:
    """Node → what a deploy would change at its rank; a node whose ranks are not known has none."""
    if seen.plan is None:
        return {}
    blind = {n for n, facts in seen.made.facts.items() if "ranks" in facts.unread}
    found: dict[str, tuple[str, ...]] = {}
    for step in seen.plan.steps:
        if step.spec is not None and step.node not in blind:
            found[step.node] = step.reasons
    for node, policy in seen.plan.policies.items():
        found[node] = (*found.get(node, ()), f"restart policy -> {policy}")
    return found


def _rank(seen: Seen, number: int, node: str, drift: dict[str, tuple[str, ...]]) -> RankStatus:
    told = seen.answers.get(node, RankAnswers())
    return status.rank_status(
        number,
        node,
        seen.made.facts.get(node),
        survey.current(seen.made, node),
        lost=seen.silent.get(node, told.lost),
        health=told.health,
        phase=phase(told.log),
        age=told.seconds,
        drift=drift.get(node, ()),
    )


def _left(seen: Seen, node: str) -> tuple[Leftover, ...]:
    made = seen.made
    own = survey.current(made, node) if node in made.wanted.nodes else None
    return status.find_leftovers(node, survey.ranks(made, node), own)


def _holder(seen: Seen) -> LeaseHolder | None:
    if (said := seen.lease) is None:
        return None
    stale = abs(said.age) >= STALE_SECONDS
    lease = said.lease
    if lease is None:
        return LeaseHolder(owner="an unidentified run", age=said.age, stale=stale)
    owner, command = f"{lease.owner}@{lease.host}"[:MOST_SHOWN], lease.command[:MOST_SHOWN]
    return LeaseHolder(owner=owner, command=command, age=said.age, stale=stale)


def _url(seen: Seen) -> str:
    """The head's API as the reader reaches it."""
    made = seen.made
    rank = survey.current(made, made.wanted.head)
    spec = rank.spec if rank else None
    return running.reached(made.hosts[made.wanted.head], spec.launch if spec else made.settings)
