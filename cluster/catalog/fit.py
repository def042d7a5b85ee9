"""Whether a model fits: heads divided over GPUs, weights and KV cache in the nodes' memory."""

from dataclasses import dataclass
from math import ceil

from cluster import findings, printable
from cluster.catalog.entry import Model

GIB = 2**30
# The share of MemTotal that CUDA counts as a GB10's memory: 121.6 GiB of 131,334,144 kB.
CUDA_SHARE = 121.6 * GIB / (131_334_144 * 1024)
# A cache smaller than this can't hold one useful conversation.
LEAST_KV_TOKENS = 512
DEPLOY = "pyinfra INVENTORY deploy.py --data"


@dataclass(frozen=True)
class MemoryBudget:
    """One node's memory as SGLang would use it, in bytes.

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
) -> list[findings.Finding]:
    """Why SGLang could not serve the model this way; [] if it can. All of it is arithmetic.

    + memory_total_bytes: MemTotal of the node with the least; None if it could not be read
    + memory_available_bytes: MemAvailable of the node with the least, without our own rank: SGLang
      takes its share of this; too little only warns, since it changes
    + context_length: tokens of one request; None: the model's own limit

    A model whose size is not in the catalog gets a warning. For the embedded engine only the
    model's file must fit.
    """
    if model.runtime == "process":
        return _process(model, memory_total_bytes)
    spread = [*_gpus(nodes, tp, pp, gpus_per_node), *_heads(model, tp, pp)]
    if spread or model.weight_bytes is None or memory_total_bytes is None:
        return [*spread, *_unchecked(model, memory_total_bytes)]
    memory = _memory_budget(model.weight_bytes, memory_total_bytes, nodes, mem_fraction)
    if memory.kv < 0:
        return [_too_large(model, memory, nodes, mem_fraction)]
    tokens = kv_tokens(model, memory_total_bytes, nodes=nodes, tp=tp, mem_fraction=mem_fraction)
    return [
        *_cache(model, tokens, memory, context_length),
        *_tight(memory, mem_fraction, memory_available_bytes),
    ]


def kv_tokens(
    model: Model, memory_total_bytes: int, *, nodes: int, tp: int, mem_fraction: float
) -> int | None:
    """About how many tokens the KV cache of the whole group holds; None if unknown.

    An upper estimate: BF16 cache, without CUDA graphs and activations. Layers with a sliding
    window are counted in full.
    """
    per_token = model.shape.kv_bytes_per_token(tp)
    if model.weight_bytes is None or per_token is None:
        return None
    memory = _memory_budget(model.weight_bytes, memory_total_bytes, nodes, mem_fraction)
    return max(0, int(memory.kv * nodes / (per_token * tp)))


def _memory_budget(
    weight_bytes: int, memory_total_bytes: int, nodes: int, mem_fraction: float
) -> MemoryBudget:
    return MemoryBudget(weight_bytes / nodes, mem_fraction * memory_total_bytes * CUDA_SHARE)


def _gpus(nodes: int, tp: int, pp: int, gpus_per_node: int) -> list[findings.Finding]:
    """SGLang's own rule (server_args.py): (tp * pp) % nnodes == 0; and a GPU for every rank."""
    ranks, product = tp * pp, f"tensor_parallel {tp} x pipeline_parallel {pp} = {tp * pp}"
    cure = f"{DEPLOY} tensor_parallel={nodes * gpus_per_node} --data pipeline_parallel=1"
    if ranks % nodes:
        return [findings.error(f"{product} does not divide over {nodes} nodes", cure=cure)]
    if ranks > nodes * gpus_per_node:
        have = f"{nodes} x {gpus_per_node}"
        return [findings.error(f"{product} GPUs are needed, the nodes have {have}", cure=cure)]
    return []


def _heads(model: Model, tp: int, pp: int) -> list[findings.Finding]:
    """SGLang asserts both at load (models/llama.py and others); fewer KV heads are copied."""
    if _splits(model, tp):
        return []
    odd = f"{model.shape.attention_heads} attention heads"
    if (model.shape.attention_heads or 0) % tp == 0:
        odd = f"{model.shape.kv_heads} KV heads"
    what = f"{model.alias or model.id} has {odd}, which do not divide over tensor_parallel {tp}"
    return [findings.error(what, cure=_other_split(model, tp, pp))]


