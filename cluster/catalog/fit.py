"""Whether a model fits: heads divided over GPUs, weights and KV cache in the nodes' memory."""

from math import ceil

from cluster import findings, printable
from cluster.catalog import memory
from cluster.catalog.entry import Model

# A cache smaller than this can't hold one useful conversation.
LEAST_KV_TOKENS = 512
DEPLOY = "pyinfra INVENTORY deploy.py --data"


def fit(
    model: Model,
    memory_total_bytes: int | None,
    use: memory.Use,
    *,
    memory_available_bytes: int | None = None,
    gpus_per_node: int = 1,
) -> list[findings.Finding]:
    """Why SGLang could not serve the model this way; [] if it can. All of it is arithmetic.

    + memory_total_bytes: MemTotal of the node with the least; None if it could not be read
    + memory_available_bytes: MemAvailable of the node with the least, without our own rank: SGLang
      takes its share of this; too little only warns, since it changes

    A model whose size is unknown gets a warning. For the embedded engine only the model's file must
    fit.
    """
    if model.runtime == "process":
        return _process(model, memory_total_bytes)
    spread = [*_gpus(use, gpus_per_node), *_heads(model, use.tp, use.pp)]
    weights = memory.node_weights(model, use)
    if spread or weights is None or memory_total_bytes is None:
        return [*spread, *_unchecked(model, memory_total_bytes)]
    left = (
        memory.node_budget(memory_total_bytes, use)
        - weights
        - (memory.node_states(model, use) or 0)
    )
    if left < 0:
        return [_too_large(model, memory_total_bytes, use)]
    tokens = memory.kv_tokens(model, memory_total_bytes, use)
    return [
        *_cache(model, tokens, left, use),
        *_crowded(model, memory_total_bytes, use),
        *_tight(weights, use.mem_fraction, memory_available_bytes),
    ]


def _gpus(use: memory.Use, gpus_per_node: int) -> list[findings.Finding]:
    """SGLang's own rule (server_args.py): (tp * pp) % nnodes == 0; and a GPU for every rank."""
    nodes, ranks = use.nodes, use.tp * use.pp
    product = f"tensor_parallel {use.tp} x pipeline_parallel {use.pp} = {ranks}"
    cure = f"{DEPLOY} tensor_parallel={nodes * gpus_per_node} --data pipeline_parallel=1"
    if ranks % nodes:
        return [
            findings.error(
                f"{product} does not divide over {nodes} nodes", cure=cure, key="gpus-not-divisible"
            )
        ]
    if ranks > nodes * gpus_per_node:
        have = f"{nodes} x {gpus_per_node}"
        return [
            findings.error(
                f"{product} GPUs are needed, the nodes have {have}", cure=cure, key="gpus-too-few"
            )
        ]
    return []


def _heads(model: Model, tp: int, pp: int) -> list[findings.Finding]:
    """SGLang asserts both at load (models/llama.py and others); fewer KV heads are copied."""
    if _splits(model, tp):
        return []
    odd = f"{model.shape.attention_heads} attention heads"
    if (model.shape.attention_heads or 0) % tp == 0:
        odd = f"{model.shape.kv_heads} KV heads"
    what = f"{model.alias or model.id} has {odd}, which do not divide over tensor_parallel {tp}"
    # The most tensor parallelism that the heads allow, over the same GPUs if possible.
    allowed = [n for n in range(tp - 1, 0, -1) if _splits(model, n)]
    same = next((n for n in allowed if n > 1 and tp * pp % n == 0), None)
    cure = f"an inventory with {allowed[0] * pp} GPUs, and tensor_parallel={allowed[0]}"
    if same:
        cure = f"{DEPLOY} tensor_parallel={same} --data pipeline_parallel={tp * pp // same}"
    return [findings.error(what, cure=cure, key="heads-not-divisible")]


def _splits(model: Model, tp: int) -> bool:
    kv = 1 if model.shape.kv_latent_dim is not None else model.shape.kv_heads or 1
    return (model.shape.attention_heads or 0) % tp == 0 and (kv % tp == 0 or tp % kv == 0)


