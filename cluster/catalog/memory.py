"""A node's memory, part by part: what SGLang takes, and what must fit beside it.

All of it is arithmetic on what the catalog or a repository's config.json states. A part that
nothing is known of stays unknown: it is shown as that and never counts as nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster import printable
from cluster.catalog.entry import BF16_BYTES, Model, merged

GIB, MIB = 2**30, 2**20
# The share of MemTotal that CUDA counts as a GB10's memory: 121.6 GiB of 131,334,144 kB.
CUDA_SHARE = 121.6 * GIB / (131_334_144 * 1024)
# Of a model whose entry states none: what owners of Sparks settle on.
USUAL_FRACTION = 0.80
# Bytes of a number, by the word of --kv-cache-dtype. FP4 has an FP8 scale for 16 numbers.
KV_WIDTH = {"fp8_e5m2": 1.0, "fp8_e4m3": 1.0, "fp4_e2m1": 9 / 16}
# SGLang's own reserve beside its fraction, in MiB: attention's buffers, an activation of 1.5 for
# each token of a prefill, 2 for each request of the largest decode graph, an eighth of a GiB for
# each GPU, and from 60 GiB on at least 10 GiB for all of them (arg_groups/memory_hook.py of 0.5.23,
# server_args.py of 0.5.4: heuristics of theirs, not measurements).
BUFFERS_MIB, PREFILL_MIB, GRAPH_MIB, LEAST_RESERVE_MIB = 512, 1.5, 2.0, 10 * 1024
# SGLang's defaults for a GPU of 60 to 160 GiB (same files).
PREFILL_TOKENS, GRAPH_BATCH, GRAPH_BATCH_TP4 = 8192, 256, 512
# What a Spark's system keeps: at about 8 GB free earlyoom ends processes (reported by owners;
# upstream's Flash-Next cells leave 8 to 12 GiB).
HOST_BYTES = 8_000_000_000


@dataclass(frozen=True, kw_only=True)
class Use:
    """How a model is served, as far as memory follows from it.

    + kv_cache_dtype: a word of --kv-cache-dtype; "auto" is taken for BF16
    + context_length: tokens of one request; None: the model's own limit
    + requests: that are at their full context at one time
    + running: --max-running-requests; None: SGLang's own limit
    + slots: of the pool of states (--max-mamba-cache-size); None: SGLang chooses
    + state_share: of the states' size in FP32: 0.5 for --mamba-ssm-dtype bfloat16
    + draft_tokens: proposed at once, each with a state of its own; 0: no speculation
    + draft_bytes: of the draft model's weights; 0: none; None: unknown
    + offloaded_bytes: of the weights that stay on the node's disk
    + graph_batch: requests in the largest CUDA graph; 0: graphs are off
    + prefill_tokens: of one chunk of a prompt
    + others_bytes: what other groups of ours hold, on the node where they hold most
    """

    nodes: int
    tp: int
    pp: int = 1
    mem_fraction: float = USUAL_FRACTION
    kv_cache_dtype: str = "auto"
    context_length: int | None = None
    requests: int = 1
    running: int | None = None
    slots: int | None = None
    state_share: float = 1.0
    draft_tokens: int = 0
    draft_bytes: int | None = 0
    offloaded_bytes: int = 0
    graph_batch: int = 0
    prefill_tokens: int = PREFILL_TOKENS
    others_bytes: float = 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of one node's memory.

    + bytes: None: unknown
    + how: where the number comes from, in a few words
    """

    name: str
    bytes: float | None
    how: str


@dataclass(frozen=True, kw_only=True)
class MemoryTable:
    """One node's memory.

    + parts: largest things first: weights, KV cache, states, draft, reserves, others, the system
    + visible: bytes that CUDA counts as the GPU's
    + budget: bytes that SGLang takes for weights, states and KV cache, whatever a request needs
    + kv_tokens: that the KV cache of the whole group holds then; None: unknown
    """

    parts: tuple[Part, ...]
    visible: float
    budget: float
    kv_tokens: int | None

    @property
    def total(self) -> float:
        """Of the parts that are known."""
        return sum(part.bytes or 0 for part in self.parts)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts if part.bytes is None)


def memory_table(model: Model, memory_total_bytes: int, use: Use) -> MemoryTable:
    """What a model takes on one node, in parts.

    + memory_total_bytes: MemTotal of the node with the least
    """
    visible = memory_total_bytes * CUDA_SHARE
    parts = [
        Part(name="weights", bytes=node_weights(model, use), how=_weights_how(model, use)),
        _kv_part(model, use),
        *_state_parts(model, use),
        *_draft_part(use),
        *_reserves(use),
    ]
    if use.others_bytes:
        how = "mem_fraction of their labels"
        parts.append(Part(name="other groups", bytes=use.others_bytes, how=how))
    parts.append(Part(name="system", bytes=HOST_BYTES, how="reported: earlyoom acts at 8 GB free"))
    return MemoryTable(
        parts=tuple(parts),
        visible=visible,
        budget=node_budget(memory_total_bytes, use),
        kv_tokens=kv_tokens(model, memory_total_bytes, use),
    )


