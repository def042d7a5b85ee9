"""How the group stands: one document, whatever part of the cluster is dead.

pyinfra connects to all hosts of an inventory before it runs a deploy file, and a host that is off
ends the run there. So a deploy that must look at a broken cluster runs on `@local`, gets the
inventory as data, and connects by itself:

    pyinfra -y @local deploys/status.py --data inventory=inventories/spark.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gevent
from pyinfra.api import Host, State

from cluster import findings, lease
from cluster.engine.log import phase
from cluster.engine.nccl import collectives_of
from cluster.lease import LeaseAnswer
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts, Rank
from cluster.plan import decide, previous_group, specs
from cluster.rank.spec import local_url
from cluster.reports import status
from cluster.reports.watch import Watch
from control import converge, deployment as nodes, inventory, run
from control.deployment import Deployment
from facts.answers import Answers, RankAnswers
from facts.monitoring import Watching
from operations import shell

CONNECT_SECONDS = 5
# Seconds. A healthy Docker answers in well under one.
DOCKER_SECONDS = 5
# Seconds for connecting and reading, even with a Docker that does not answer.
NODE_SECONDS = 9
ANSWER_SECONDS = 8
LEASE_SECONDS = 4


def print_status(state: State) -> None:
    """Print the status on stdout."""
    survey = take_survey(state)
    run.print_document(status_document(survey, group_url(survey)))


# ---- what can be read of the cluster


@dataclass(frozen=True)
class Survey:
    """What could be read of a cluster, and the decision on it.

    + hosts: every host of the inventory
    + decision: its readings list the silent nodes; its refusal says why the plan is not known
    + answers: node -> what its rank answers, and the last lines of its log
    + lease: what the head says of who changes the group; None if nobody does
    + watch: what watches the group, as its own host says; None if nothing does
    """

    hosts: Mapping[str, Host]
    decision: decide.Decision
    answers: Mapping[str, RankAnswers] = field(default_factory=dict)
    lease: LeaseAnswer | None = None
    watch: Watch | None = None

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """The readings as they are; `decision.facts` are as if no switch had been interrupted."""
        return self.decision.readings.nodes

    @property
    def silent(self) -> Mapping[str, str]:
        return self.decision.readings.silent

    def ranks(self, node: str) -> tuple[Rank, ...]:
        """The group's ranks on a node that answered, as they are called there."""
        group = self.decision.settings.group
        return previous_group.members(self.nodes[node], group) if node in self.nodes else ()

    def current_rank(self, node: str) -> Rank | None:
        """The rank that holds the group's place on a node: the one under the declared name, else
        one that is alive."""
        ranks = self.ranks(node)
        name = specs.rank_names(self.decision.declaration).get(node)
        named = next((rank for rank in ranks if rank.name == name), None)
        return named or next((rank for rank in ranks if rank.alive), None)


def named_state(state: State, seconds: int = CONNECT_SECONDS) -> State:
    """The state of the inventory that the data name, not connected; or this very state.

    Data: `inventory`, `group_data` (a further folder of it); the rest overrides what they say.

    + seconds: that a connection may take
    """
    data: dict[str, Any] = dict(state.inventory.get_override_data())  # type: ignore[no-untyped-call]
    name, folder = data.pop("inventory", None), data.pop("group_data", None)
    data.pop(inventory.REPORT, None)
    if not name:
        return state
    config = state.config.copy()
    config.CONNECT_TIMEOUT = seconds
    hosts = inventory.load_inventory(str(name), data, [folder] if folder else [])
    return State(hosts, config)


def take_survey(state: State, *, full: bool = False) -> Survey:
    """Read every node, decide, then query every rank; each step bounded in time, whatever the
    nodes do. Refused if the declaration itself is wrong.

    + full: read the disks too, and nothing of monitoring
    """
    named = named_state(state)
    deployment = converge.declared_deployment(named)
    readings = _read_nodes(deployment, full=full)
    decision = decide.decide(deployment.declaration, deployment.model, readings)
    survey = Survey(deployment.hosts, decision)
    answering = [n for n in survey.nodes if n in deployment.declaration.names]
    asking = gevent.spawn(
        shell.on_all, [survey.hosts[name] for name in answering], partial(_ask_rank, survey)
    )
    heads = [deployment.head] if deployment.declaration.head in survey.nodes else []
    monitor = inventory.monitor(named)
    watchers = [] if full else [monitor] if monitor else heads
    watching = gevent.spawn(shell.on_all, watchers, partial(_read_watch, survey))
    if decision.undecided_image:
        readings = replace(readings, version=_image_version(deployment, readings))
        decision = decide.decide(deployment.declaration, deployment.model, readings)
    answers, watch = asking.get(), next(iter(watching.get().values()), None)
    holder = None
    if deployment.declaration.head in survey.nodes:
        command = lease.read_lease(deployment.settings.group, LEASE_SECONDS)
        output = shell.run_command(deployment.head, command)
        holder = lease.parse_lease_answer(output.out) if output.ok else None
    return Survey(deployment.hosts, decision, answers, holder, watch)


def _read_nodes(deployment: Deployment, *, full: bool) -> decide.Readings:
    def read(host: Host) -> shell.Reading[NodeFacts]:
        settings, disks = deployment.settings_of(host), ["/"]
        if settings.runtime == "docker":
            disks += [*IMAGE_FOLDERS, settings.hf_cache]
        options = nodes.reading_options(host.name, deployment.declaration) | {
            "disks": disks if full else [],
            "full": True,
            "seconds": DOCKER_SECONDS,
        }
        return nodes.read_node(host, options, NODE_SECONDS)

    readings = shell.on_all(deployment.hosts.values(), read)
    return decide.Readings(
        nodes={name: r.value for name, r in readings.items() if r.value},
        silent={name: r.why for name, r in readings.items() if not r.value},
    )