def _unchecked(model: Model, memory_total_bytes: int | None) -> list[findings.Finding]:
    missing = [
        *(["its size is unknown"] if model.weight_bytes is None else []),
        *(["the nodes' memory could not be read"] if memory_total_bytes is None else []),
    ]
    if not missing:
        return []
    why = " and ".join(missing)
    return [
        findings.warning(
            f"whether {model.alias or model.id} fits was not checked: {why}", key="fit-unchecked"
        )
    ]


def _too_large(model: Model, memory_total_bytes: int, use: memory.Use) -> findings.Finding:
    whole = (model.weight_bytes or 0) - use.offloaded_bytes
    weights, states = memory.node_weights(model, use) or 0, memory.node_states(model, use) or 0
    budget = memory.node_budget(memory_total_bytes, use)
    terms = f"{printable.gigabytes(whole)} of weights"
    if use.nodes > 1:
        terms += f" / {use.nodes} nodes = {printable.gigabytes(weights)}"
    if states:
        terms += f" + {printable.gigabytes(states)} of states"
    limit = f"{use.mem_fraction:.2f} x {printable.gibibytes(budget / use.mem_fraction)}"
    if use.others_bytes:
        limit += f" (without {printable.gigabytes(use.others_bytes)} of other groups)"
    enough = ceil((whole + states * use.nodes) / max(budget, 1))
    cure = f"at least {enough} nodes (tensor_parallel={enough}), a smaller or a quantized model"
    if use.others_bytes:
        cure += ", or stop the other groups: --data group=NAME --data state=stopped"
    return findings.error(
        f"{model.alias or model.id} does not fit: {terms} > {limit} = "
        f"{printable.gigabytes(budget)}",
        cure=cure,
        key="model-too-large",
    )


def _cache(
    model: Model, tokens: int | None, left: float, use: memory.Use
) -> list[findings.Finding]:
    if tokens is None:
        return []
    name = model.alias or model.id
    if tokens < LEAST_KV_TOKENS:
        what = f"{name} leaves {printable.gigabytes(left)} a node for the KV cache: {tokens} tokens"
        return [
            findings.error(
                f"{what}, {LEAST_KV_TOKENS} are needed",
                cure="more nodes, a smaller model",
                key="kv-too-small",
            )
        ]
    context = use.context_length or model.max_context or 0
    if tokens < context:
        what = (
            f"{name} leaves a KV cache of {tokens} tokens, less than one full context ({context})"
        )
        return [
            findings.warning(
                what,
                cure=f"{DEPLOY} context_length={tokens // 1024 * 1024 or tokens}",
                key="kv-below-context",
            )
        ]
    return []


def _crowded(model: Model, memory_total_bytes: int, use: memory.Use) -> list[findings.Finding]:
    """SGLang fills its fraction, and the draft's weights come on top of it."""
    table = memory.memory_table(model, memory_total_bytes, use)
    draft = next((part.bytes or 0 for part in table.parts if part.name == "draft"), 0)
    taken = table.budget + draft + use.others_bytes
    if not draft or taken <= table.visible:
        return []
    fraction = int((table.visible - draft - use.others_bytes) / table.visible * 100) / 100
    cure = f"{DEPLOY} mem_fraction={fraction:.2f}, or --data draft=none"
    return [
        findings.error(
            f"{printable.gigabytes(draft)} of draft model do not fit beside mem_fraction = "
            f"{use.mem_fraction:.2f}",
            cure=cure if fraction > 0 else f"{DEPLOY} draft=none",
            key="draft-too-large",
        )
    ]


def _tight(weights: float, mem_fraction: float, available: int | None) -> list[findings.Finding]:
    """SGLang's budget is its fraction of what is free when it starts, not of the total."""
    if available is None or weights <= mem_fraction * available:
        return []
    have = (
        f"{mem_fraction:.2f} x {printable.gibibytes(available)} free = "
        f"{printable.gigabytes(mem_fraction * available)}"
    )
    return [
        findings.warning(
            f"{printable.gigabytes(weights)} of weights per node > {have}: loading "
            "may run out of memory",
            cure="stop what else uses memory; sync; echo 3 | sudo tee /proc/sys/vm/drop_caches",
            key="memory-tight-while-loading",
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
        findings.error(
            f"{model.alias or model.id} does not fit: {sizes}",
            cure="a smaller model",
            key="model-too-large",
        )
    ]