def _splits(model: Model, tp: int) -> bool:
    kv = 1 if model.shape.kv_latent_dim is not None else model.shape.kv_heads or 1
    return (model.shape.attention_heads or 0) % tp == 0 and (kv % tp == 0 or tp % kv == 0)


def _other_split(model: Model, tp: int, pp: int) -> str:
    """The most tensor parallelism that the heads allow, over the same GPUs if possible."""
    allowed = [n for n in range(tp - 1, 0, -1) if _splits(model, n)]
    same = next((n for n in allowed if n > 1 and tp * pp % n == 0), None)
    if same:
        return f"{DEPLOY} tensor_parallel={same} --data pipeline_parallel={tp * pp // same}"
    return f"an inventory with {allowed[0] * pp} GPUs, and tensor_parallel={allowed[0]}"


def _unchecked(model: Model, memory_total_bytes: int | None) -> list[findings.Finding]:
    missing = [
        *(["its size is not in the catalog"] if model.weight_bytes is None else []),
        *(["the nodes' memory could not be read"] if memory_total_bytes is None else []),
    ]
    if not missing:
        return []
    why = " and ".join(missing)
    return [findings.warning(f"whether {model.alias or model.id} fits was not checked: {why}")]


def _too_large(
    model: Model, memory: MemoryBudget, nodes: int, mem_fraction: float
) -> findings.Finding:
    weights = f"{printable.gigabytes(model.weight_bytes or 0)} of weights"
    if nodes > 1:
        weights += f" / {nodes} nodes = {printable.gigabytes(memory.weights)}"
    visible = memory.budget / mem_fraction
    limit = (
        f"{mem_fraction:.2f} x {printable.gibibytes(visible)} = "
        f"{printable.gigabytes(memory.budget)}"
    )
    enough = ceil((model.weight_bytes or 0) / max(memory.budget, 1))
    return findings.error(
        f"{model.alias or model.id} does not fit: {weights} > {limit}",
        cure=f"at least {enough} nodes (tensor_parallel={enough}), a smaller or a quantized model",
    )


def _cache(
    model: Model, tokens: int | None, memory: MemoryBudget, context_length: int | None
) -> list[findings.Finding]:
    if tokens is None:
        return []
    name, left = model.alias or model.id, printable.gigabytes(memory.kv)
    if tokens < LEAST_KV_TOKENS:
        what = f"{name} leaves {left} a node for the KV cache: {tokens} tokens"
        return [
            findings.error(
                f"{what}, {LEAST_KV_TOKENS} are needed", cure="more nodes, a smaller model"
            )
        ]
    context = context_length or model.max_context or 0
    if tokens < context:
        what = (
            f"{name} leaves a KV cache of {tokens} tokens, less than one full context ({context})"
        )
        return [
            findings.warning(
                what, cure=f"{DEPLOY} context_length={tokens // 1024 * 1024 or tokens}"
            )
        ]
    return []


def _tight(
    memory: MemoryBudget, mem_fraction: float, available: int | None
) -> list[findings.Finding]:
    """SGLang's budget is its fraction of what is free when it starts, not of the total."""
    if available is None or memory.weights <= mem_fraction * available:
        return []
    have = (
        f"{mem_fraction:.2f} x {printable.gibibytes(available)} free = "
        f"{printable.gigabytes(mem_fraction * available)}"
    )
    return [
        findings.warning(
            f"{printable.gigabytes(memory.weights)} of weights per node > {have}: loading "
            "may run out of memory",
            cure="stop what else uses memory; sync; echo 3 | sudo tee /proc/sys/vm/drop_caches",
        )
    ]


def _process(model: Model, memory_total_bytes: int | None) -> list[findings.Finding]:
    if not model.weight_bytes or not memory_total_bytes:
        return _unchecked(model, memory_total_bytes)
    if model.weight_bytes < memory_total_bytes:
        return []
    sizes = (
        f"{printable.gigabytes(model.weight_bytes)} of weights > "
        f"{printable.gigabytes(memory_total_bytes)} of memory"
    )
    return [
        findings.error(f"{model.alias or model.id} does not fit: {sizes}", cure="a smaller model")
    ]
