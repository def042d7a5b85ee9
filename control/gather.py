"""Readings of the nodes: a remote command a node for each, all nodes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pyinfra.api import Host

from cluster.engine import serving
from cluster.engine.options import RECORDED
from cluster.engine.versions import known_version
from cluster.findings import Finding, Refused, error, refuse_errors
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts, Rank
from cluster.plan.previous_group import members
from cluster.plan.specs import expand, rank_names
from cluster.settings.declaration import Declaration
from cluster.settings.schema import Settings
from control import secrets
from control.deployment import Deployment
from facts.images import SglangVersion
from facts.node import NodeReading
from facts.serving import Served
from operations import shell
from operations.shell import Reading

# Starting Python in an image that is not in the page cache.
PROBE_SECONDS = 90
# A reading's own parts give up after 30 s each; this is for a node that has gone silent.
READING_SECONDS = 120
LEFT_OUT_SECONDS = 40


def light(hosts: Mapping[str, Host], wanted: Declaration) -> dict[str, NodeFacts]:
    """What a converged run needs to know."""
    return _read(hosts, lambda host: asked_of(host.name, wanted))


def full(hosts: Mapping[str, Host], made: Deployment) -> dict[str, NodeFacts]:
    """What refusals are made of: GPUs, disks, ports, weights, vocabularies too."""

    def asked(host: Host) -> dict[str, Any]:
        facts, settings = made.facts[host.name], made.wanted.nodes[host.name]
        cache = expand(settings.hf_cache, facts)
        docker = settings.runtime == "docker"
        return asked_of(host.name, made.wanted) | {
            "disks": [cache, *IMAGE_FOLDERS] if docker else [],
            "weights": made.model.id,
            "hf_cache": cache,
            "revision": settings.revision,
            "tiktoken": expand(settings.tiktoken_dir, facts) if made.model.tiktoken else None,
            "full": True,
        }

    return _read(hosts, asked)


def left_out(made: Deployment) -> dict[str, NodeFacts]:
    """What runs on the nodes that `--limit` leaves out; one that does not answer runs nothing that
    could be torn apart by us."""
    found = shell.on_all(
        made.left_out.values(),
        lambda h: reading(h, asked_of(h.name, made.wanted), LEFT_OUT_SECONDS),
    )
    return {node: seen.value for node, seen in found.items() if seen.value}


def _read(hosts: Mapping[str, Host], asked: Any) -> dict[str, NodeFacts]:
    found = shell.on_all(hosts.values(), lambda h: reading(h, asked(h), READING_SECONDS))
    refuse_errors(
        error(f"it could not be read: {seen.why}", node, f"ssh {node} true")
        for node, seen in found.items()
        if not seen.value
    )
    return {node: seen.value for node, seen in found.items() if seen.value}


def reading(host: Host, asked: Mapping[str, Any], seconds: int) -> Reading[NodeFacts]:
    """One node's NodeReading; `asked`: the arguments of its command."""
    fact = NodeReading()
    found = shell.read_fact(host, fact, fact.command(**asked), seconds)
    if found.value is None:
        return Reading(why=found.why or "there was no output")
    # Whatever its output has for a name.
    return Reading(replace(found.value, name=host.name))


def asked_of(node: str, wanted: Declaration) -> dict[str, Any]:
    """What every reading of a node asks for."""
    settings = wanted.nodes.get(node) or wanted.idle[node]
    image = settings.image if settings.runtime == "docker" else None
    names = [name for at, name in rank_names(wanted).items() if at == node]
    return {"node": node, "runtime": settings.runtime, "names": names, "image": image}


def unreadable(facts: Mapping[str, NodeFacts]) -> tuple[Finding, ...]:
    """Nodes whose ranks could not be asked for: no answer is never "nothing there"."""
    return tuple(
        error(f"its ranks could not be read: {seen.unread['ranks']}", node, "docker ps")
        for node, seen in facts.items()
        if "ranks" in seen.unread
    )


def sglang_version(
    serving_hosts: Mapping[str, Host], facts: Mapping[str, NodeFacts], settings: Settings
) -> str:
    """The declared version; else what the running rank was made for; else what the image says.

    Before the image is there its name tells, or the oldest recorded version is assumed: the plan
    is made again after the pull.
    """
    if settings.runtime == "process":
        return ""
    if settings.sglang_version != "auto":
        return settings.sglang_version
    head = next(iter(serving_hosts.values()))
    image = facts[head.name].image
    if image is None:
        return known_version(settings.image) or RECORDED[0]
    same = (r for r in facts[head.name].ranks if r.image_id == image.id)
    labelled = (spec.sglang for rank in same if (spec := rank.spec))
    return next(filter(None, labelled), "") or _probe(head, settings.image)


def _probe(head: Host, image: str) -> str:
    fact = SglangVersion()
    seen = shell.read_fact(head, fact, fact.command(image), PROBE_SECONDS)
    if not seen.value:
        raise Refused(
            error(
                f"image {image} does not say which SGLang it holds: {seen.why}",
                head.name,
                "--data sglang_version=0.5.3.post3 (the version that the image holds)",
            )
        )
    return seen.value


def served(made: Deployment) -> serving.GroupAnswers:
    """The wanted group's answers."""
    return answers(made, made.urls, made.model_name)


def answers(
    made: Deployment,
    urls: Sequence[str],
    model: str,
    rank: str = "",
    *,
    head: str = "",
    keyed: bool = True,
) -> serving.GroupAnswers:
    """A group's answers, asked from its head.

    + urls: of its ranks, rank 0 first, as the head reaches them
    + model: the id that it shall serve
    + rank: rank 0's name, to look into its log for NCCL's transport; "" leaves that out
    + head: its node, where that is not the wanted group's
    + keyed: it is shown the API key, where there is one; and it must refuse who shows none
    """
    key = secrets.find_api_key(made.settings.api_key_file) if keyed else ""
    fact = Served()
    command = fact.command(
        urls=urls, model=model, runtime=made.settings.runtime, rank=rank, keyed=bool(key)
    )
    at = made.hosts[head or made.wanted.head]
    found = shell.read_fact(at, fact, command, 300, stdin=f"{key}\n" if key else "")
    silent = tuple(serving.EndpointReply(0) for _ in urls)
    return found.value or serving.GroupAnswers(
        silent, serving.EndpointReply(0), serving.EndpointReply(0, found.why)
    )


def starting(facts: Mapping[str, NodeFacts], group: str, seconds: float) -> bool:
    """Whether any rank that runs is younger than the time its group may take to get ready."""
    return any(
        seen.clock - begun < seconds
        for seen in facts.values()
        for rank in members(seen, group)
        if rank.running and (begun := _started(rank)) is not None
    )


def _started(rank: Rank) -> float | None:
    """Unix time of a container's start; None for a process, which counts in ticks since boot."""
    try:
        return datetime.fromisoformat(rank.started_at[:19] + "+00:00").timestamp()
    except ValueError:
        return None
