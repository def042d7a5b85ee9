"""Whether a model fits: its heads over the GPUs, its weights and KV cache in the nodes' memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cluster.catalog.models import Model
from cluster.findings import Finding, error, warning

GIB = 2**30
# Of MemTotal, what CUDA counts as a GB10's memory: 121.6 GiB of 131,334,144 kB.
CUDA_SHARE = 121.6 * GIB / (131_334_144 * 1024)
# A cache smaller than this can't hold one useful conversation.
LEAST_KV_TOKENS = 512
DEPLOY = "pyinfra INVENTORY deploy.py --data"


@dataclass(frozen=True)
class Room:
    """One node's memory as SGLang would share it out, bytes.

    + weights: this node's part of the checkpoint
    + budget: mem_fraction of the memory that CUDA sees: for weights and KV cache
    """

    weights: float
    budget: float

    @property
    def kv(self) -> float:
        return self.budget - self.weights


def fit(
    model: Model,
    memory_total_bytes: int | None,
    *,
    nodes: int,
    tp: int,
    pp: int,
    mem_fraction: float,
    context_length: int | None = None,
    memory_available_bytes: int | None = None,
    gpus_per_node: int = 1,
) -> list[Finding]:
    """Why SGLang could not serve the model so; [] where it can. All of it is arithmetic.

    + memory_total_bytes: MemTotal of the node that has least; None where it could not be read
    + memory_available_bytes: MemAvailable of the node that has least, once our own rank is gone:
      SGLang takes its share of this; too little only warns, since it changes
    + context_length: tokens that one request may have; None: the model's own

    What is not known of a model is a warning that it was not checked. The embedded model's process
    shares nothing with SGLang's memory fraction: only its file must fit.
    """
    if model.runtime == "process":
        return _process(model, memory_total_bytes)
    spread = [*_gpus(nodes, tp, pp, gpus_per_node), *_heads(model, tp, pp)]
    if spread or model.weight_bytes is None or memory_total_bytes is None:
        return [*spread, *_unchecked(model, memory_total_bytes)]
    room = _room(model.weight_bytes, memory_total_bytes, nodes, mem_fraction)
    if room.kv < 0:
        return [_too_large(model, room, nodes, mem_fraction)]
    tokens = kv_tokens(model, memory_total_bytes, nodes=nodes, tp=tp, mem_fraction=mem_fraction)
    return [
        *_cache(model, tokens, room, context_length),
        *_tight(room, mem_fraction, memory_available_bytes),
    ]


def kv_tokens(
    model: Model, memory_total_bytes: int, *, nodes: int, tp: int, mem_fraction: float
) -> int | None:
    """About how many tokens the KV cache of the whole group holds; None where unknown.

    An estimate from above: BF16 cache, without CUDA graphs and activations. Layers with a sliding
    window are counted in full.
    """
    per_token = model.kv_bytes_per_token(tp)
    if model.weight_bytes is None or per_token is None:
        return None
    room = _room(model.weight_bytes, memory_total_bytes, nodes, mem_fraction)
    return max(0, int(room.kv * nodes / (per_token * tp)))


def _room(weight_bytes: int, memory_total_bytes: int, nodes: int, mem_fraction: float) -> Room:
    return Room(weight_bytes / nodes, mem_fraction * memory_total_bytes * CUDA_SHARE)


def _gpus(nodes: int, tp: int, pp: int, gpus_per_node: int) -> list[Finding]:
    """SGLang's own rule (server_args.py): (tp * pp) % nnodes == 0; and a GPU for every rank."""
    ranks, product = tp * pp, f"tensor_parallel {tp} x pipeline_parallel {pp} = {tp * pp}"
    cure = f"{DEPLOY} tensor_parallel={nodes * gpus_per_node} --data pipeline_parallel=1"
    if ranks % nodes:
        return [error(f"{product} does not divide over {nodes} nodes", cure=cure)]
    if ranks > nodes * gpus_per_node:
        have = f"{nodes} x {gpus_per_node}"
        return [error(f"{product} GPUs are wanted, the nodes have {have}", cure=cure)]
    return []


