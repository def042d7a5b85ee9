"""Reading a cluster of which any part may be dead: every node is told of, none ends the run.

pyinfra connects to all hosts of an inventory before a deploy file has a say, and a host that is
off ends the run there. So a deploy that must look at a broken cluster runs on `@local`, is told
the inventory as data, and connects by itself:

    pyinfra -y @local deploys/status.py --data inventory=inventories/spark.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyinfra.api import Host, State

from cluster import lease
from cluster.engine.options import RECORDED
from cluster.engine.versions import known_version
from cluster.fabric import choose_fabric
from cluster.findings import Finding, Refused, error
from cluster.lease import LeaseAnswer
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts, Rank
from cluster.plan.plan import Plan, make_plan
from cluster.plan.previous_group import members
from cluster.plan.specs import declared_specs, rank_names
from cluster.rank.spec import local_url
from cluster.settings.schema import Settings
from control import converge, gather, hosts
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


@dataclass
class Seen:
    """What could be read.

    + made: the deployment: what is declared, and the facts of the nodes that answered
    + silent: node → why it could not be asked
    + answers: node → what its rank answers, and the last lines of its log
    + lease: what the head says of who changes the group; None where nobody does
    + plan: what a deploy would change; None where that can't be known, `refused` says why
    """

    made: Deployment
    silent: dict[str, str]
    answers: dict[str, RankAnswers] = field(default_factory=dict)
    lease: LeaseAnswer | None = None
    plan: Plan | None = None
    refused: tuple[Finding, ...] = ()

    @property
    def unknown(self) -> str:
        """Why the plan is not known; "" where it is."""
        return "; ".join(dict.fromkeys(finding.what for finding in self.refused))


def named_state(state: State, seconds: int = CONNECT_SECONDS) -> State:
    """The state of the inventory that the data name, nothing connected; or this very state.

    Data: `inventory`, `group_data` (a further folder of it); all else wins over what they say.

    + seconds: that a connection may take
    """
    data: dict[str, Any] = dict(state.inventory.get_override_data())  # type: ignore[no-untyped-call]
    asked, folder = data.pop("inventory", None), data.pop("group_data", None)
    data.pop(REPORT, None)
    if not asked:
        return state
    read = hosts.load(str(asked), data, [folder] if folder else [])
    config = state.config.copy()
    config.CONNECT_TIMEOUT = seconds
    return State(read, config)


def look(state: State, *, full: bool = False) -> Seen:
    """Read every node, then ask every rank; each step bounded in time, whatever the nodes do.

    Refused where the declaration itself is wrong.
    """
    made = converge.begin(named_state(state))
    facts, silent = _read(made, full=full)
    made.facts = facts
    seen = Seen(made, silent)
    try:
        seen.plan = _plan(made, silent)
    except Refused as refused:
        seen.refused = refused.findings
    seen.answers = _ask(made)
    seen.lease = _lease(made)
    return seen


def _read(made: Deployment, *, full: bool) -> tuple[dict[str, NodeFacts], dict[str, str]]:
    def one(host: Host) -> Reading[NodeFacts]:
        asked = gather.asked_of(host.name, made.wanted) | {
            "disks": _disks(made.settings_of(host)) if full else [],
            "full": True,
            "seconds": DOCKER_SECONDS,
        }
        return gather.reading(host, asked, NODE_SECONDS)

    found = shell.on_all(made.hosts.values(), one)
    heard = {name: seen.value for name, seen in found.items() if seen.value}
    return heard, {name: seen.why for name, seen in found.items() if name not in heard}


def _disks(settings: Settings) -> list[str]:
    docker = [*IMAGE_FOLDERS, settings.hf_cache] if settings.runtime == "docker" else []
    return ["/", *docker]


def _plan(made: Deployment, silent: Mapping[str, str]) -> Plan:
    """What a deploy would do now; Refused where that can't be known."""
    settings, facts = made.settings, made.facts
    if settings.state != "running":
        return make_plan({}, facts, settings.state, group=settings.group)
    if lost := [name for name in made.wanted.names if name in silent]:
        raise Refused(error(f"{', '.join(lost)} could not be read"))
    nodes = [facts[name] for name in made.wanted.names]
    made.fabric = choose_fabric(nodes, converge.fabric_options(made.wanted))
    made.version = _version(made)
    made.specs = declared_specs(made.wanted, made.model, made.fabric, facts, made.version)
    return make_plan(made.specs, facts, "running", group=settings.group)


def _version(made: Deployment) -> str:
    """SGLang's, without asking an image: what the ranks were made for, or what its name tells."""
    settings = made.settings
    if settings.runtime == "process":
        return ""
    if settings.sglang_version != "auto":
        return settings.sglang_version
    ours = [r for seen in made.facts.values() for r in members(seen, settings.group)]
    labelled = (spec.sglang for rank in ours if (spec := rank.spec))
    return next(filter(None, labelled), "") or known_version(settings.image) or RECORDED[0]


def ranks(made: Deployment, node: str) -> tuple[Rank, ...]:
    """The group's ranks on a node that answered, as they are called there."""
    return members(made.facts[node], made.settings.group) if node in made.facts else ()


def current(made: Deployment, node: str) -> Rank | None:
    """The rank that holds the group's place on a node: the one under the wanted name, else one
    that is alive."""
    found = ranks(made, node)
    wanted = rank_names(made.wanted).get(node)
    named = next((r for r in found if r.name == wanted), None)
    return named or next((r for r in found if r.alive), None)


def _lease(made: Deployment) -> LeaseAnswer | None:
    """Who holds the group, fresh or stale; None where nobody does or the head does not say."""
    if made.wanted.head not in made.facts:
        return None
    head = made.hosts[made.wanted.head]
    answer = shell.run_command(head, lease.read_lease(made.settings.group, LEASE_SECONDS))
    return lease.parse_answer(answer.out) if answer.ok else None


def _ask(made: Deployment) -> dict[str, RankAnswers]:
    """What every rank answers; the head also tells the model and the load."""
    hosts = [made.hosts[name] for name in made.facts if name in made.wanted.names]
    return shell.on_all(hosts, partial(_ask_one, made))


def _ask_one(made: Deployment, host: Host) -> RankAnswers:
    rank = current(made, host.name)
    settings = made.settings_of(host)
    spec = rank.spec if rank else None
    url = spec.url if spec else local_url(settings.host, settings.port)
    unread = "ranks" in made.facts[host.name].unread
    fact = Answers()
    command = fact.command(
        url,
        settings.runtime,
        "" if unread or rank is None else rank.name,
        head=made.is_head(host),
        pid=rank.id if rank and settings.runtime == "process" else "",
    )
    found = shell.read_fact(host, fact, command, ANSWER_SECONDS, failed=True)
    return found.value or RankAnswers(lost=found.why or "it answered nothing")
