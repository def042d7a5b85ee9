"""Reading a cluster of which any part may be dead: every node is told of, none ends the run.

pyinfra connects to all hosts of an inventory before a deploy file has a say, and a host that is
off ends the run there. So a deploy that must look at a broken cluster runs on `@local`, is told
the inventory as data, and connects by itself:

    pyinfra -y @local deploys/status.py --data inventory=inventories/spark.py
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gevent
from pyinfra.api import Host, State

from cluster import lease
from cluster.findings import Refused
from cluster.lease import LeaseAnswer
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts, Rank
from cluster.plan.decide import Decision, Readings, assumed_version, decide
from cluster.plan.previous_group import members
from cluster.plan.specs import rank_names
from cluster.rank.spec import local_url
from cluster.settings.schema import Settings
from control import converge, hosts, read
from control.deployment import Deployment
from control.inventory import REPORT
from facts.answers import Answers, RankAnswers
from operations import shell
from operations.shell import Reading

CONNECT_SECONDS = 5
# A Docker that is well answers in well under a second.
DOCKER_SECONDS = 5
# Connecting and reading, with a Docker that does not answer.
NODE_SECONDS = 9
ANSWER_SECONDS = 8
LEASE_SECONDS = 4


@dataclass(frozen=True)
class Survey:
    """What could be read of a cluster, and the decision on it.

    + hosts: every host of the inventory
    + decision: its readings say who is silent; its refusal why a deploy's plan is not known
    + answers: node -> what its rank answers, and the last lines of its log
    + lease: what the head says of who changes the group; None if nobody does
    """

    hosts: Mapping[str, Host]
    decision: Decision
    answers: Mapping[str, RankAnswers] = field(default_factory=dict)
    lease: LeaseAnswer | None = None

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
        return members(self.nodes[node], group) if node in self.nodes else ()

    def current_rank(self, node: str) -> Rank | None:
        """The rank that holds the group's place on a node: the one under the declared name, else
        one that is alive."""
        ranks = self.ranks(node)
        name = rank_names(self.decision.declaration).get(node)
        named = next((rank for rank in ranks if rank.name == name), None)
        return named or next((rank for rank in ranks if rank.alive), None)


def named_state(state: State, seconds: int = CONNECT_SECONDS) -> State:
    """The state of the inventory that the data name, nothing connected; or this very state.

    Data: `inventory`, `group_data` (a further folder of it); all else wins over what they say.

    + seconds: that a connection may take
    """
    data: dict[str, Any] = dict(state.inventory.get_override_data())  # type: ignore[no-untyped-call]
    inventory, folder = data.pop("inventory", None), data.pop("group_data", None)
    data.pop(REPORT, None)
    if not inventory:
        return state
    config = state.config.copy()
    config.CONNECT_TIMEOUT = seconds
    return State(hosts.load(str(inventory), data, [folder] if folder else []), config)


def take_survey(state: State, *, full: bool = False) -> Survey:
    """Read every node, decide, then ask every rank; each step bounded in time, whatever the nodes
    do. Refused if the declaration itself is wrong.

    + full: read the disks too
    """
    deployment = converge.declared_deployment(named_state(state))
    readings = _read(deployment, full=full)
    decision = decide(deployment.declaration, deployment.model, readings)
    survey = Survey(deployment.hosts, decision)
    asking = gevent.spawn(_ask_ranks, survey)
    if decision.undecided_image:
        version = _image_version(deployment, readings)
        readings = replace(readings, version=version)
        decision = decide(deployment.declaration, deployment.model, readings)
    answers = asking.get()
    return Survey(deployment.hosts, decision, answers, _read_lease(survey))


def _read(deployment: Deployment, *, full: bool) -> Readings:
    def read_one(host: Host) -> Reading[NodeFacts]:
        options = read.reading_options(host.name, deployment.declaration) | {
            "disks": _disks(deployment.settings_of(host)) if full else [],
            "full": True,
            "seconds": DOCKER_SECONDS,
        }
        return read.read_node(host, options, NODE_SECONDS)

    readings = shell.on_all(deployment.hosts.values(), read_one)
    return Readings(
        nodes={name: r.value for name, r in readings.items() if r.value},
        silent={name: r.why for name, r in readings.items() if not r.value},
    )


def _disks(settings: Settings) -> list[str]:
    docker = [*IMAGE_FOLDERS, settings.hf_cache] if settings.runtime == "docker" else []
    return ["/", *docker]


def _image_version(deployment: Deployment, readings: Readings) -> str:
    """What the head's image says, as a deploy would ask it; else the likeliest version."""
    head, image = deployment.head, deployment.settings.image

    def ask(host: Host) -> str:
        try:
            return read.read_image_version(host, image, ANSWER_SECONDS)
        except Refused:
            return assumed_version(deployment.declaration, readings)

    return shell.on_all([head], ask)[head.name]


def _read_lease(survey: Survey) -> LeaseAnswer | None:
    """Who holds the group, fresh or stale; None if nobody does or the head does not say."""
    declaration = survey.decision.declaration
    if declaration.head not in survey.nodes:
        return None
    command = lease.read_lease(declaration.common.group, LEASE_SECONDS)
    output = shell.run_command(survey.hosts[declaration.head], command)
    return lease.parse_lease_answer(output.out) if output.ok else None


def _ask_ranks(survey: Survey) -> dict[str, RankAnswers]:
    """What every rank answers; the head also tells the model and the load."""
    names = survey.decision.declaration.names
    hosts = [survey.hosts[name] for name in survey.nodes if name in names]
    return shell.on_all(hosts, partial(_ask_rank, survey))


def _ask_rank(survey: Survey, host: Host) -> RankAnswers:
    declaration, rank = survey.decision.declaration, survey.current_rank(host.name)
    settings = declaration.nodes[host.name]
    spec = rank.spec if rank else None
    url = spec.url if spec else local_url(settings.host, settings.port)
    unread = "ranks" in survey.nodes[host.name].unread
    fact = Answers()
    script = fact.command(
        url,
        settings.runtime,
        "" if unread or rank is None else rank.name,
        head=host.name == declaration.head,
        pid=rank.id if rank and settings.runtime == "process" else "",
    )
    reading = shell.read_fact(host, fact, script, ANSWER_SECONDS, failed=True)
    return reading.value or RankAnswers(lost=reading.why or "it answered nothing")
