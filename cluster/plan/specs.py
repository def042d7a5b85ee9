"""The declared specs: one for each serving node, from settings, model and readings."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from cluster.catalog.models import Model
from cluster.engine import argv, versions
from cluster.fabric import Fabric
from cluster.node.readings import NodeFacts
from cluster.rank import api_key
from cluster.rank.spec import Spec
from cluster.settings import declaration, schema
from cluster.settings.resolve import usual_fraction

CONTAINER_HF_HOME = "/root/.cache/huggingface"
CONTAINER_TIKTOKEN = "/tiktoken_encodings"
# What vendors' and users' launch scripts for SGLang on GB10 agree on.
GB10_ENV = {
    "NCCL_CUMEM_ENABLE": "0",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}


def declared_specs(
    declared: declaration.Declaration,
    model: Model,
    fabric: Fabric,
    facts: Mapping[str, NodeFacts],
    version: str,
) -> dict[str, Spec]:
    """The spec of every serving node, by node name.

    + declared: with the catalog's values (`resolve`)
    """
    specs: dict[str, Spec] = {}
    # A label of before there were variants names none, so one of the default doesn't either.
    variant = declared.catalog.variant
    variant = "" if variant == model.default_variant else variant
    for rank, (node, settings) in enumerate(declared.nodes.items()):
        spec = Spec(
            rank=rank,
            name=rank_names(declared)[node],
            runtime=settings.runtime,
            group=settings.group,
            model=model.id,
            variant=variant,
            launch=_launch(rank, declared, model, fabric, facts[node], version),
        )
        if settings.runtime == "process":
            specs[node] = replace(spec, env=settings.env)
            continue
        specs[node] = replace(
            spec,
            image=settings.image,
            sglang=version,
            env=_env(settings, model, fabric.nodes[rank].env),
            volumes=_volumes(settings, model, facts[node], rank),
            devices=("/dev/infiniband",) if fabric.transport == "rdma" else (),
            gpus="" if settings.gpus == "none" else settings.gpus,
            ipc=settings.ipc,
            shm_size="" if settings.ipc == "host" else settings.shm_size,
            restart_policy=settings.restart_policy,
            compile_caches="" if settings.gpus == "none" else cache_root(settings, facts[node]),
        )
    return specs


def rank_names(declared: declaration.Declaration) -> dict[str, str]:
    """Node → its rank's name: "sglang-head" for rank 0, "sglang-worker-N" for the others, by
    default."""
    return {
        node: settings.head_container if rank == 0 else f"{settings.worker_container}-{rank}"
        for rank, (node, settings) in enumerate(declared.nodes.items())
    }


def parallelism(declared: declaration.Declaration) -> tuple[int, int]:
    """(tp, pp). tensor_parallel "auto" is one GPU of each node, shared out over the stages."""
    settings, nodes = declared.common, len(declared.names)
    if settings.head_only:
        return 1, 1
    pp = 1 if settings.pipeline_parallel == "auto" else settings.pipeline_parallel
    tp = settings.tensor_parallel
    return (max(1, nodes // pp) if tp == "auto" else tp), pp


def mem_fraction(settings: schema.Settings, model: Model) -> float:
    """The declared fraction of a GPU's memory, else the model's."""
    return usual_fraction(model) if settings.mem_fraction == "auto" else settings.mem_fraction


def served_name(settings: schema.Settings, model: Model) -> str:
    return settings.served_model_name or model.id


def expand(path: str, facts: NodeFacts) -> str:
    """`~` is the login's home on the node, not here."""
    return facts.home + path[1:] if path == "~" or path.startswith("~/") else path


def cache_root(settings: schema.Settings, facts: NodeFacts) -> str:
    """The node's folder for compile caches and the record of images; "" where nothing is kept: the
    settings say so, or leave the choice and the login may not write there."""
    if settings.cache_dir == "none" or settings.runtime == "process":
        return ""
    if settings.cache_dir == "auto" and "served" in facts.unread:
        return ""
    own = f"{settings.hf_cache.rstrip('/')}/spark-serving"
    chosen = own if settings.cache_dir == "auto" else settings.cache_dir
    return expand(chosen, facts).rstrip("/")


