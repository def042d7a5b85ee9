"""Readings of the nodes: a remote command a node for each, all nodes at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pyinfra.api import Host, StringCommand

from cluster.engine import serving
from cluster.findings import Finding, Refused, error, refuse_errors
from cluster.node.readings import IMAGE_FOLDERS, NodeFacts
from cluster.plan.decide import Decision
from cluster.plan.previous_group import members
from cluster.plan.specs import expand, rank_names
from cluster.reports.status import start_time
from cluster.settings.declaration import Declaration
from control import secrets
from control.deployment import Deployment
from facts.fact import Fact
from facts.images import SglangVersion
from facts.node import NodeReading
from facts.serving import Served
from operations import shell
from operations.shell import Reading

T = TypeVar("T")
# Starting Python in an image that is not in the page cache.
VERSION_SECONDS = 90
# A reading's own parts give up after 30 s each; this is for a node that has gone silent.
READING_SECONDS = 120
LEFT_OUT_SECONDS = 40


def read_all(
    hosts: Iterable[Host],
    fact: Fact[T],
    script: Callable[[Host], StringCommand | str],
    seconds: int,
    refuse: Callable[[str, str], Finding],
) -> dict[str, T]:
    """One fact of every node: node -> its value. Refused with a finding for each that is silent.

    + script: what to run on a node
    + refuse: makes that finding of a node's name and why it could not be read
    """
    readings = shell.on_all(hosts, lambda host: shell.read_fact(host, fact, script(host), seconds))
    return require_all(readings, refuse)


def require_all(
    readings: Mapping[str, Reading[T]], refuse: Callable[[str, str], Finding]
) -> dict[str, T]:
    """Each node's value; Refused with a finding for each node without one."""
    refuse_errors(refuse(node, r.why) for node, r in readings.items() if r.value is None)
    return {node: r.value for node, r in readings.items() if r.value is not None}


# ---- a node as a whole


def read_light(hosts: Mapping[str, Host], declaration: Declaration) -> dict[str, NodeFacts]:
    """What a converged run needs to know."""
    return _read_nodes(hosts, lambda host: reading_options(host.name, declaration))


def read_full(hosts: Mapping[str, Host], decision: Decision) -> dict[str, NodeFacts]:
    """What refusals are made of: GPUs, disks, ports, weights, vocabularies too."""
    declaration, model = decision.declaration, decision.model

    def options(host: Host) -> dict[str, Any]:
        facts, settings = decision.facts[host.name], declaration.nodes[host.name]
        cache = expand(settings.hf_cache, facts)
        docker = settings.runtime == "docker"
        return reading_options(host.name, declaration) | {
            "disks": [cache, *IMAGE_FOLDERS] if docker else [],
            "weights": model.id,
            "hf_cache": cache,
            "revision": settings.revision,
            "tiktoken": expand(settings.tiktoken_dir, facts) if model.tiktoken else None,
            "full": True,
        }

    return _read_nodes(hosts, options)


def read_left_out(deployment: Deployment) -> dict[str, NodeFacts]:
    """What runs on the nodes that `--limit` leaves out; one that does not answer runs nothing that
    could be find_split_group apart by us."""
    declaration = deployment.declaration
    readings = shell.on_all(
        deployment.left_out.values(),
        lambda h: read_node(h, reading_options(h.name, declaration), LEFT_OUT_SECONDS),
    )
    return {node: reading.value for node, reading in readings.items() if reading.value}


def _read_nodes(
    hosts: Mapping[str, Host], options: Callable[[Host], Mapping[str, Any]]
) -> dict[str, NodeFacts]:
    readings = shell.on_all(
        hosts.values(), lambda host: read_node(host, options(host), READING_SECONDS)
    )
    return require_all(
        readings,
        lambda node, why: error(
            f"it could not be read: {why}", node, f"ssh {node} true", key="node-unreadable"
        ),
    )


def read_node(host: Host, options: Mapping[str, Any], seconds: int) -> Reading[NodeFacts]:
    """One node's NodeReading; `options`: the arguments of its command."""
    fact = NodeReading()
    reading = shell.read_fact(host, fact, fact.command(**options), seconds)
    if reading.value is None:
        return Reading(why=reading.why or "it said nothing")
    # Whatever its output has for a name.
    return Reading(replace(reading.value, name=host.name))


def reading_options(node: str, declaration: Declaration) -> dict[str, Any]:
    """The arguments that every reading of a node has."""
    settings = declaration.nodes.get(node) or declaration.idle[node]
    image = settings.image if settings.runtime == "docker" else None
    names = [name for at, name in rank_names(declaration).items() if at == node]
    return {"node": node, "runtime": settings.runtime, "names": names, "image": image}


def read_image_version(head: Host, image: str, seconds: int = VERSION_SECONDS) -> str:
    """The version of SGLang in an image on the head; Refused if the image does not say it."""
    fact = SglangVersion()
    reading = shell.read_fact(head, fact, fact.command(image), seconds)
    if not reading.value:
        raise Refused(
            error(
                f"image {image} does not reveal its SGLang version: {reading.why}",
                head.name,
                "--data sglang_version=0.5.3.post3 (the image's version)",
                key="sglang-version-unknown",
            )
        )
    return reading.value


# ---- a group


def read_answers(
    deployment: Deployment,
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
    + head: its node, if that is not the declared group's
    + keyed: it is shown the API key, if there is one; and it must refuse who shows none
    """
    settings = deployment.settings
    key = secrets.find_api_key(settings.api_key_file) if keyed else ""
    fact = Served()
    command = fact.command(
        urls=urls, model=model, runtime=settings.runtime, rank=rank, keyed=bool(key)
    )
    at = deployment.hosts[head] if head else deployment.head
    reading = shell.read_fact(at, fact, command, 300, stdin=f"{key}\n" if key else "")
    silent = tuple(serving.EndpointReply(0) for _ in urls)
    return reading.value or serving.GroupAnswers(
        silent, serving.EndpointReply(0), serving.EndpointReply(0, reading.why)
    )


def is_starting(facts: Mapping[str, NodeFacts], group: str, seconds: float) -> bool:
    """Whether any rank that runs is younger than the time its group may take to get ready."""
    return any(
        reading.clock - begun < seconds
        for reading in facts.values()
        for rank in members(reading, group)
        if rank.running and (begun := start_time(rank)) is not None
    )
