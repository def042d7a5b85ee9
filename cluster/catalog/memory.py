"""A node's memory, part by part: what SGLang takes, and what must fit beside it.

All of it is arithmetic on what the catalog or a repository's config.json states. A part that
nothing is known of stays unknown: it is shown as that and never counts as nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cluster import printable
from cluster.catalog.entry import BF16_BYTES, DraftModel, Model, merged

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
# SGLang's defaults: the pool of states over the KV cache, in bytes; a windowed layer's tokens over
# another's (arg_groups/fields/schedule.py of 0.5.23, server_args.py of 0.5.11).
STATE_RATIO, WINDOW_RATIO = 0.9, 0.8
# Of the buffers of a batch's largest graph, for each token of context: what FlashInfer keeps, and
# Triton, which keeps most (init_cuda_graph_state of layers/attention/*_backend.py, masks included).
INDEX_BYTES, LARGEST_INDEX_BYTES = {"flashinfer": 5}, 9
# Triton splits the KV cache over so many kernels, with FP32 results (triton_backend.py).
KV_SPLITS = 8
# Fitted to SGLang 0.5.11 with Triton's attention on an H200 (docs/measuring.md) and, for the ranks'
# collectives, to two H100, in MiB: what the first graph takes, each further one, a layer in each of
# them and a layer of a mixture of experts; two collectives for each layer.
FIRST_GRAPH_MIB, NEXT_GRAPH_MIB, LAYER_MIB, EXPERTS_LAYER_MIB = 58, 0.42, 0.026, 0.041
COLLECTIVE_MIB = 0.135
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
    + slots: of the pool of states (--max-mamba-cache-size); None: as many as state_ratio allows
    + state_ratio: bytes of states over those of the KV cache
    + state_share: of the states' size in FP32: 0.5 for --mamba-ssm-dtype bfloat16
    + window_ratio: tokens that a windowed layer keeps, for each one that the others keep
    + draft_tokens: proposed at once, each with a state of its own; 0: no speculation
    + replays_states: --enable-linear-replayssm-spec, which keeps none for draft tokens, but a
      smaller ring for each request, not counted here
    + draft_bytes: of the draft model's weights; 0: none; None: unknown
    + draft_layers: of the draft in the model's own checkpoint, whose KV cache is as the model's
    + draft_kv_bytes: of KV cache that a token takes in a draft model, on each rank; 0: none;
      None: unknown
    + offloaded_bytes: of the weights that stay on the node's disk
    + graph_batch: requests in the largest CUDA graph; 0: graphs are off
    + attention: a word of --attention-backend; "": SGLang chooses
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
    state_ratio: float = STATE_RATIO
    state_share: float = 1.0
    window_ratio: float = WINDOW_RATIO
    draft_tokens: int = 0
    replays_states: bool = False
    draft_bytes: int | None = 0
    draft_layers: int = 0
    draft_kv_bytes: int | None = 0
    offloaded_bytes: int = 0
    graph_batch: int = 0
    attention: str = ""
    prefill_tokens: int = PREFILL_TOKENS
    others_bytes: float = 0


@dataclass(frozen=True, kw_only=True)
class MemoryPart:
    """A part of one node's memory.

    + bytes: None: unknown
    + how: where the number comes from, in a few words
    + reserved: SGLang's reserve for any model, not this one's size
    """

    name: str
    bytes: float | None
    how: str
    reserved: bool = False


@dataclass(frozen=True, kw_only=True)
class MemoryTable:
    """One node's memory.

    + parts: largest things first: weights, KV cache, states, draft, reserves, others, the system
    + visible: bytes that CUDA counts as the GPU's
    + budget: bytes that SGLang takes for weights, states and KV cache, whatever a request needs
    + kv_tokens: that the KV cache of the whole group holds then; None: unknown
    + draft_token_bytes: of the draft's KV cache; None: unknown
    """

    parts: tuple[MemoryPart, ...]
    visible: float
    budget: float
    kv_tokens: int | None
    draft_token_bytes: float | None = None

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
        MemoryPart(name="weights", bytes=node_weights(model, use), how=_weights_how(model, use)),
        _kv_part(model, use),
        *_state_parts(model, memory_total_bytes, use),
        *_draft_parts(model, use),
        *_reserves(model, use),
    ]
    if use.others_bytes:
        how = "mem_fraction of their labels"
        parts.append(MemoryPart(name="other groups", bytes=use.others_bytes, how=how))
    parts.append(
        MemoryPart(name="system", bytes=HOST_BYTES, how="reported: earlyoom acts at 8 GB free")
    )
    return MemoryTable(
        parts=tuple(parts),
        visible=visible,
        budget=node_budget(memory_total_bytes, use),
        kv_tokens=kv_tokens(model, memory_total_bytes, use),
        draft_token_bytes=draft_token_bytes(model, use),
    )


def memory_rows(table: MemoryTable) -> Iterator[tuple[str, str, str]]:
    """The table as (part, "12.3 GB" or "unknown", how), its sums last."""
    for part in table.parts:
        yield (
            part.name,
            "unknown" if part.bytes is None else printable.gigabytes(part.bytes),
            part.how,
        )
    more = f"without {' and '.join(table.unknown)}; " if table.unknown else ""
    yield (
        "sum",
        printable.gigabytes(table.total),
        f"{more}{printable.gigabytes(table.visible)} are there",
    )
    room = "the KV cache"
    if table.kv_tokens is not None:
        room = f"a KV cache of at most {table.kv_tokens:,} tokens"
    yield "SGLang's share", printable.gigabytes(table.budget), f"for weights, states and {room}"


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
    """Bytes of a pool of states of a stated size on one node; 0: no such pool, since no layer keeps
    states or SGLang shares out what is left; None: unknown."""
    if not _has_states(model) or use.slots is None:
        return 0
    state = _state_bytes(model, use)
    if state is None:
        return None
    # One slot more pads batches (mem_cache/memory_pool.py).
    of_drafts = 0 if use.replays_states else (use.running or 0) * use.draft_tokens
    return state * (use.slots + 1 + of_drafts)


def kv_token_bytes(model: Model, use: Use, window_ratio: float = 1) -> float | None:
    """Bytes of KV cache that a token takes on one node; None: unknown."""
    width = KV_WIDTH.get(use.kv_cache_dtype, BF16_BYTES)
    on_rank = model.shape.kv_bytes_per_token(use.tp, width, window_ratio)
    if on_rank is None:
        return None
    # The layers are shared out over the stages; several ranks of a node hold a part each.
    return on_rank * use.tp / use.nodes


def draft_token_bytes(model: Model, use: Use) -> float | None:
    """Bytes of the draft's KV cache that a token takes on one node; 0: no draft; None: unknown."""
    if use.draft_kv_bytes is None:
        return None
    own = use.draft_kv_bytes * use.tp / use.nodes
    if not use.draft_layers:
        return own
    whole, layers = kv_token_bytes(model, use), model.shape.attention_layers or model.shape.layers
    return own + whole / layers * use.draft_layers if whole and layers else None