def memory_rows(table: MemoryTable) -> Iterator[tuple[str, str, str]]:
    """The table as (part, "12.3 GB" or "unknown", how), its sums last."""
    for part in table.parts:
        yield part.name, "unknown" if part.bytes is None else _gb(part.bytes), part.how
    more = f"without {' and '.join(table.unknown)}; " if table.unknown else ""
    yield "sum", _gb(table.total), f"{more}{_gb(table.visible)} are there"
    room = "the KV cache"
    if table.kv_tokens is not None:
        room = f"a KV cache of at most {table.kv_tokens:,} tokens"
    yield "SGLang's share", _gb(table.budget), f"for weights, states and {room}"


# ---- the parts


def node_weights(model: Model, use: Use) -> float | None:
    """Bytes of the checkpoint in one node's memory; None: unknown."""
    if model.weight_bytes is None:
        return None
    return max(0, model.weight_bytes - use.offloaded_bytes) / use.nodes


def node_budget(memory_total_bytes: float, use: Use) -> float:
    """SGLang's fraction is of what is free when it starts (a GB10's: psutil's available memory,
    utils/common.py), so what other groups hold is out of it."""
    free = max(0.0, memory_total_bytes * CUDA_SHARE - use.others_bytes)
    return use.mem_fraction * free


def node_states(model: Model, use: Use) -> float | None:
    """Bytes of the pool of states on one node; 0: no such layers; None: unknown."""
    return _sum(part.bytes for part in _state_parts(model, use))


def kv_token_bytes(model: Model, use: Use) -> float | None:
    """Bytes of KV cache that a token takes on one node; None: unknown."""
    width = KV_WIDTH.get(use.kv_cache_dtype, BF16_BYTES)
    on_rank = model.shape.kv_bytes_per_token(use.tp, width)
    if on_rank is None:
        return None
    # The layers are shared out over the stages; several ranks of a node hold a part each.
    return on_rank * use.tp / use.nodes


def kv_tokens(model: Model, memory_total_bytes: int, use: Use) -> int | None:
    """About how many tokens the KV cache of the whole group holds; None if unknown.

    An upper estimate: SGLang takes its fraction of what is free, which is less than all of it.
    Layers with a sliding window are counted in full; states that are unknown are not counted.
    """
    weights, per_token = node_weights(model, use), kv_token_bytes(model, use)
    if weights is None or per_token is None:
        return None
    left = node_budget(memory_total_bytes, use) - weights - (node_states(model, use) or 0)
    return max(0, int(left / per_token))


def _weights_how(model: Model, use: Use) -> str:
    if model.weight_bytes is None:
        return "its size is not known"
    evidence = next((v.evidence for v in model.values if v.of == "weight_bytes"), "")
    words = printable.gigabytes(model.weight_bytes)
    if use.offloaded_bytes:
        words += f" - {_gb(use.offloaded_bytes)} on NVMe"
    if use.nodes > 1:
        words += f" / {use.nodes} nodes"
    return f"{words} ({evidence})" if evidence else words


def _kv_part(model: Model, use: Use) -> Part:
    context, per_token = use.context_length or model.max_context, kv_token_bytes(model, use)
    dtype = "BF16" if use.kv_cache_dtype not in KV_WIDTH else use.kv_cache_dtype
    many = f"{use.requests} request{'s' * (use.requests != 1)}"
    if context is None or per_token is None:
        missing = "the context" if per_token is not None else "its shape"
        return Part(name="KV cache", bytes=None, how=f"{many}; {missing} is not known")
    how = f"{many} x {context:,} tokens x {per_token:,.0f} bytes ({dtype})"
    return Part(name="KV cache", bytes=use.requests * context * per_token, how=how)


def _state_parts(model: Model, use: Use) -> Iterator[Part]:
    """Of layers that keep a state of fixed size: linear attention, Mamba."""
    shape = model.shape
    hidden = {"shape.linear_layers", "shape.state_bytes"} & set(model.unknown)
    if not shape.linear_layers and not hidden:
        return
    state = shape.state_bytes and shape.state_bytes * use.state_share / use.nodes
    slots = use.slots
    if state is None or slots is None:
        what = "their size is not known" if state is None else "SGLang chooses their number"
        yield Part(name="states", bytes=None, how=what)
    else:
        how = f"{slots} slots x {printable.gigabytes(state, 3)}"
        yield Part(name="states", bytes=slots * state, how=how)
    if use.draft_tokens and state is not None and use.running is not None:
        # intermediate_ssm_state_cache of SGLang's MambaPool (mem_cache/memory_pool.py).
        how = f"{use.running} requests x {use.draft_tokens} draft tokens"
        parts = use.running * use.draft_tokens * state
        yield Part(name="states of drafts", bytes=parts, how=how)


