"""The checks before a deploy: read everything, let the pure core decide."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pyinfra.api import Host

from cluster import checks, command, printable
from cluster.catalog.models import Model
from cluster.engine import options, pairs
from cluster.engine.argv import argv
from cluster.findings import Finding, error, warning
from cluster.node.peers import PeerReport
from cluster.node.readings import NodeFacts, Weights
from cluster.plan import decide, specs
from cluster.settings.schema import Settings
from cluster.transfer import description, hub_errors, images
from cluster.transfer.repository import WantedRepository
from control import secrets
from control.deployment import Deployment, read_full
from facts.network import Peers
from operations import shell

PEER_SECONDS = 20


def preflight(
    deployment: Deployment, latency: bool = False
) -> tuple[tuple[Finding, ...], dict[str, NodeFacts]]:
    """Every finding about the nodes and the launch, and the full readings they are made of.

    + latency: also time a trivial command on every node
    """
    decision = deployment.decision
    full = read_full(deployment.serving, decision)
    nodes = [full[name] for name in deployment.declaration.names]
    described, unclear = _describe(deployment, nodes[0])
    deployment.described = described
    decision = replace(decision, model=described)
    needs = checks.needs_of(decision, full)

    def time_command(host: Host) -> float:
        begun = time.monotonic()
        shell.run_command(host, command.Command(("true",), 30, kill=False))
        return time.monotonic() - begun

    of_nodes = checks.check_nodes(
        nodes,
        wanted=needs,
        fabric=decision.fabric if decision.fabric.nodes else None,
        peers=probe_peers(decision, deployment.serving),
        latency=shell.on_all(deployment.serving.values(), time_command) if latency else None,
    )
    declaration = decision.declaration
    # What is wrong with the launch itself, whatever the nodes are like.
    findings = [*unclear]
    findings += checks.check_launch(declaration, described, nodes, needs, decision.version)
    for node in nodes:
        for volume in specs.token_mounts(declaration.nodes[node.name], node):
            what = (
                f"volumes: {volume} would expose the hub's token to the engine, if `hf auth "
                "login` left one there"
            )
            cure = "mount a folder below it; the weights in hf_cache are already mounted"
            findings.append(warning(what, node.name, cure, key="token-exposed"))
    findings += _check_sources(decision, nodes)
    for spec in list(decision.specs.values())[:1]:
        if spec.runtime == "docker":
            line = argv(spec.launch, spec.sglang)[1:]
            named = declaration.catalog.own_arguments
            findings += options.check_arguments(line, spec.sglang, named)
            findings += pairs.check_pairs(line, spec.sglang)
    return tuple(dict.fromkeys([*findings, *of_nodes])), full


def _describe(deployment: Deployment, head: NodeFacts) -> tuple[Model, tuple[Finding, ...]]:
    """The model; one that no entry describes with what its files say: those on the head, else the
    hub's, read by the image on the head before anything large is downloaded."""
    model, settings, there = deployment.model, deployment.settings, head.weights
    if model.alias or settings.runtime != "docker":
        return model, ()
    if there and there.complete:
        return description.describe_from_config(model, there.config, there.bytes, head.name)
    if model.local or settings.offline or head.image is None:
        return model, ()
    token = secrets.find_token(settings.hf_token_file)
    if hub_errors.find_unencrypted_token(settings.hf_endpoint, token, head.name, model.id):
        return model, ()
    from operations.download import read_description  # other models do not need it

    return read_description(deployment.head, model, settings, token)


def probe_peers(decision: decide.Decision, hosts: Mapping[str, Host]) -> dict[str, PeerReport]:
    """Node -> what it reaches of the others. All nodes listen for each other at the same moment;
    ports that our ranks hold are free once these stop, so the probe skips them."""
    fabric = {node.name: node for node in decision.fabric.nodes}
    if len(fabric) < 2:
        return {}
    ports = (decision.settings.port, decision.settings.dist_port)

    def probe(host: Host) -> PeerReport:
        own = fabric[host.name]
        others = [node.address for node in fabric.values() if node.name != own.name]
        fact = Peers()
        script = fact.command(own.address, others, ports, own.mtu or 1500)
        reading = shell.read_fact(host, fact, script, PEER_SECONDS, failed=True)
        return reading.value or PeerReport(error=reading.why)

    return shell.on_all(hosts.values(), probe)


def _check_sources(decision: decide.Decision, nodes: list[NodeFacts]) -> Iterator[Finding]:
    """Findings about what must be there already, as nothing will bring it, and about what keeps the
    rest from coming."""
    settings = decision.settings
    for node in nodes:
        if settings.runtime == "docker" and settings.pull == "never" and node.image is None:
            yield error(
                f"image {settings.image} is not there, and pull = 'never'",
                node.name,
                "--data pull=missing",
                key="image-missing",
            )
        own = decision.declaration.nodes[node.name].cache_dir
        why = node.unread.get("served")
        if why and own == "auto":
            yield warning(
                f"what the engine compiles is not kept: {why}",
                node.name,
                "make it the login's (sudo chown), or name another folder in cache_dir",
                key="compile-cache-not-kept",
            )
        elif why:
            yield error(
                f"cache_dir {own} can't be used: {why}",
                node.name,
                "create it as the login, or --data cache_dir=none",
                key="cache-dir-unusable",
            )
    # Raises Refused if it is not a private file with one key.
    secrets.find_api_key(settings.api_key_file)
    for repository in decision.repositories:
        # The other nodes copy what the head has.
        weights = nodes[0].weights_of(repository)
        if not weights or not weights.complete:
            yield from _check_source(settings, repository, nodes[0].name, weights)


def _check_source(
    settings: Settings, repository: WantedRepository, head: str, weights: Weights | None
) -> Iterator[Finding]:
    """Findings about a repository that the head lacks, or has in part."""
    model = repository.id
    if repository.local:
        what = weights.problem if weights and weights.problem else "is missing or incomplete"
        cure = weights.cure if weights and weights.cure else f"ls {model}"
        yield error(f"model {model} {what}", head, cure, key="model-files-missing")
    elif settings.runtime == "docker" and settings.offline:
        yield error(
            f"the weights of {model} are not there, or not whole, and offline = true",
            head,
            "--data offline=false, or put them into its hf_cache",
            key="weights-missing-offline",
        )
    elif settings.runtime == "docker":
        # For any model, not just a gated one: this refuses a token file that cannot be read.
        token = secrets.find_token(settings.hf_token_file)
        if repository.gated and not token:
            cure = "accept its license at the hub, then: hf auth login, or export HF_TOKEN=…"
            yield error(
                f"model {model} is gated, its weights are not there, and there is no Hugging "
                "Face token",
                head,
                f"{cure}; {hub_errors.NO_DRAFT}" if repository.draft else cure,
                key="gated-token",
            )
        if problem := hub_errors.find_unencrypted_token(settings.hf_endpoint, token, head, model):
            yield problem


def image_differs(decision: decide.Decision, facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    """Findings about ranks with different images, which may not understand each other."""
    settings = decision.settings
    names = (name for name in decision.declaration.names if name in facts)
    there = {name: image for name in names if (image := facts[name].image)}
    wrong = list(images.find_differing(settings.image, there, settings.pull)) if there else []
    if settings.pull == "never":
        yield from wrong
    elif wrong:
        by_node = ", ".join(
            f"{name}: {printable.short_image_id(image.id)}" for name, image in there.items()
        )
        yield warning(
            f"the image is not the same on all nodes ({by_node})",
            cure="a deploy gives all the head's",
            key="image-differs",
        )
