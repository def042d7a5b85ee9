"""What each step of a deploy needs of the deployment: the image, files of the model, the API key,
and the switch from what runs to what is declared."""

from collections.abc import Callable

from pyinfra.api import Host

from cluster.command import Command
from cluster.engine.nccl import collectives_of
from cluster.engine.readiness import ready_limits
from cluster.findings import Finding, Level
from cluster.node.host import drop_caches
from cluster.plan.specs import cache_root, expand
from cluster.rank import api_key, docker
from cluster.rank.spec import group_urls
from cluster.transfer.repository import WantedRepository
from cluster.transfer.weights import hub_folder
from control import lease, secrets
from control.deployment import Deployment, read_answers
from operations import group, images, node_weights, switch, vocabularies

# ---- what comes to the nodes


def image_order(deployment: Deployment) -> images.ImageOrder:
    """Which image, for which nodes, over which address of the head."""
    settings = deployment.settings
    return images.ImageOrder(
        image=settings.image,
        pull=settings.pull,
        hosts=deployment.serving,
        records={
            name: cache_root(deployment.declaration.nodes[name], deployment.facts[name])
            for name in deployment.declaration.names
        },
        address=deployment.address,
        seconds=settings.pull_timeout,
    )


def vocabularies_job(deployment: Deployment) -> vocabularies.Vocabularies:
    """What gpt-oss reads beside its weights, and which nodes lack it."""
    settings = deployment.settings
    lacking = {name: deployment.vocabularies(host) for name, host in deployment.serving.items()}
    return vocabularies.Vocabularies(
        hosts=deployment.serving,
        folders={
            name: expand(deployment.declaration.nodes[name].tiktoken_dir, deployment.facts[name])
            for name in deployment.declaration.names
        },
        lacking={name: files for name, files in lacking.items() if files},
        source=settings.tiktoken_source,
        address=deployment.address,
    )


def weights_needed(deployment: Deployment) -> bool:
    """Whether the files are looked at: ranks are about to start, or every file is to be read."""
    return deployment.docker and (deployment.plan.restart or deployment.settings.verify == "full")


def weights_jobs(deployment: Deployment) -> tuple[node_weights.WeightsJob, ...]:
    """Which files, for which nodes, from where: the model's, then its draft model's."""
    return tuple(_weights_job(deployment, one) for one in deployment.decision.repositories)


def _weights_job(deployment: Deployment, repository: WantedRepository) -> node_weights.WeightsJob:
    settings, id_ = deployment.settings, repository.id
    facts = {name: deployment.facts[name] for name in deployment.declaration.names}
    caches = {
        name: expand(deployment.declaration.nodes[name].hf_cache, reading)
        for name, reading in facts.items()
    }
    folders = {
        name: expand(id_, facts[name]) if repository.local else hub_folder(cache, id_)
        for name, cache in caches.items()
    }
    return node_weights.WeightsJob(
        hosts=deployment.serving,
        folders={name: folder.rstrip("/") for name, folder in folders.items()},
        caches=caches,
        model=id_,
        local=repository.local,
        draft=repository.draft,
        revision=repository.revision,
        image=settings.image,
        group=settings.group,
        endpoint=settings.hf_endpoint,
        offline=settings.offline,
        full=settings.verify == "full",
        stall=settings.download_stall_timeout,
        token=lambda: secrets.find_token(settings.hf_token_file),
        address=deployment.address,
        serves=not deployment.plan.restart,
    )


# ---- the API key on the nodes


def key_needed(deployment: Deployment, host: Host) -> bool:
    """Whether a rank that reads a key will start on this node."""
    return deployment.plan.restart and _reads_key(deployment, host)


def key_left(deployment: Deployment, host: Host) -> bool:
    """Whether the rank that read a key on this node goes, and no other one comes."""
    gone = [
        s.current for s in deployment.plan.of(host.name) if s.current and (s.remove or s.recreate)
    ]
    keyed = any(api_key.is_keyed(spec.volumes) for rank in gone if (spec := rank.spec))
    return keyed and not _reads_key(deployment, host)


def _reads_key(deployment: Deployment, host: Host) -> bool:
    spec = deployment.specs.get(host.name)
    return spec is not None and api_key.is_keyed(spec.volumes)


# ---- the switch


def build_switch(deployment: Deployment) -> switch.Switch | None:
    """From what runs to what is declared, by the plan as it is now; None: nothing is to be done."""
    if not deployment.plan.changes and (deployment.served is not None or not deployment.running):
        return None
    state = next(iter(deployment.hosts.values())).state
    starts = deployment.running and deployment.served is None
    return switch.Switch(
        hosts=deployment.hosts,
        runtime=deployment.runtime,
        plan=deployment.plan,
        stop_seconds=deployment.settings.stop_timeout,
        group=declared_group(deployment) if starts else None,
        previous=previous_group(deployment),
        lost=lambda: lease.lost(state),
        taken=lambda: lease.taken(state),
    )


def declared_group(deployment: Deployment) -> group.Group:
    """The group to start, or to wait for."""
    rank = next(iter(deployment.specs.values())).name
    return group.Group(
        hosts=deployment.serving,
        specs=deployment.specs,
        runtime=deployment.runtime,
        model=deployment.model_name,
        url=deployment.own_url,
        limits=deployment.ready_limits,
        stop_seconds=deployment.settings.stop_timeout,
        start=deployment.plan.restart,
        restarts={} if deployment.plan.restart else deployment.restarts(),
        fetch_answers=lambda: read_answers(
            deployment, deployment.urls, deployment.model_name, rank
        ),
        rdma=deployment.fabric.transport == "rdma",
        collectives=collectives_of(deployment.specs, deployment.declaration, deployment.model),
        probe=_probe(deployment),
        before_start=_before_start(deployment),
    )


def _probe(deployment: Deployment) -> Callable[[], tuple[Finding, ...]] | None:
    """What sends the probes to the declared group; None: none are to be sent."""
    settings, spec = deployment.settings, next(iter(deployment.specs.values()))
    if settings.probes == "off":
        return None
    from control.answer_probes import probe  # a converged run does not need it

    def send() -> tuple[Finding, ...]:
        key = secrets.find_api_key(settings.api_key_file)
        findings = probe(deployment.head, spec, deployment.model, settings.probes, key)
        # The report has the warnings of a deploy that they do not end.
        doubts = (finding for finding in findings if finding.level is Level.WARNING)
        deployment.findings = (*deployment.findings, *doubts)
        return findings

    return send


def previous_group(deployment: Deployment) -> group.Group | None:
    """The group to put back if the switch fails, as its labels describe it; None if none runs."""
    if (previous := deployment.plan.previous) is None:
        return None
    specs = previous.specs
    urls = group_urls(specs)
    head, first = next(iter(specs.items()))
    return group.Group(
        hosts={node: deployment.hosts[node] for node in specs},
        specs=specs,
        runtime=deployment.runtime,
        model=previous.model,
        url=urls[0],
        limits=ready_limits(deployment.settings.ready_timeout, len(specs)),
        stop_seconds=deployment.settings.stop_timeout,
        start=True,
        restarts={},
        fetch_answers=lambda: read_answers(
            deployment, urls, previous.model, head=head, keyed=api_key.is_keyed(first.volumes)
        ),
        rdma=False,
        before_start=_before_start(deployment),
    )


def _before_start(deployment: Deployment) -> Command | None:
    """What empties the page cache before a load, if that is declared."""
    settings = deployment.settings
    drops = settings.drop_caches and deployment.runtime is docker
    return drop_caches(settings.image) if drops else None
