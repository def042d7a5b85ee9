"""The checks before a deploy: read everything, let the pure core judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from pyinfra.api import Host

from cluster import checks
from cluster.command import Command
from cluster.engine import options, pairs
from cluster.engine.argv import argv
from cluster.findings import Finding, error, warning
from cluster.node.peers import PeerReport
from cluster.node.readings import NodeFacts
from cluster.plan.previous_group import members
from cluster.plan.specs import expand, token_mounts
from cluster.settings.schema import Settings
from cluster.transfer import images
from cluster.transfer.hub_errors import find_unencrypted_token
from control import gather, secrets
from control.deployment import Deployment
from facts.peers import Peers
from operations import shell

# Of the default image, lmsysorg/sglang:spark, on disk, as `docker images` of users show it, with
# room for its layers.
IMAGE_BYTES = 30 * 10**9
PEER_SECONDS = 20


def preflight(
    made: Deployment, latency: bool = False
) -> tuple[tuple[Finding, ...], dict[str, NodeFacts]]:
    """Every finding about the nodes and the launch, and the full readings they are made of.

    + latency: also time a trivial command on every node
    """
    full = gather.full(made.serving, made)
    nodes = [full[name] for name in made.wanted.names]
    needs = _needs(made, nodes)
    told = checks.check_nodes(
        nodes,
        wanted=needs,
        fabric=made.fabric if made.fabric.nodes else None,
        peers=peers(made),
        latency=shell.on_all(made.serving.values(), _latency) if latency else None,
    )
    return tuple(dict.fromkeys([*_launch(made, nodes, needs), *told])), full


def _needs(made: Deployment, nodes: list[NodeFacts]) -> checks.Needs:
    settings = made.settings
    incomplete = not all(n.weights and n.weights.complete for n in nodes)
    ranks = [r for seen in made.facts.values() for r in members(seen, settings.group)]
    ours = {name for rank in ranks for name in (rank.name, rank.called)}
    return checks.Needs(
        runtime=settings.runtime,
        gpus=settings.gpus != "none",
        image=settings.image,
        hf_cache={
            name: expand(s.hf_cache, made.facts[name]) for name, s in made.wanted.nodes.items()
        },
        port=settings.port,
        dist_port=settings.dist_port,
        needs_bytes=(made.model.weight_bytes or 0) if incomplete and not made.model.local else 0,
        image_bytes=IMAGE_BYTES if settings.image == Settings.image else None,
        our_names=frozenset(ours | {spec.name for spec in made.specs.values()}),
    )


def _latency(host: Host) -> float:
    begun = time.monotonic()
    shell.run_command(host, Command(("true",), 30, kill=False))
    return time.monotonic() - begun


def peers(made: Deployment) -> dict[str, PeerReport]:
    """All nodes listen for each other at the same moment; ports that our ranks hold are free
    once these stop, so the probe passes them over."""
    members = {member.name: member for member in made.fabric.nodes}
    if len(members) < 2:
        return {}
    ports = (made.settings.port, made.settings.dist_port)

    def probe(host: Host) -> PeerReport:
        own = members[host.name]
        others = [m.address for m in members.values() if m.name != own.name]
        fact = Peers()
        asked = fact.command(own.address, others, ports, own.mtu or 1500)
        found = shell.read_fact(host, fact, asked, PEER_SECONDS, failed=True)
        return found.value or PeerReport(error=found.why)

    return shell.on_all(made.serving.values(), probe)


def _launch(made: Deployment, nodes: list[NodeFacts], needs: checks.Needs) -> Iterator[Finding]:
    """What is wrong with the launch itself, whatever the nodes are like."""
    yield from checks.check_launch(made.wanted, made.model, nodes, needs, made.version)
    for node in nodes:
        for volume in token_mounts(made.wanted.nodes[node.name], node):
            yield warning(
                f"volumes: {volume} would expose the hub's token to the engine, if `hf auth "
                "login` left one there",
                node.name,
                "mount a folder below it; the weights in hf_cache are mounted already",
            )
    yield from _fetching(made, nodes)
    for spec in list(made.specs.values())[:1]:
        if spec.runtime == "docker":
            line = argv(spec.launch, spec.sglang)[1:]
            yield from options.check_arguments(line, spec.sglang)
            yield from pairs.check_pairs(line, spec.sglang)


def _fetching(made: Deployment, nodes: list[NodeFacts]) -> Iterator[Finding]:
    """What must be there already because nothing will bring it."""
    settings, model = made.settings, made.model
    for node in nodes:
        if settings.runtime == "docker" and settings.pull == "never" and node.image is None:
            yield error(
                f"image {settings.image} is not there, and pull = 'never'",
                node.name,
                "--data pull=missing",
            )
    # Refused where it is no file of one's own with one key.
    secrets.find_api_key(settings.api_key_file)
    # The other nodes copy what the head has.
    head = nodes[0]
    if head.weights and head.weights.complete:
        return
    if model.local:
        seen = head.weights
        problem = seen.problem if seen and seen.problem else "is missing or incomplete"
        cure = seen.cure if seen and seen.cure else f"ls {model.id}"
        yield error(f"model {model.id} {problem}", head.name, cure)
    elif settings.runtime == "docker":
        yield from _downloading(made, head)


def _downloading(made: Deployment, head: NodeFacts) -> Iterator[Finding]:
    settings, model = made.settings, made.model
    if settings.offline:
        yield error(
            f"the weights of {model.id} are not there, or not whole, and offline = true",
            head.name,
            "--data offline=false, or put them into its hf_cache",
        )
        return
    # Looked for whatever the model is: a token file that cannot be read is refused here.
    token = secrets.find_token(settings.hf_token_file)
    if model.gated and not token:
        yield error(
            f"model {model.id} is gated, its weights are not there, and there is no Hugging Face "
            "token",
            head.name,
            "accept its license at the hub, then: hf auth login, or export HF_TOKEN=…",
        )
    if wrong := find_unencrypted_token(settings.hf_endpoint, token, head.name, model.id):
        yield wrong


def image_differs(made: Deployment, facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Ranks of different images may not understand each other."""
    settings = made.settings
    found = ((name, facts[name].image) for name in made.wanted.names if name in facts)
    there = {name: image for name, image in found if image}
    wrong = list(images.find_differing(settings.image, there, settings.pull)) if there else []
    if settings.pull == "never":
        yield from wrong
    elif wrong:
        said = ", ".join(f"{name}: {images.short_id(image)}" for name, image in there.items())
        yield warning(
            f"the image is not the same on all nodes ({said})", cure="a deploy gives all the head's"
        )
