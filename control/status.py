"""How the group stands: one document, whatever part of the cluster is dead."""

from collections.abc import Sequence

import msgspec
from pyinfra.api import State

from cluster.engine.log import phase
from cluster.findings import Level
from cluster.lease import MOST_SHOWN, STALE_SECONDS
from cluster.plan.decide import exposure_findings
from cluster.printable import json_text
from cluster.reports import status
from cluster.reports.status import LeaseHolder, Leftover, RankStatus, Status
from control.inventory import api_url
from control.survey import Survey, take_survey
from facts.answers import RankAnswers


def print_status(state: State) -> None:
    """Print the status on stdout; pyinfra's own words go to stderr."""
    survey = take_survey(state)
    document = status_document(survey, group_url(survey))
    print(json_text(msgspec.json.encode(document)), flush=True)


def group_url(survey: Survey) -> str:
    """The head's API as the reader reaches it."""
    decision = survey.decision
    rank = survey.current_rank(decision.declaration.head)
    launch = rank.spec.launch if rank and rank.spec else decision.settings
    return api_url(survey.hosts[decision.declaration.head], launch)


def status_document(survey: Survey, url: str) -> Status:
    """The document of what was read."""
    decision = survey.decision
    drift = status.drift_by_node(decision)
    ranks = tuple(
        _rank(survey, number, node, drift.get(node, ()))
        for number, node in enumerate(decision.declaration.names)
    )
    head = survey.answers.get(decision.declaration.head, RankAnswers())
    load, served = head.load, head.models
    if head.models_status in (401, 403) and load.model:
        # A key is asked for, but not for /metrics, where the server names its model as well.
        served = (load.model,)
    leftovers = tuple(each for node in survey.hosts for each in _leftovers(survey, node))
    drift_lines = status.describe_drift(drift, leftovers)
    state = status.group_state(decision.settings.state, ranks, served, decision.model_name)
    unread = [f"{node}: {why}" for node, why in survey.silent.items()]
    unread += [f"{r.node}: {r.lost}" for r in ranks if r.lost and r.node not in survey.silent]
    unsure = "; ".join(dict.fromkeys(finding.what for finding in decision.refusal))
    exposed = exposure_findings(decision, runs=True, declared=False)
    return Status(
        group=decision.settings.group,
        ok=state == "ready" and not (drift_lines or unread or unsure),
        ready=state == "ready",
        state=state,
        declared=decision.settings.state,
        wanted=decision.model_name,
        served=served,
        url=url,
        load=load,
        ranks=ranks,
        leftovers=leftovers,
        drift=drift_lines,
        unsure=unsure,
        holder=_lease_holder(survey),
        unread=tuple(unread),
        warnings=tuple(str(f) for f in exposed if f.level is Level.WARNING),
    )


def _rank(survey: Survey, number: int, node: str, drift: Sequence[str]) -> RankStatus:
    answers = survey.answers.get(node, RankAnswers())
    return status.rank_status(
        number,
        node,
        survey.nodes.get(node),
        survey.current_rank(node),
        lost=survey.silent.get(node, answers.lost),
        health=answers.health,
        phase=phase(answers.log),
        age=answers.seconds,
        drift=drift,
    )


def _leftovers(survey: Survey, node: str) -> tuple[Leftover, ...]:
    own = survey.current_rank(node) if node in survey.decision.declaration.nodes else None
    return status.find_leftovers(node, survey.ranks(node), own)


def _lease_holder(survey: Survey) -> LeaseHolder | None:
    if (reply := survey.lease) is None:
        return None
    stale = abs(reply.age) >= STALE_SECONDS
    lease = reply.lease
    if lease is None:
        return LeaseHolder(owner="an unidentified run", age=reply.age, stale=stale)
    owner, command = f"{lease.owner}@{lease.host}"[:MOST_SHOWN], lease.command[:MOST_SHOWN]
    return LeaseHolder(owner=owner, command=command, age=reply.age, stale=stale)