def kv_tokens(model: Model, memory_total_bytes: int, use: Use) -> int | None:
    """About how many tokens the KV cache of the whole group holds; None if unknown.

    An upper estimate: SGLang takes its fraction of what is free, which is less than all of it.
    What is unknown of states and draft is not counted. SGLang 0.5.11 and older keep a draft's KV
    cache outside of the fraction, so that theirs holds more.
    """
    weights, per_token = node_weights(model, use), kv_token_bytes(model, use, use.window_ratio)
    if weights is None or per_token is None:
        return None
    left = node_budget(memory_total_bytes, use) - weights - (node_states(model, use) or 0)
    if _has_states(model) and use.slots is None:
        left /= 1 + use.state_ratio
    return max(0, int(left / (per_token + (draft_token_bytes(model, use) or 0))))


def _weights_how(model: Model, use: Use) -> str:
    if model.weight_bytes is None:
        return "its size is not known"
    evidence = next((v.evidence for v in model.values if v.of == "weight_bytes"), "")
    words = printable.gigabytes(model.weight_bytes)
    if use.offloaded_bytes:
        words += f" - {printable.gigabytes(use.offloaded_bytes)} on NVMe"
    if use.nodes > 1:
        words += f" / {use.nodes} nodes"
    return f"{words} ({evidence})" if evidence else words


def _kv_part(model: Model, use: Use) -> MemoryPart:
    context, per_token = use.context_length or model.max_context, kv_token_bytes(model, use)
    dtype = "BF16" if use.kv_cache_dtype not in KV_WIDTH else use.kv_cache_dtype
    many = f"{use.requests} request{'s' * (use.requests != 1)}"
    if context is None or per_token is None:
        missing = "the context" if per_token is not None else "its shape"
        return MemoryPart(name="KV cache", bytes=None, how=f"{many}; {missing} is not known")
    how = f"{many} x {context:,} tokens x {per_token:,.0f} bytes ({dtype})"
    return MemoryPart(name="KV cache", bytes=use.requests * context * per_token, how=how)


