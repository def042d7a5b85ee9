"""Why a cluster is broken: read everything, every log too, and let the pure core decide."""

import os
from collections.abc import Iterator
from functools import partial

from pyinfra.api import Host, State

from cluster import checks
from cluster.findings import Finding, Refused, ok
from cluster.node.readings import Rank
from cluster.plan import decide, specs
from cluster.probes.report import SUMMARY
from cluster.rank import api_key
from cluster.reports import doctor
from cluster.reports.status import Status
from control import preflight, run, secrets
from control.allocated import memory_of_ranks
from control.answer_probes import probe_running
from control.status import Survey, group_url, nccl_findings, status_document, take_survey
from facts import serving
from operations import shell

# For two commands, each with a limit of its own.
READ_SECONDS = 2 * serving.DIAGNOSIS_SECONDS + 5


def print_report(state: State) -> None:
    """Print the report on stdout; Refused if the declaration itself is wrong."""
    survey = take_survey(state, full=True)
    status = status_document(survey, group_url(survey))
    hosts = [host for name, host in survey.hosts.items() if name in survey.nodes]
    by_node = shell.on_all(hosts, partial(_read_logs, survey))
    logs = [log for node in by_node for log in by_node[node]]
    problems = list(_find_problems(survey, status, logs))
    problems += doctor.finding_problems(_check(survey), problems)
    probed = _probe(survey, status)
    problems += doctor.finding_problems(probed)
    alive = [r for r in status.ranks if r.health == 200]
    looked = [
        f"{len(survey.nodes)} of {len(survey.hosts)} nodes could be read",
        f"{len(alive)} of {len(status.ranks)} ranks answer /health",
    ]
    if status.served:
        looked.append(f"/v1/models lists {', '.join(status.served)}")
    count = sum(len(log.lines) for log in logs)
    looked.append(f"{count} lines of {len(logs)} logs, against every symptom known")
    if len(survey.decision.fabric.nodes) > 1:
        looked.append(f"fabric: {survey.decision.fabric.summary}")
    looked += [finding.what for finding in probed if finding.key == SUMMARY]
    if survey.nodes:
        looked.append("GPU, driver, Docker, disks, memory, clocks, ports, links of every node read")
    reached = {name: survey.hosts[name] for name in survey.nodes}
    looked += memory_of_ranks(survey.decision, reached)
    # The inventory as a user in the project's folder would type it.
    inventory = str(next(iter(state.inventory)).data.get("inventory") or "INVENTORY")
    near = os.path.relpath(inventory)
    report = doctor.doctor_report(
        status,
        (doctor.name_inventory(p, inventory if near.startswith("..") else near) for p in problems),
        tuple(looked),
    )
    run.print_document(report)


def _find_problems(
    survey: Survey, status: Status, logs: list[doctor.RankLogText]
) -> Iterator[doctor.Problem]:
    rdma = survey.decision.fabric.transport == "rdma"
    leftovers = {(left.node, left.container) for left in status.leftovers}
    own = [log for log in logs if (log.node, log.rank.called) not in leftovers]
    others = [log for log in logs if log not in own]
    yield from doctor.unreachable_nodes(survey.silent)
    yield from doctor.engine_problems(survey.nodes)
    overcome = all(r.healthy for r in status.ranks) or status.declared != "running"
    yield from doctor.log_problems(own, ready=overcome, rdma=rdma)
    yield from doctor.group_problems(status)
    yield from doctor.watchdog_problems(status)
    yield from doctor.disk_problems(survey.nodes)
    yield from doctor.log_problems(others, ready=True, rdma=False)
    yield from doctor.leftover_problems(status, logs)


def _read_logs(survey: Survey, host: Host) -> list[doctor.RankLogText]:
    """What every container of the group on a node logged, the failed ones too."""
    runtime, logs = survey.decision.settings.runtime, []
    ranks = survey.ranks(host.name)
    name = specs.rank_names(survey.decision.declaration).get(host.name)
    if not ranks and name and runtime == "process":
        # A process that ended has left its log and nothing else.
        ranks = (Rank(name, "", "exited"),)
    for rank in ranks:
        fact = serving.RankLog()
        # Why Docker had to restart it is in the log of its earlier life.
        script = fact.command(runtime, rank.called, earlier=rank.restarts > 0)
        reading = shell.read_fact(host, fact, script, READ_SECONDS, failed=True)
        log = reading.value or serving.DiagnosisLog()
        logs.append(doctor.RankLogText(host.name, rank, log.lines, log.transport))
    return logs


def _probe(survey: Survey, status: Status) -> tuple[Finding, ...]:
    """What the probes find, where a whole group serves that nobody is changing."""
    decision = survey.decision
    head = decision.declaration.head
    rank, changing = decision.running_ranks.get(head), status.holder and not status.holder.stale
    healthy = status.served and all(r.healthy for r in status.ranks)
    if rank is None or rank.spec is None or not healthy or changing:
        return ()
    key = ""
    if api_key.is_keyed(rank.spec.volumes):
        try:
            key = secrets.find_api_key(decision.settings.api_key_file)
        except Refused as refused:
            return refused.findings
        if not key:
            what = "no probes: the API requires a key, and api_key_file is not set"
            return (ok(what, key=SUMMARY),)
    return probe_running(decision, survey.hosts[head], rank.spec, key)


def _check(survey: Survey) -> list[Finding]:
    """The checks before a deploy, of the nodes that answer; the fabric's need all of them."""
    decision = survey.decision
    nodes = {n: survey.nodes[n] for n in decision.declaration.names if n in survey.nodes}
    whole = bool(decision.fabric.nodes) and len(nodes) == len(decision.declaration.names)
    hosts = {name: survey.hosts[name] for name in nodes}
    findings = checks.check_nodes(
        list(nodes.values()),
        wanted=checks.needs_of(decision, nodes, to_come=False),
        fabric=decision.fabric if whole else None,
        peers=preflight.probe_peers(decision, hosts) if whole else {},
    )
    return [
        *findings,
        *(() if survey.silent else decision.refusal),
        *preflight.image_differs(decision, survey.nodes),
        *nccl_findings(survey),
        *decide.exposure_findings(decision, runs=True, declared=False),
    ]