def _image_version(deployment: Deployment, readings: decide.Readings) -> str:
    """What the head's image says, as a deploy would read it; else the likeliest version."""
    image = deployment.settings.image

    def read(host: Host) -> str:
        try:
            return nodes.read_image_version(host, image, ANSWER_SECONDS)
        except findings.Refused:
            return decide.assumed_version(deployment.declaration, readings)

    return shell.on_all([deployment.head], read)[deployment.head.name]


def _read_watch(survey: Survey, at: Host) -> Watch | None:
    """What watches the group; None also where the head could not say it.

    + at: the head, or the host that only monitors
    """
    settings, fact = survey.decision.settings, Watching()
    if settings.runtime != "docker":
        return None
    reading = shell.read_fact(at, fact, fact.command(settings.group), ANSWER_SECONDS)
    if at.name in survey.hosts:
        return reading.value
    if reading.value is None and not reading.why:
        return None
    return replace(
        reading.value or Watch(address="", answers=False, lost=reading.why), host=at.name
    )


def _ask_rank(survey: Survey, host: Host) -> RankAnswers:
    """What a node's rank answers; of the head also the model and the load."""
    declaration, rank = survey.decision.declaration, survey.current_rank(host.name)
    settings = declaration.nodes[host.name]
    spec = rank.spec if rank else None
    unread = "ranks" in survey.nodes[host.name].unread
    fact = Answers()
    script = fact.command(
        spec.url if spec else local_url(settings.host, settings.port),
        settings.runtime,
        "" if unread or rank is None else rank.name,
        head=host.name == declaration.head,
        pid=rank.id if rank and settings.runtime == "process" else "",
        group=settings.group if settings.runtime == "docker" else "",
    )
    reading = shell.read_fact(host, fact, script, ANSWER_SECONDS, failed=True)
    return reading.value or RankAnswers(lost=reading.why or "it answered nothing")


# ---- the document


def group_url(survey: Survey) -> str:
    """The head's API as the reader reaches it."""
    decision = survey.decision
    rank = survey.current_rank(decision.declaration.head)
    launch = rank.spec.launch if rank and rank.spec else decision.settings
    return inventory.api_url(survey.hosts[decision.declaration.head], launch)


def status_document(survey: Survey, url: str) -> status.Status:
    """The document of what was read."""
    decision = survey.decision
    drift = status.drift_by_node(decision)
    ranks = tuple(
        _rank_status(survey, number, node, drift.get(node, ()))
        for number, node in enumerate(decision.declaration.names)
    )
    head = survey.answers.get(decision.declaration.head, RankAnswers())
    load, served = head.load, head.models
    if head.models_status in (401, 403) and load.model:
        # The API requires a key, /metrics does not, and the server names its model there too.
        served = (load.model,)
    leftovers = _leftovers(survey)
    drift_lines = status.describe_drift(drift, leftovers)
    state = status.group_state(decision.settings.state, ranks, served, decision.model_name)
    unread = [f"{node}: {why}" for node, why in survey.silent.items()]
    unread += [f"{r.node}: {r.lost}" for r in ranks if r.lost and r.node not in survey.silent]
    unsure = "; ".join(dict.fromkeys(finding.what for finding in decision.refusal))
    judged = (
        *nccl_findings(survey),
        *decide.exposure_findings(decision, runs=True, declared=False),
        *decide.probes_off(decision.settings),
    )
    by_level = {
        level: tuple(str(finding) for finding in judged if finding.level is level)
        for level in findings.Level
    }
    return status.Status(
        group=decision.settings.group,
        ok=state == "ready"
        and not (drift_lines or unread or unsure or by_level[findings.Level.ERROR]),
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
        holder=status.lease_holder(survey.lease) if survey.lease else None,
        watch=survey.watch,
        unread=tuple(unread),
        errors=by_level[findings.Level.ERROR],
        warnings=by_level[findings.Level.WARNING],
    )


def nccl_findings(survey: Survey) -> tuple[findings.Finding, ...]:
    """What is wrong with the NCCL that the running group loaded."""
    decision = survey.decision
    specs = {node: rank.spec for node, rank in decision.running_ranks.items() if rank.spec}
    if not specs:
        return ()
    loaded = {n: answers.nccl for n, answers in survey.answers.items() if n in specs}
    return collectives_of(specs, decision.declaration, decision.model).findings(loaded)


def _rank_status(survey: Survey, number: int, node: str, drift: Sequence[str]) -> status.RankStatus:
    answers = survey.answers.get(node, RankAnswers())
    return status.rank_status(
        number,
        node,
        survey.nodes.get(node),
        survey.current_rank(node),
        lost=survey.silent.get(node, answers.lost),
        health=answers.health,
        phase=phase(answers.log),
        nccl=answers.nccl,
        age=answers.seconds,
        drift=drift,
        watchdog=answers.watchdog,
    )


def _leftovers(survey: Survey) -> tuple[status.Leftover, ...]:
    """The group's containers beside its ranks, on every node."""
    own = {node: survey.current_rank(node) for node in survey.decision.declaration.nodes}
    return tuple(
        leftover
        for node in survey.hosts
        for leftover in status.find_leftovers(node, survey.ranks(node), own.get(node))
    )