def _has_states(model: Model) -> bool:
    """Layers that keep a state of fixed size: linear attention, Mamba."""
    hidden = {"shape.linear_layers", "shape.state_bytes"} & set(model.unknown)
    return bool(model.shape.linear_layers or hidden)


def _state_bytes(model: Model, use: Use) -> float | None:
    """Of one request's states, on one node."""
    state = model.shape.state_bytes
    return state and state * use.state_share / use.nodes


def _state_parts(model: Model, memory_total_bytes: int, use: Use) -> Iterator[MemoryPart]:
    if not _has_states(model):
        return
    state, weights = _state_bytes(model, use), node_weights(model, use)
    if use.slots is None:
        if weights is None:
            yield MemoryPart(
                name="states", bytes=None, how="SGLang shares out what the weights leave"
            )
            return
        left = max(0.0, node_budget(memory_total_bytes, use) - weights)
        how = f"SGLang's rule: {use.state_ratio:g} of the KV cache's size, drafts' states included"
        share = use.state_ratio / (1 + use.state_ratio)
        yield MemoryPart(name="states", bytes=left * share, how=how)
        return
    if state is None:
        yield MemoryPart(name="states", bytes=None, how="their size is not known")
        return
    how = f"{use.slots} + 1 slots x {printable.gigabytes(state, 3)}"
    yield MemoryPart(name="states", bytes=(use.slots + 1) * state, how=how)
    if use.draft_tokens and use.running is not None and not use.replays_states:
        # intermediate_ssm_state_cache of SGLang's MambaPool (mem_cache/memory_pool.py).
        how = f"{use.running} requests x {use.draft_tokens} draft tokens"
        parts = use.running * use.draft_tokens * state
        yield MemoryPart(name="states of drafts", bytes=parts, how=how)


def _draft_parts(model: Model, use: Use) -> Iterator[MemoryPart]:
    if use.draft_bytes is None:
        yield MemoryPart(name="draft", bytes=None, how="its size is not known")
    elif use.draft_bytes:
        how = printable.gigabytes(use.draft_bytes) + f" / {use.nodes} nodes" * (use.nodes > 1)
        yield MemoryPart(name="draft", bytes=use.draft_bytes / use.nodes, how=how)
    per_token, context = draft_token_bytes(model, use), use.context_length or model.max_context
    if per_token is None:
        yield MemoryPart(name="draft's KV cache", bytes=None, how="its shape is not known")
    elif per_token:
        size = None if context is None else use.requests * context * per_token
        how = f"as many tokens x {per_token:,.0f} bytes"
        yield MemoryPart(name="draft's KV cache", bytes=size, how=how)


def _reserves(model: Model, use: Use) -> Iterator[MemoryPart]:
    """CUDA graphs, and what SGLang's rule reserves beyond them."""
    by_rule = use.graph_batch * GRAPH_MIB
    rest = BUFFERS_MIB + max(use.prefill_tokens, 2048) * PREFILL_MIB + use.tp * use.pp / 8 * 1024
    whole = max(by_rule + rest, LEAST_RESERVE_MIB)
    count = len(graph_batches(use.graph_batch, drafts=bool(use.draft_tokens)))
    graphs = _graph_mib(model, use, count)
    how = f"{count} graphs, by what they took on H100 and H200" if count else "off"
    if graphs is None:
        how = f"SGLang's rule: 2 MiB x {use.graph_batch} requests"
    size = by_rule if graphs is None else graphs
    yield MemoryPart(name="CUDA graphs", bytes=size * MIB, how=how, reserved=graphs is None)
    how = f"SGLang's rule for prefills of {use.prefill_tokens} tokens, 10 GiB with graphs at least"
    rest = max(0, whole - size) * MIB
    yield MemoryPart(name="activations, JIT", bytes=rest, how=how, reserved=True)


def graph_batches(largest: int, *, drafts: bool) -> list[int]:
    """The batches that a graph is captured for (generate_decode_cuda_graph_batch_sizes in
    arg_groups/cuda_graph_hook.py of 0.5.23, the same in 0.5.11)."""
    if drafts:
        sizes = [*range(1, 9), *range(10, 33, 2), *range(40, 65, 4), *range(72, 257, 8)]
        sizes += range(272, largest + 1, 16)
    else:
        sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16)]
        sizes += range(512, largest + 1, 32)
    captured = [size for size in sizes if size <= largest]
    return captured if largest in captured or not largest else [*captured, largest]


