"""What the catalog's file of a model holds, and how sure each part of it is.

Nothing in it was measured on a Spark by this project; `Evidence` says whose word it is. Flags and
environment are joined over three layers: the model's, its variant's, and those of the variant's
form for a number of nodes. Of any other value, the last layer that states it decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from msgspec import Meta

# In this order: stated by SGLang's own project and marked as verified; the same without the mark;
# by owners, vendors' playbooks or authors of other images; by our arithmetic.
Evidence = Literal["verified upstream", "upstream, not verified", "reported", "derived"]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
# REPOSITORY:TAG, never prose about one.
Reference = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]
Digest = Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64})?\Z")]
Commit = Annotated[str, Meta(pattern=r"^([0-9a-f]{40})?\Z")]
HubId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]
# An option and its values, with one space between.
Flag = Annotated[str, Meta(pattern=r"^--[a-z0-9][a-z0-9-]*( \S+)*\Z")]

BF16_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What memory and reading speed follow from. None: unknown, or the model has no such part.

    + layers: all of them; attention_layers: those that keep keys and values, if not all do
    + linear_layers: those that keep a state of fixed size instead (linear attention, Mamba)
    + state_bytes: of one request's state in all of these, in a pool of `mamba_slots` slots
    + hidden: width of the model
    + head_dim: of queries and keys; value_dim: of values, if another
    + kv_latent_dim: multi-head latent attention keeps one vector of this length a layer and token,
      on every rank: kv_heads then says nothing about the cache
    + kv_token_bytes: of cache that a token takes on each rank, as its source measured it, where the
      attention compresses and the shapes above don't say
    + index_dim: DSA (DeepSeek's sparse attention) keeps one more key of this length, in FP8
    + window, windowed_layers: tokens that sliding-window attention sees, and in how many layers;
      windowed_kv_heads, windowed_head_dim: of these layers, if others than those of the rest
    + vocabulary: tokens
    + experts, experts_per_token, expert_bytes: of a mixture: routed ones a layer, those that a
      token takes, and the bytes of all of them in all layers
    + embedding_bytes: the table of input embeddings, of which a token reads one row; 0 where it is
      the output's table as well, which is read whole
    """

    layers: Count | None = None
    attention_layers: Count | None = None
    linear_layers: Count | None = None
    state_bytes: Count | None = None
    attention_heads: Count | None = None
    kv_heads: Count | None = None
    head_dim: Count | None = None
    value_dim: Count | None = None
    kv_latent_dim: Count | None = None
    index_dim: Count | None = None
    kv_token_bytes: Count | None = None
    hidden: Count | None = None
    window: Count | None = None
    windowed_layers: Count | None = None
    windowed_kv_heads: Count | None = None
    windowed_head_dim: Count | None = None
    vocabulary: Count | None = None
    experts: Count | None = None
    experts_per_token: Count | None = None
    expert_bytes: Count | None = None
    embedding_bytes: Bytes | None = None

    def kv_bytes_per_token(
        self, tp: int = 1, width: float = BF16_BYTES, window_ratio: float = 1
    ) -> int | None:
        """Bytes of KV cache that one token takes on one of `tp` ranks, all layers; None: unknown.
        The rules are SGLang's (model_executor/pool_configurator.py).

        A rank holds at least one KV head: SGLang copies heads when tp is larger than their number.

        + width: bytes per number
        + window_ratio: tokens that a layer with a window keeps, for each one that the others keep
        """
        if self.kv_token_bytes is not None:
            return self.kv_token_bytes
        layers = self.attention_layers or self.layers
        if layers is None:
            return None
        if self.kv_latent_dim is not None:
            return int(layers * self._latent_bytes(self.kv_latent_dim, width))
        if self.kv_heads is None or self.head_dim is None:
            return None
        full = max(1, self.kv_heads // tp) * (self.head_dim + (self.value_dim or self.head_dim))
        windowed = self.windowed_layers or 0
        heads, dim = self.windowed_kv_heads, self.windowed_head_dim
        in_window = max(1, heads // tp) * 2 * dim if heads and dim else full
        return int(((layers - windowed) * full + window_ratio * windowed * in_window) * width)

    def _latent_bytes(self, latent: int, width: float) -> float:
        """Of one layer. Beside DSA's index, FP8 has an FP32 scale for 128 numbers and leaves the
        64 rotary ones in BF16 (calculate_mla_kv_cache_dim of SGLang 0.5.23)."""
        if self.index_dim is None:
            return latent * width
        plain = latent * width if width != 1 else (latent - 64) * (1 + 4 / 128) + 64 * BF16_BYTES
        return plain + self.index_dim * (1 + 4 / 128)


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """A container image.

    + digest: "" where no public source states it
    + digest_source: who states it
    + third_party: published by neither SGLang's project nor the node's vendor
    + tag_from_prose: its tag appears only in a description, in no command that could be run
    + sglang, nccl: the versions in it, in their source's words; "" where not found
    """

    reference: Reference
    digest: Digest = ""
    digest_source: str = ""
    publisher: str
    third_party: bool = False
    tag_from_prose: bool = False
    sglang: str = ""
    nccl: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DraftModel:
    """A second repository, whose model proposes tokens that the first one checks.

    + revision, license: "" where not found
    + weight_bytes: of the repository; loaded_bytes: what of it comes into memory, if not all
    + kv_token_bytes: of its own KV cache, that a token takes on each rank; 0: none
    """

    id: HubId
    revision: Commit = ""
    weight_bytes: Count | None = None
    loaded_bytes: Count | None = None
    kv_token_bytes: Bytes | None = None
    weight_evidence: Evidence | None = None
    license: str = ""
    gated: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Speculative decoding, in the words of SGLang's --speculative-… options.

    + draft: id of one of the model's drafts, or the model's own; "": heads in its checkpoint
    + block_size: of DSPARK and DFLASH
    """

    algorithm: Literal["EAGLE", "EAGLE3", "NEXTN", "STANDALONE", "NGRAM", "DSPARK", "DFLASH"]
    draft: str = ""
    draft_quantization: str = ""
    num_steps: Count | None = None
    eagle_topk: Count | None = None
    num_draft_tokens: Count | None = None
    block_size: Count | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Thinking:
    """How a request switches reasoning on and off.

    + switch: the argument of the chat template, or the request's field; "" where not found
    + default: "" where not found; "always": it can't be off
    """

    switch: str = ""
    default: Literal["on", "off", "always", ""] = ""
    efforts: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class HostNeeds:
    """What the model asks of each node besides room for its files.

    + swap_gb: swap space while it loads
    + drop_page_cache: before loading, as it counts as used when the GPU's share is taken
    + earlyoom: what to do about the daemon that ends processes at about 8 GB
    + nvme_file_gb: a file on a local NVMe disk, of about this size; nvme_file: which
    + watch_memory: end the server before memory runs out: that freezes the node
    """

    swap_gb: Count | None = None
    drop_page_cache: bool = False
    earlyoom: Literal["leave room", "stop while loading", ""] = ""
    nvme_file: str = ""
    nvme_file_gb: Count | None = None
    watch_memory: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value whose evidence differs from that of the layer it stands in, or that needs a note.

    + of: its name there: "weight_bytes", "shape.kv_heads"
    """

    of: str
    evidence: Evidence
    note: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a model, a variant and a form can each state. None, "" and (): nothing.

    + mem_fraction: SGLang's share of a node's free memory for weights and KV cache. 0.90, often
      advised, runs out on a Spark: the GPU shares its memory with the system, and running out can
      freeze the host. Owners settle on 0.80 to 0.85, upstream's recipes on 0.30 to 0.85
    + offloaded_bytes: of the weights that stay on the node's disk, out of the GPU's memory
    + mamba_slots: requests' states that the pool holds (--max-mamba-cache-size)
    + mamba_slots_per_request: slots that one running request takes
    + probes: "basic" for a model that is too small for the others, or no chat model
    + values: those whose evidence is another than the layer's
    """

    image: EngineImage | None = None
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    flags: tuple[Flag, ...] = ()
    speculation: Speculation | None = None
    reasoning_parser: str = ""
    tool_call_parser: str = ""
    trust_remote_code: bool = False
    mem_fraction: Fraction | None = None
    kv_cache_dtype: str = ""
    context_length: Count | None = None
    offloaded_bytes: Count | None = None
    max_running_requests: Count | None = None
    mamba_slots: Count | None = None
    mamba_slots_per_request: Count | None = None
    disable_cuda_graph: bool | None = None
    probes: Literal["full", "basic", ""] = ""
    values: tuple[Value, ...] = ()

    def stated(self) -> set[str]:
        """The names of what is stated here, `values` apart."""
        names = {key.name for key in fields(Layer)} - {"values"}
        empty = Layer()
        return {name for name in names if getattr(self, name) != getattr(empty, name)}


def merged(*layers: Layer) -> Layer:
    """What several layers state together, the weakest first."""
    values: dict[str, Any] = {}
    for layer in layers:
        for name in layer.stated():
            value = getattr(layer, name)
            if name == "env":
                value = {**values.get(name, {}), **value}
            elif name == "flags":
                value = (*values.get(name, ()), *value)
            values[name] = value
    return Layer(**values)


@dataclass(frozen=True, kw_only=True)
class Form(Layer):
    """A variant on one number of nodes.

    + evidence: None: the variant's
    """

    nodes: Count
    tp: Count
    pp: Count = 1
    evidence: Evidence | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Variant(Layer):
    """A way to serve a model, by upstream's name for it.

    + forms: by number of nodes; none: any number, all GPUs in tensor parallelism
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*\Z")]
    evidence: Evidence
    source: str = ""
    note: str = ""
    forms: tuple[Form, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A published share of right answers, and the protocol as far as its source states it. None and
    "": not stated; then spark-bench sets no score beside it.

    + task: in spark-bench's words, as "gsm8k"
    + percent: of the items, whose answers are right
    + harness, harness_version: the program that has the prompts and the grader, as "sgl-eval"
    + shots: worked examples in front of each item
    + temperature: of sampling; 0 where the source says greedy
    + max_tokens: most tokens of an answer, thoughts included
    + protocol: in the source's words
    """

    task: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_]*\Z")]
    percent: Annotated[float, Meta(ge=0, le=100)]
    items: Count | None = None
    harness: str = ""
    harness_version: str = ""
    shots: Annotated[int, Meta(ge=0)] | None = None
    endpoint: Literal["chat", "completions", ""] = ""
    thinking: Literal["on", "off", ""] = ""
    temperature: Annotated[float, Meta(ge=0)] | None = None
    max_tokens: Count | None = None
    protocol: str


@dataclass(frozen=True, kw_only=True)
class PublishedFigures:
    """What somebody measured, with the load it was measured under. None and "": not stated.

    + model: the id, if it is one of the entry's `same_shapes`
    + variant: of this entry; "": none of them, `setting` says what
    + quantization: as served, if not as stored
    + workload: the texts; cache: "flushed", "warm"
    + protocol: how the requests were sent. "sglang.bench_serving": as SGLang's pages of figures say
      of theirs: backend sglang-oai (/v1/completions), random data of exact lengths, request rate
      inf, at most `streams` in flight
    + prompts: how many were sent; streams: requests in flight
    + decode: tokens a second of one stream, after the first token
    + decode_sum: the decode rates of all streams together
    + prefill: prompt tokens a second
    + output_throughput: output tokens a second of all streams
    + total_per_gpu: input and output tokens a second of all streams, over the number of GPUs
    + ttft_ms, tpot_ms, itl_ms: means, where `note` says nothing else
    + score: how right the answers are
    """

    model: str = ""
    nodes: Count
    parallelism: Annotated[str, Meta(pattern=r"^(TP[1-9][0-9]*|PP[1-9][0-9]*)( PP[1-9][0-9]*)?\Z")]
    variant: str = ""
    setting: str = ""
    engine: str = ""
    quantization: str = ""
    evidence: Evidence = "reported"
    workload: str = ""
    protocol: Literal["sglang.bench_serving", ""] = ""
    cache: str = ""
    prompts: Count | None = None
    streams: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    decode: Rate | None = None
    decode_sum: Rate | None = None
    prefill: Rate | None = None
    output_throughput: Rate | None = None
    total_per_gpu: Rate | None = None
    ttft_ms: Rate | None = None
    tpot_ms: Rate | None = None
    itl_ms: Rate | None = None
    score: PublishedScore | None = None
    note: str = ""
    source: str


@dataclass(frozen=True, kw_only=True)
class Model(Layer):
    """A model and what serving it needs. None and "": unknown (a model outside the catalog).

    + id: Hugging Face id, or a path on the nodes: absolute, or from the login's home (~/)
    + alias, number: other names for it
    + same_shapes: ids of models with the same sizes and shapes
    + revision: the commit that is known to serve
    + weight_bytes: size of the checkpoint, as the runtime loads it
    + quantization: the format of its weights, which published figures name as well
    + parameters, active_parameters: all, and in a mixture of experts those read for each token
    + moe: a mixture of experts; mtp_head: its checkpoint has heads for speculative decoding
    + tiktoken: needs the tiktoken vocabularies (gpt-oss)
    + runtime: "docker" for SGLang, "process" for the engine embedded on this machine
    + min_nodes, recommended_nodes: Sparks
    + unknown: what was looked for and not found, so that nobody takes a default for a fact
    + default_variant: the variant that is served if none is chosen; "": one must be chosen
    """

    id: str
    alias: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]*)?\Z")] = ""
    number: Count | None = None
    same_shapes: tuple[HubId, ...] = ()
    revision: Commit = ""
    license: str = ""
    gated: bool = False
    notes: str = ""
    runtime: Literal["docker", "process"] = "docker"
    quantization: str = ""
    weight_bytes: Count | None = None
    parameters: Count | None = None
    active_parameters: Count | None = None
    max_context: Count | None = None
    moe: bool = False
    mtp_head: bool = False
    multimodal: bool = False
    tiktoken: bool = False
    shape: Shape = Shape()
    thinking: Thinking | None = None
    host: HostNeeds = HostNeeds()
    min_nodes: Count | None = None
    recommended_nodes: Count | None = None
    unknown: tuple[str, ...] = ()
    pitfalls: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    drafts: tuple[DraftModel, ...] = ()
    default_variant: str = ""
    variants: tuple[Variant, ...] = ()
    published: tuple[PublishedFigures, ...] = ()

    @property
    def local(self) -> bool:
        """Whether the weights are a path on the node, not a name on the hub."""
        return self.id.startswith(("/", "~/"))