def _launch(
    rank: int,
    declared: declaration.Declaration,
    model: Model,
    fabric: Fabric,
    facts: NodeFacts,
    version: str,
) -> argv.Launch:
    settings = declared.common
    tp, pp = parallelism(declared)
    several = len(declared.names) > 1
    head = fabric.nodes[0].address
    return argv.Launch(
        model_path=expand(model.id, facts),
        revision=None if model.local else settings.revision or None,
        served_model_name=served_name(settings, model),
        tp=tp,
        pp=pp,
        nnodes=len(declared.names),
        rank=rank,
        dist_init_addr=f"{head}:{settings.dist_port}" if several else None,
        dist_timeout=_or_none(settings.dist_timeout),
        host=settings.host,
        port=settings.port,
        mem_fraction=mem_fraction(settings, model),
        context_length=_or_none(settings.context_length),
        trust_remote_code=_auto(settings.trust_remote_code, model.trust_remote_code),
        reasoning_parser=_parser(settings.reasoning_parser, model.reasoning_parser),
        tool_call_parser=_parser(settings.tool_call_parser, model.tool_call_parser),
        disable_cuda_graph=_auto(settings.disable_cuda_graph, True),
        enable_dp_attention=_auto(
            settings.enable_dp_attention, versions.dp_attention_needed(model.id, version)
        ),
        enable_metrics=settings.enable_metrics,
        kv_cache_dtype="" if settings.kv_cache_dtype == "auto" else settings.kv_cache_dtype,
        model_args=declared.catalog.arguments,
        extra_args=settings.extra_args,
    )


def _or_none(value: Any) -> Any:
    return None if value == "auto" else value


def _auto(setting: bool | str, otherwise: bool) -> bool:
    return otherwise if setting == "auto" else bool(setting)


def _parser(setting: str, models: str) -> str:
    """ "auto" is the model's own; "none" or "" is no parser."""
    return {"auto": models, "none": ""}.get(setting, setting)


def _env(settings: schema.Settings, model: Model, fabric: Mapping[str, str]) -> dict[str, str]:
    own = {
        "HF_HOME": CONTAINER_HF_HOME,
        # The deploy has brought the files: the engine needs neither the hub nor a token.
        "HF_HUB_OFFLINE": "1",
        "NCCL_DEBUG": settings.nccl_debug,
        **GB10_ENV,
        **fabric,
    }
    if model.tiktoken:
        own["TIKTOKEN_ENCODINGS_BASE"] = CONTAINER_TIKTOKEN
    return own | settings.env


def _volumes(
    settings: schema.Settings, model: Model, facts: NodeFacts, rank: int = 0
) -> tuple[str, ...]:
    # Not HF_HOME itself, where `hf auth login` leaves the token; and engines have nothing to write.
    cache = expand(settings.hf_cache, facts).rstrip("/")
    own = [f"{cache}/hub:{CONTAINER_HF_HOME}/hub:ro"]
    if model.tiktoken:
        own.append(f"{expand(settings.tiktoken_dir, facts)}:{CONTAINER_TIKTOKEN}:ro")
    path = expand(model.id, facts)
    if path.startswith("/"):
        own.append(f"{path}:{path}:ro")
    if settings.api_key_file and rank == 0:
        own.append(api_key.key_volume(settings.group))
    return (*own, *settings.volumes)


def token_mounts(settings: schema.Settings, facts: NodeFacts) -> Iterator[str]:
    """Those of the settings' own `volumes` that hold the hub's token, where the node has one."""
    homes = (f"{facts.home}/.cache/huggingface", expand(settings.hf_cache, facts))
    tokens = [PurePosixPath(home, name) for home in homes for name in ("token", "stored_tokens")]
    for volume in settings.volumes:
        source = expand(volume.partition(":")[0], facts)
        if any(token.is_relative_to(source) for token in tokens):
            yield volume