def _heads(model: Model, tp: int, pp: int) -> list[Finding]:
    """SGLang asserts both at load (models/llama.py and its like); fewer KV heads are copied."""
    if _splits(model, tp):
        return []
    odd = f"{model.attention_heads} attention heads"
    if (model.attention_heads or 0) % tp == 0:
        odd = f"{model.kv_heads} KV heads"
    what = f"{model.alias or model.id} has {odd}, which do not divide over tensor_parallel {tp}"
    return [error(what, cure=_other_split(model, tp, pp))]


def _splits(model: Model, tp: int) -> bool:
    kv = 1 if model.kv_latent_dim is not None else model.kv_heads or 1
    return (model.attention_heads or 0) % tp == 0 and (kv % tp == 0 or tp % kv == 0)


def _other_split(model: Model, tp: int, pp: int) -> str:
    """The most tensor parallelism that the heads allow, over the same GPUs where it can be."""
    allowed = [n for n in range(tp - 1, 0, -1) if _splits(model, n)]
    same = next((n for n in allowed if n > 1 and tp * pp % n == 0), None)
    if same:
        return f"{DEPLOY} tensor_parallel={same} --data pipeline_parallel={tp * pp // same}"
    return f"an inventory with {allowed[0] * pp} GPUs, and tensor_parallel={allowed[0]}"


def _unchecked(model: Model, memory_total_bytes: int | None) -> list[Finding]:
    missing = [
        *(["its size is not in the catalogue"] if model.weight_bytes is None else []),
        *(["the nodes' memory could not be read"] if memory_total_bytes is None else []),
    ]
    if not missing:
        return []
    why = " and ".join(missing)
    return [warning(f"whether {model.alias or model.id} fits was not checked: {why}")]


def _too_large(model: Model, room: Room, nodes: int, mem_fraction: float) -> Finding:
    weights = f"{_gb(model.weight_bytes or 0)} of weights"
    if nodes > 1:
        weights += f" / {nodes} nodes = {_gb(room.weights)}"
    visible = room.budget / mem_fraction
    limit = f"{mem_fraction:.2f} x {_gib(visible)} = {_gb(room.budget)}"
    enough = ceil((model.weight_bytes or 0) / max(room.budget, 1))
    return error(
        f"{model.alias or model.id} does not fit: {weights} > {limit}",
        cure=f"at least {enough} nodes (tensor_parallel={enough}), a smaller or a quantised model",
    )


def _cache(
    model: Model, tokens: int | None, room: Room, context_length: int | None
) -> list[Finding]:
    if tokens is None:
        return []
    name, left = model.alias or model.id, _gb(room.kv)
    if tokens < LEAST_KV_TOKENS:
        what = f"{name} leaves {left} a node for the KV cache: {tokens} tokens"
        return [error(f"{what}, {LEAST_KV_TOKENS} are needed", cure="more nodes, a smaller model")]
    wanted = context_length or model.max_context or 0
    if tokens < wanted:
        what = f"{name} leaves a KV cache of {tokens} tokens, less than one full context ({wanted})"
        return [warning(what, cure=f"{DEPLOY} context_length={tokens // 1024 * 1024 or tokens}")]
    return []


def _tight(room: Room, mem_fraction: float, available: int | None) -> list[Finding]:
    """SGLang's budget is its fraction of what is free when it starts, not of the total."""
    if available is None or room.weights <= mem_fraction * available:
        return []
    have = f"{mem_fraction:.2f} x {_gib(available)} free = {_gb(mem_fraction * available)}"
    return [
        warning(
            f"{_gb(room.weights)} of weights a node > {have}: loading may run out of memory",
            cure="stop what else uses memory; sync; echo 3 | sudo tee /proc/sys/vm/drop_caches",
        )
    ]


def _process(model: Model, memory_total_bytes: int | None) -> list[Finding]:
    if not model.weight_bytes or not memory_total_bytes:
        return _unchecked(model, memory_total_bytes)
    if model.weight_bytes < memory_total_bytes:
        return []
    sizes = f"{_gb(model.weight_bytes)} of weights > {_gb(memory_total_bytes)} of memory"
    return [error(f"{model.alias or model.id} does not fit: {sizes}", cure="a smaller model")]


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
