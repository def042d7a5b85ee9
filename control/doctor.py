"""Why a cluster is broken: read everything, ask every log, let the pure core judge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import msgspec
from pyinfra.api import Host, State

from cluster import checks
from cluster.findings import Finding
from cluster.node.readings import Rank
from cluster.plan.specs import expand, rank_names
from cluster.printable import json_text
from cluster.reports import doctor
from cluster.reports.doctor import DoctorReport, Problem, RankLogText
from cluster.reports.status import Status
from control import preflight, running, survey
from control.status import status_document
from control.survey import Seen
from facts.ranklog import SECONDS as LOG_SECONDS
from facts.ranklog import RankLog, RankWords
from operations import shell

WORDS_SECONDS = 2 * LOG_SECONDS + 5


def print_report(state: State) -> None:
    """Print the report on stdout; pyinfra's own words go to stderr."""
    named = next(iter(state.inventory)).data.get("inventory")
    print(json_text(msgspec.json.encode(examine_cluster(state, _shown(named)))), flush=True)


def _shown(path: object) -> str:
    """As a user in the project's folder would write it."""
    if not path:
        return "INVENTORY"
    near = os.path.relpath(str(path))
    return str(path) if near.startswith("..") else near


def examine_cluster(state: State, inventory: str) -> DoctorReport:
    """The report; Refused where the declaration itself is wrong."""
    seen = survey.look(state, full=True)
    status = status_document(seen)
    words = _words(seen)
    told = list(_ailments(seen, status, words))
    told += doctor.check_problems(_checks(seen), told)
    return doctor.doctor_report(
        status,
        (doctor.name_inventory(a, inventory) for a in told),
        tuple(_looked(seen, status, words)),
    )


def _ailments(seen: Seen, status: Status, words: list[RankLogText]) -> Iterator[Problem]:
    rdma = seen.made.fabric.transport == "rdma"
    kept = {(left.node, left.container) for left in status.leftovers}
    own = [w for w in words if (w.node, w.rank.called) not in kept]
    others = [w for w in words if w not in own]
    yield from doctor.unreachable_nodes(seen.silent)
    yield from doctor.engine_problems(seen.made.facts)
    got_over = all(r.healthy for r in status.ranks) or status.declared != "running"
    yield from doctor.log_problems(own, ready=got_over, rdma=rdma)
    yield from doctor.group_problems(status)
    yield from doctor.disk_problems(seen.made.facts)
    yield from doctor.log_problems(others, ready=True, rdma=False)
    yield from doctor.leftover_problems(status, words)


# ---- logs


def _words(seen: Seen) -> list[RankLogText]:
    """What every container of the group says, the failed ones too."""
    hosts = [h for name, h in seen.made.hosts.items() if name in seen.made.facts]
    found = shell.on_all(hosts, partial(_words_of, seen))
    return [words for name in found for words in found[name]]


def _words_of(seen: Seen, host: Host) -> list[RankLogText]:
    return [_log(seen, host, rank) for rank in _spoken(seen, host.name)]


def _spoken(seen: Seen, node: str) -> list[Rank]:
    """The group's ranks on a node. A process that ended has left its log and nothing else."""
    found = list(survey.ranks(seen.made, node))
    name = rank_names(seen.made.wanted).get(node)
    if not found and name and seen.made.settings.runtime == "process":
        return [Rank(name, "", "exited")]
    return found


def _log(seen: Seen, host: Host, rank: Rank) -> RankLogText:
    runtime = seen.made.settings.runtime
    # Why Docker had to start it again stands in the log of its earlier life.
    fact = RankLog()
    command = fact.command(runtime, rank.called, earlier=rank.restarts > 0)
    told = shell.read_fact(host, fact, command, WORDS_SECONDS, failed=True).value or RankWords()
    return RankLogText(host.name, rank, told.lines, told.transport)


# ---- the checks


def _checks(seen: Seen) -> list[Finding]:
    """The checks before a deploy, of the nodes that answer; the fabric's need all of them."""
    made, settings = seen.made, seen.made.settings
    nodes = [made.facts[name] for name in made.wanted.names if name in made.facts]
    whole = bool(made.fabric.nodes) and len(nodes) == len(made.wanted.names)
    ours = {r.name for name in made.facts for r in survey.ranks(made, name)}
    needs = checks.Needs(
        runtime=settings.runtime,
        gpus=settings.gpus != "none",
        image=settings.image,
        hf_cache={n.name: expand(made.wanted.nodes[n.name].hf_cache, n) for n in nodes},
        port=settings.port,
        dist_port=settings.dist_port,
        our_names=frozenset(ours | set(rank_names(made.wanted).values())),
    )
    found = checks.check_nodes(
        nodes,
        wanted=needs,
        fabric=made.fabric if whole else None,
        peers=preflight.peers(made) if whole else {},
    )
    refused = () if seen.silent else seen.refused
    exposed = running.exposed(made, runs=True, wanted=False)
    return [*found, *refused, *preflight.image_differs(made, made.facts), *exposed]


def _looked(seen: Seen, status: Status, words: list[RankLogText]) -> Iterator[str]:
    """What the report is made of, a sentence each."""
    facts = seen.made.facts
    yield f"{len(facts)} of {len(seen.made.hosts)} nodes could be read"
    alive = [r for r in status.ranks if r.health == 200]
    yield f"{len(alive)} of {len(status.ranks)} ranks answer /health"
    if status.served:
        yield f"/v1/models lists {', '.join(status.served)}"
    count = sum(len(w.lines) for w in words)
    yield f"{count} lines of {len(words)} logs, against every symptom known"
    if len(seen.made.fabric.nodes) > 1:
        yield f"fabric: {seen.made.fabric.summary}"
    if facts:
        yield "GPU, driver, Docker, disks, memory, clocks, ports, links of every node read"
