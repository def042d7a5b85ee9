"""What bringing the image and the model's files to the nodes needs of a deployment."""

from cluster.plan.specs import expand
from cluster.transfer.weights import hub_folder
from control import secrets
from control.deployment import Deployment
from operations.images import ImageOrder
from operations.node_weights import WeightsJob
from operations.vocabularies import Vocabularies


def image_order(deployment: Deployment) -> ImageOrder:
    """Which image, for which nodes, over which address of the head."""
    settings = deployment.settings
    return ImageOrder(
        image=settings.image,
        pull=settings.pull,
        hosts=deployment.serving,
        address=deployment.address,
        seconds=settings.pull_timeout,
    )


def weights_needed(deployment: Deployment) -> bool:
    """Whether the files are looked at: ranks are about to start, or every file shall be read."""
    settings = deployment.settings
    docker = deployment.running and settings.runtime == "docker"
    return docker and (deployment.plan.restart or settings.verify == "full")


def vocabularies_job(deployment: Deployment) -> Vocabularies:
    """What gpt-oss reads beside its weights, and which nodes lack it."""
    settings = deployment.settings
    lacking = {name: deployment.vocabularies(host) for name, host in deployment.serving.items()}
    return Vocabularies(
        hosts=deployment.serving,
        folders={
            name: expand(deployment.declaration.nodes[name].tiktoken_dir, deployment.facts[name])
            for name in deployment.declaration.names
        },
        lacking={name: files for name, files in lacking.items() if files},
        source=settings.tiktoken_source,
        address=deployment.address,
    )


def weights_job(deployment: Deployment) -> WeightsJob:
    """Which files, for which nodes, from where."""
    settings, model = deployment.settings, deployment.model
    facts = {name: deployment.facts[name] for name in deployment.declaration.names}
    caches = {
        name: expand(deployment.declaration.nodes[name].hf_cache, seen)
        for name, seen in facts.items()
    }
    folders = {
        name: expand(model.id, facts[name]) if model.local else hub_folder(cache, model.id)
        for name, cache in caches.items()
    }
    return WeightsJob(
        hosts=deployment.serving,
        folders={name: folder.rstrip("/") for name, folder in folders.items()},
        caches=caches,
        model=model.id,
        local=model.local,
        revision=settings.revision,
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