def _draft_part(use: Use) -> Iterator[Part]:
    if use.draft_bytes is None:
        yield Part(name="draft", bytes=None, how="its size is not known")
    elif use.draft_bytes:
        how = _gb(use.draft_bytes) + f" / {use.nodes} nodes" * (use.nodes > 1)
        yield Part(name="draft", bytes=use.draft_bytes / use.nodes, how=how)


def _reserves(use: Use) -> Iterator[Part]:
    graphs = use.graph_batch * GRAPH_MIB
    rest = BUFFERS_MIB + max(use.prefill_tokens, 2048) * PREFILL_MIB + use.tp * use.pp / 8 * 1024
    rest = max(rest, LEAST_RESERVE_MIB - graphs)
    how = f"SGLang's rule: 2 MiB x {use.graph_batch} requests" if graphs else "off"
    yield Part(name="CUDA graphs", bytes=graphs * MIB, how=how)
    how = f"SGLang's rule for prefills of {use.prefill_tokens} tokens, 10 GiB with graphs at least"
    yield Part(name="activations, JIT", bytes=rest * MIB, how=how)


def _sum(numbers: Iterator[float | None]) -> float | None:
    values = list(numbers)
    stated = [value for value in values if value is not None]
    return sum(stated) if len(stated) == len(values) else None


def _gb(count: float) -> str:
    return printable.gigabytes(count)


# ---- from options and entries


def use_of_options(
    given: Mapping[str, str], *, nodes: int, tp: int, pp: int, graphs: bool, **more: object
) -> Use:
    """The use that options of SGLang (first spelling → value) come to.

    + graphs: whether CUDA graphs are on
    + more: fields of Use that are no options
    """

    def number(*names: str) -> int | None:
        words = next((given[name] for name in names if given.get(name, "").isdecimal()), "")
        return int(words) if words and len(words) < 10 else None

    running = number("--max-running-requests")
    batch = number("--cuda-graph-max-bs-decode", "--cuda-graph-max-bs")
    batch = batch or min(GRAPH_BATCH if tp < 4 else GRAPH_BATCH_TP4, running or GRAPH_BATCH_TP4)
    drafts = number(
        "--speculative-num-draft-tokens",
        *("--speculative-dspark-block-size", "--speculative-dflash-block-size"),
    )
    half = given.get("--mamba-ssm-dtype") in ("bfloat16", "float16")
    fields: dict[str, object] = {
        "running": running,
        "slots": number("--max-mamba-cache-size"),
        "state_share": 0.5 if half else 1.0,
        "draft_tokens": drafts or 0,
        "graph_batch": batch if graphs else 0,
        "prefill_tokens": number("--chunked-prefill-size") or PREFILL_TOKENS,
    }
    return Use(nodes=nodes, tp=tp, pp=pp, **{**fields, **more})  # type: ignore[arg-type]


def entry_use(model: Model, nodes: int, variant: str = "") -> Use:
    """How an entry says to serve a model on this many nodes, each with one GPU.

    + variant: its name; "": the default, or none where the entry has none
    """
    chosen = next((v for v in model.variants if v.name == (variant or model.default_variant)), None)
    form = next((f for f in chosen.forms if f.nodes == nodes), None) if chosen else None
    stated = merged(*(layer for layer in (model, chosen, form) if layer))
    given = dict(flag.partition(" ")[::2] for flag in stated.flags)
    if stated.max_running_requests:
        given["--max-running-requests"] = str(stated.max_running_requests)
    if stated.mamba_slots:
        given["--max-mamba-cache-size"] = str(stated.mamba_slots)
    draft_bytes: int | None = 0
    if speculation := stated.speculation:
        given["--speculative-num-draft-tokens"] = str(
            speculation.num_draft_tokens or speculation.block_size or ""
        )
        if speculation.draft not in ("", model.id):
            named = (d for d in model.drafts if d.id == speculation.draft)
            draft_bytes = next((d.loaded_bytes or d.weight_bytes for d in named), None)
    return use_of_options(
        given,
        nodes=nodes,
        tp=form.tp if form else nodes,
        pp=form.pp if form else 1,
        graphs=stated.disable_cuda_graph is not True,
        mem_fraction=stated.mem_fraction or USUAL_FRACTION,
        kv_cache_dtype=stated.kv_cache_dtype or "auto",
        context_length=stated.context_length,
        draft_bytes=draft_bytes,
        offloaded_bytes=stated.offloaded_bytes or 0,
    )