def _graph_mib(model: Model, use: Use, count: int) -> float | None:
    """Of `count` decode graphs on one rank, a draft's own included; None: unknown, as for linear
    attention, of which one model alone was seen, which took 0.28 GiB, 39 % more than this."""
    shape, context = model.shape, use.context_length or model.max_context
    if not count:
        return 0
    heads, dim, layers = shape.attention_heads, shape.head_dim, shape.layers
    if not (heads and dim and layers and shape.vocabulary and context) or _has_states(model):
        return None
    tokens, layers_on_rank = use.graph_batch * max(1, use.draft_tokens), layers / use.pp
    indices = tokens * context * INDEX_BYTES.get(use.attention, LARGEST_INDEX_BYTES)
    # In FP32, and as they come out in BF16.
    logits = tokens * shape.vocabulary * (4 + 2)
    splits = tokens * max(1, heads // use.tp) * KV_SPLITS * (shape.value_dim or dim) * 4
    layer = EXPERTS_LAYER_MIB if shape.experts else LAYER_MIB
    layer += 2 * COLLECTIVE_MIB if use.tp > 1 else 0
    buffers = FIRST_GRAPH_MIB + (indices + logits + splits) / MIB
    # A draft is captured twice, to propose and to extend (speculative/eagle_worker.py).
    times = 3 if use.draft_tokens else 1
    return times * buffers + count * (NEXT_GRAPH_MIB + layer * layers_on_rank)


# ---- from options and entries


def use_of_options(
    given: Mapping[str, str],
    *,
    nodes: int,
    tp: int,
    pp: int,
    graphs: bool,
    draft: DraftModel | None,
    **more: object,
) -> Use:
    """The use that options of SGLang (first spelling → value) come to.

    + graphs: whether CUDA graphs are on
    + draft: a second repository's; None: there is none
    + more: fields of Use that are no options
    """

    def number(*names: str) -> int | None:
        words = next((given[name] for name in names if given.get(name, "").isdecimal()), "")
        return int(words) if words and len(words) < 10 else None

    def ratio(name: str, usual: float) -> float:
        with suppress(ValueError):
            stated = float(given.get(name, ""))
            return stated if 0 < stated < 1000 else usual
        return usual

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
        "state_ratio": ratio("--mamba-full-memory-ratio", STATE_RATIO),
        "state_share": 0.5 if half else 1.0,
        "window_ratio": ratio("--swa-full-tokens-ratio", WINDOW_RATIO),
        "draft_tokens": drafts or 0,
        "replays_states": "--enable-linear-replayssm-spec" in given,
        "attention": given.get("--attention-backend", ""),
        **_draft_fields(given.get("--speculative-algorithm", ""), draft),
        "graph_batch": batch if graphs else 0,
        "prefill_tokens": number("--chunked-prefill-size") or PREFILL_TOKENS,
    }
    return Use(nodes=nodes, tp=tp, pp=pp, **{**fields, **more})  # type: ignore[arg-type]


def _draft_fields(algorithm: str, draft: DraftModel | None) -> dict[str, object]:
    """Those of Use. A head of the checkpoint has one layer, as has one that is loaded from another
    model's checkpoint; any other draft's shape is its own."""
    head = algorithm in ("EAGLE", "NEXTN") and (draft is None or draft.loaded_bytes is not None)
    if head or algorithm in ("", "NGRAM"):
        cache: int | None = 0
    else:
        cache = draft.kv_token_bytes if draft else None
    return {
        "draft_bytes": (draft.loaded_bytes or draft.weight_bytes) if draft else 0,
        "draft_layers": int(head),
        "draft_kv_bytes": cache,
    }


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
    draft: DraftModel | None = None
    if speculation := stated.speculation:
        given["--speculative-algorithm"] = speculation.algorithm
        given["--speculative-num-draft-tokens"] = str(
            speculation.num_draft_tokens or speculation.block_size or ""
        )
        if speculation.draft not in ("", model.id):
            named = (d for d in model.drafts if d.id == speculation.draft)
            draft = next(named, DraftModel(id=speculation.draft))
    return use_of_options(
        given,
        nodes=nodes,
        tp=form.tp if form else nodes,
        pp=form.pp if form else 1,
        graphs=stated.disable_cuda_graph is not True,
        mem_fraction=stated.mem_fraction or USUAL_FRACTION,
        kv_cache_dtype=stated.kv_cache_dtype or "auto",
        context_length=stated.context_length,
        draft=draft,
        offloaded_bytes=stated.offloaded_bytes or 0,
    )
