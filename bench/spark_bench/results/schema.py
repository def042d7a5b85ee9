"""A result file: everything that is recorded about one run.

Each class is an object of the file and each field a key of it; docs/results.md explains them to
users, and the docstrings here become the descriptions in schema.json. Renaming, adding or removing
a key, or changing its meaning, takes a new `SCHEMA_VERSION`; a key that a file leaves out where it
says nothing (UNSET) does not.
"""

from __future__ import annotations

import re
from datetime import datetime
from math import prod
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from spark_bench.client.audit import Audit
from spark_bench.metrics import figures, histograms
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.depth import DepthFigures
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.mixed import MixedFigures
from spark_bench.metrics.queues import Queue
from spark_bench.metrics.stalls import Stalls
from spark_bench.metrics.summary import Distributions

SCHEMA_VERSION: Final = 1
KIND: Final = "spark-bench run"


class Measurement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures of one repeat, or of all repeats combined.

    summary: throughput, latencies and counts, named as in sglang.bench_serving; `steady` holds the
        same figures without the start and the end of the run
    audit: how accurately the client measured
    lengths: prompt and answer lengths in tokens, requested and actual
    distributions: quantiles for plots; null in the combination of several repeats
    intervals: confidence intervals by the summary's key, over the repeats or within the only run
    stalls: long gaps between tokens, and whether one request or all of them waited
    server: figures from the server's own metrics; null: it has none, or they were not read
    nodes: power, temperature, memory, and tokens per joule; null: not sampled
    requests_file: name of the file with one line per request, in the same folder; null: not saved
    bounds: the lowest and the highest value that each figure can have, by the summary's key; left
        out: unknown, as in files of earlier versions
    accepted: tokens of each step with speculative decoding; left out: there is none, or nothing
        shows it
    depth: prefill and decode speed after contexts of a depth; left out: the load had none
    mixed: figures of short and of long prompts apart; left out: all were alike
    queue: how many requests the server ran at once, and how long the others waited, by the streams
        alone; of several repeats, that with the median wait; left out: no tokens came, or the file
        is of an earlier version
    """

    summary: figures.Summary
    audit: Audit
    lengths: Lengths
    distributions: Distributions | None = None
    intervals: dict[str, Interval] = {}
    stalls: Stalls | None = None
    server: ServerFigures | None = None
    nodes: Nodes | None = None
    requests_file: str | None = None
    bounds: dict[str, Bound] | UnsetType = UNSET
    accepted: Accepted | UnsetType = UNSET
    depth: DepthFigures | UnsetType = UNSET
    mixed: MixedFigures | UnsetType = UNSET
    queue: Queue | UnsetType = UNSET


class Repeat(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One repeat.

    repeat: its number, from 0
    started: just before its load was sent (UTC, ISO 8601)
    """

    repeat: int
    started: datetime


class Result(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run. Its measured part is that of the only repeat, or of all repeats combined.

    id: unique; sorting ids as text sorts runs by time
    created: when the run ended (UTC, ISO 8601)
    status: "partial" if the run ended before its last request
    reason: why the run is partial, such as "stopped by Ctrl-C"; "" if it is complete
    repeats: all repeats in order; empty if there was only one
    notes: sentences to take into account when reading the figures
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["spark-bench run"] = KIND
    id: str
    created: datetime
    status: Literal["complete", "partial"]
    reason: str = ""
    config: Config
    provenance: Provenance
    repeats: tuple[Repeat, ...] = ()
    notes: tuple[str, ...] = ()


class Conversations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of the conversations; one turn and no shared prefix: independent prompts.

    turns: questions per conversation
    think_time: seconds between the end of an answer and the next question
    shared_prefix: length in tokens of the prefix that all prompts of a group share; 0: none
    prefix_groups: number of distinct shared prefixes
    """

    turns: int = 1
    think_time: float = 0.0
    shared_prefix: int = 0
    prefix_groups: int = 1


class RateRamp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request rate that changes during the run.

    start, end: requests per second at the start and at the end of the run
    shape: how the rate changes between the two
    """

    start: float
    end: float
    shape: Literal["linear", "exponential"]


class Dataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that the prompts or the send times were taken from.

    format: what kind of file it is
    file: its name, without folders
    sha256: SHA-256 of its content, in hex
    speed: replay speed of a trace; 2.0 is twice as fast as recorded
    """

    format: Literal["trace", "sharegpt"]
    file: str
    sha256: str
    speed: float = 1.0


_Count = Annotated[int, Meta(ge=1)]
_Rate = Annotated[float, Meta(gt=0)]


class Published(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody measured on Sparks, with its setting and load; null and "": not stated.

    models: ids: the first is the one measured, the others have its shapes
    nodes, parallelism: Sparks, and how the model is split over them, such as "TP2"
    variant: of the project's catalog; setting: what it was instead
    engine: what served, with its version or image
    quantization: the format of the weights
    evidence: "verified upstream": by SGLang's project, marked as verified; "upstream, not
        verified": the same without the mark; "reported": by owners, vendors and other authors
    workload: the texts
    protocol: how the requests were sent; "sglang.bench_serving": to /v1/completions, random data of
        exact lengths, as fast as `streams` requests in flight allow
    cache: "flushed" before the load, or "warm"
    prompts: requests in all
    streams: requests in flight; null: several, and how many is not stated
    input_len, output_len: tokens of each prompt and of each answer
    tpot_ms, itl_ms, ttft_ms: means in milliseconds, where `note` says nothing else
    decode: tokens a second of one stream, after the first token
    decode_sum: the decode rates of all streams together
    prefill: prompt tokens a second of one request
    output_throughput: output tokens a second of all streams
    total_per_gpu: input and output tokens a second of all streams, over the number of GPUs
    note: what else its source says
    source: where it was published
    """

    models: tuple[str, ...]
    nodes: _Count
    parallelism: Annotated[
        str, Meta(pattern=r"^(TP[1-9][0-9]{0,3}|PP[1-9][0-9]{0,3})( PP[1-9][0-9]{0,3})?\Z")
    ]
    variant: str = ""
    setting: str = ""
    engine: str = ""
    quantization: str = ""
    evidence: Literal["verified upstream", "upstream, not verified", "reported", "derived"]
    workload: str = ""
    protocol: Literal["sglang.bench_serving", ""] = ""
    cache: str = ""
    prompts: _Count | None = None
    streams: _Count | None = None
    input_len: _Count | None = None
    output_len: _Count | None = None
    tpot_ms: _Rate | None = None
    itl_ms: _Rate | None = None
    ttft_ms: _Rate | None = None
    decode: _Rate | None = None
    decode_sum: _Rate | None = None
    prefill: _Rate | None = None
    output_throughput: _Rate | None = None
    total_per_gpu: _Rate | None = None
    note: str = ""
    source: str

    @property
    def gpus(self) -> int:
        """How many GPUs served: one a Spark."""
        return prod(map(int, re.findall(r"\d+", self.parallelism)))

    @property
    def load(self) -> str:
        """The load in short, as far as it is stated: "1024/256 tokens, 16 in flight"."""
        lengths = f"{self.input_len}/{self.output_len} tokens, " if self.input_len else ""
        return lengths + (f"{self.streams} in flight" if self.streams else "several streams")


class LongPrompts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Long prompts among the others: one of every `every`, and tokens of each and its answer."""

    every: Annotated[int, Meta(ge=2)]
    input_len: _Count
    output_len: _Count


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run as it was requested: the profile with its overrides applied.

    profile: the profile's name
    overrides: fields of the profile that were given explicitly, with their values
    endpoint: the API that was used
    url: the server's URL, without user and password
    model: id of the requested model; "": the server chose
    num_prompts: requests per repeat
    input_len, output_len: tokens per prompt and per answer; null: each request has its own
    request_rate: requests per second; null: no given rate, requests wait only for a free slot
    burstiness: shape of the gamma-distributed gaps between requests: 1 is Poisson, less is
        burstier; null: evenly spaced
    concurrency: maximum number of requests in flight; null: no limit
    rate_ramp: the changing rate that replaced request_rate; null: the rate did not change
    ramp: seconds over which the limit on requests in flight rose to `concurrency`
    duration: seconds after which no more requests were sent; null: no limit
    seed: runs with the same seed send identical bytes
    cache: "miss": random prompts, which no prefix cache can hold; "hit": the same prompt each time
    warmup: uncounted requests sent before the first repeat
    repeat: number of repeats requested
    timeout: time limit of one request, in seconds
    ignore_eos: the server was asked to generate exactly output_len tokens
    temperature: the requested sampling temperature; null: the server's default
    extra_body: fields that the user added to each request, with secrets hidden
    count_tokens: how tokens were counted: "usage": by the server, with each event; "auto": by a
        tokenizer, since the server sent no counts; "off": by a tokenizer, as requested
    conversations: the shape of the conversations
    dataset: the file of the prompts or send times; null: none
    slo: latency limits in milliseconds by name (ttft, tpot, e2e); empty: none
    command: arguments of the command line, with secrets hidden
    published: the published figures whose load this is; left out: it is a load of its own
    depth: tokens of context before each prompt, in addition to `input_len`; left out: none
    depth_cached: the contexts were sent before, for the prefix cache; left out with `depth`
    long: the long prompts among the others; left out: there were none
    """

    profile: str
    overrides: dict[str, Any]
    endpoint: Literal["chat", "completions", "generate"]
    url: str
    model: str
    num_prompts: int
    input_len: int | None
    output_len: int | None
    request_rate: float | None
    burstiness: float | None
    concurrency: int | None
    rate_ramp: RateRamp | None = None
    ramp: float
    duration: float | None
    seed: int
    cache: Literal["miss", "hit"]
    warmup: int
    repeat: int
    timeout: float
    ignore_eos: bool
    temperature: float | None
    extra_body: dict[str, Any]
    count_tokens: str
    conversations: Conversations
    dataset: Dataset | None
    slo: dict[str, float]
    command: tuple[str, ...]
    published: Published | UnsetType = UNSET
    depth: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    depth_cached: bool | UnsetType = UNSET
    long: LongPrompts | UnsetType = UNSET


SettingValue = bool | int | float | str


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of the client's software.

    version: of spark-bench
    python: of Python
    httpx: of httpx; null: not installed
    """

    version: str
    python: str
    httpx: str | None


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that the client ran on; null: unknown.

    hostname: its network name
    product: product name from the firmware, such as "NVIDIA DGX Spark"
    cpu: the CPU's model
    cores, usable_cores: CPU cores of the machine, and those that the client may use
    memory_bytes: total memory, in bytes
    kernel: the kernel's release
    platform: operating system and architecture, such as "Linux aarch64"
    load_average: over 1, 5 and 15 minutes, read before the run
    governor: frequency governor of the first core, such as "performance" or "powersave"
    clock_source: the kernel's clock, such as "tsc" or "arch_sys_counter"
    """

    hostname: str | None
    product: str | None
    cpu: str | None
    cores: int | None
    usable_cores: int | None
    memory_bytes: int | None
    kernel: str | None
    platform: str
    load_average: tuple[float, float, float] | None
    governor: str | None
    clock_source: str | None


class Commit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The git commit of a project's folder.

    sha: its hash, in hex
    dirty: tracked files had uncommitted changes
    """

    sha: str
    dirty: bool


class ServerInfo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server reports about itself; null: not reported.

    engine: "sglang", "vllm" or "llama.cpp"
    version: the engine's version
    models: ids of the models that it serves
    model: id of the requested model
    max_model_len: that model's context length, in tokens
    settings: engine settings that affect speed, under the engine's own names
    """

    engine: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    model: str | None = None
    max_model_len: int | None = None
    settings: dict[str, SettingValue] = field(default_factory=dict)


class DeployedRank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine process of a deployment.

    rank: its number; 0 is the head
    node: name of the node that it runs on
    image: name and tag of its container image
    image_id: id of the image's content on that node
    engine_version: version of the engine in the image
    spec: SHA-256 of everything that decides what the rank runs; equal hashes are equal launches
    """

    rank: int
    node: str
    image: str
    image_id: str
    engine_version: str
    spec: str


class DeployedGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the project deployed, from its own listing.

    model: id of the model that the head runs
    revision: commit of the weights; "": unknown
    group: name of the deployment's group
    launch: settings that the head's engine was started with
    ranks: the running ranks, the head first
    """

    model: str
    revision: str
    group: str
    launch: dict[str, Any]
    ranks: tuple[DeployedRank, ...]


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the result was measured with; null: unknown, or there is none.

    client: versions of the client's software
    machine: the machine that the client ran on
    project: commit of the project that deployed the server
    server: what the server reports about itself
    deployment: what the project deployed
    """

    client: Client
    machine: Machine
    project: Commit | None = None
    server: ServerInfo
    deployment: DeployedGroup | None = None


class Lengths(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How closely successful requests met the requested lengths, in tokens.

    tokenizer: what counted the prompts; null: none did, so their lengths are approximate
    checked: requests whose prompt length was known in advance and reported by the server
    asked_input, seen_input: prompt tokens of the checked requests: requested, and as reported
    differing: checked requests whose two prompt lengths differ
    largest_difference: reported minus requested prompt tokens, where the two differ most
    asked_output, seen_output: answer tokens of all successful requests: requested, and generated
    stopped_early: successful requests whose answer ended before the requested length
    """

    tokenizer: str | None
    checked: int
    asked_input: int
    seen_input: int
    differing: int
    largest_difference: int
    asked_output: int
    seen_output: int
    stopped_early: int


SampleColumn = tuple[float | None, ...]


class Range(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a quantity behaved during the run, in the unit of the key that holds it.

    mean: mean over time
    max: largest value
    """

    mean: float
    max: float


class ServerSamples(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's metrics over time: columns of equal length; null: not reported.

    at: time of each sample, in seconds since the start of the run
    running, queued: number of requests that the server is processing, and that wait in its queue
    token_usage: share of the KV cache in use, from 0 to 1
    cache_hit_rate: share of prompt tokens found in the prefix cache, from 0 to 1
    throughput: tokens generated per second
    """

    at: tuple[float, ...]
    running: SampleColumn
    queued: SampleColumn
    token_usage: SampleColumn
    cache_hit_rate: SampleColumn
    throughput: SampleColumn


class ServerFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run according to the server's own metrics; null: not reported.

    reconciliation: the client's latencies compared with the server's histograms
    generated_tokens, prompt_tokens: tokens by the server's own counters
    cache_hit_rate: share of prompt tokens found in the prefix cache, from 0 to 1
    running, queued: number of requests that the server is processing, and that wait in its queue
    token_usage: share of the KV cache in use, from 0 to 1
    samples: the metrics over time
    """

    reconciliation: histograms.Reconciliation | None
    generated_tokens: float | None
    prompt_tokens: float | None
    cache_hit_rate: float | None
    running: Range | None
    queued: Range | None
    token_usage: Range | None
    samples: ServerSamples


class NodeColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node over time: columns of equal length; null: not reported.

    at: time of each sample, in seconds since the start of the run
    power_w: power of all its GPUs together, in watts
    temperature_c: temperature of its busiest GPU, in degrees Celsius
    clock_mhz: clock of its busiest GPU, in megahertz
    utilization: utilization of its busiest GPU, in percent
    memory_used_bytes: host memory in use, in bytes; it includes the GPU's only where the two share
        memory, as on a GB10
    received_bytes, sent_bytes: bytes over all RDMA ports since the ports came up
    """

    at: tuple[float, ...]
    power_w: SampleColumn
    temperature_c: SampleColumn
    clock_mhz: SampleColumn
    utilization: SampleColumn
    memory_used_bytes: SampleColumn
    received_bytes: SampleColumn
    sent_bytes: SampleColumn


class NodeFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node during the run; null: not reported.

    name: the node's name
    energy_joules: energy that its GPUs used, in joules
    power_w: power of all its GPUs together, in watts
    temperature_c: temperature of its busiest GPU, in degrees Celsius
    memory_used_bytes: host memory in use, in bytes; it includes the GPU's only where the two share
        memory, as on a GB10
    received_bytes, sent_bytes: bytes over all RDMA ports during the run
    samples: the node over time
    """

    name: str
    energy_joules: float | None
    power_w: Range | None
    temperature_c: Range | None
    memory_used_bytes: Range | None
    received_bytes: int | None
    sent_bytes: int | None
    samples: NodeColumns


class Nodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The nodes that serve the model.

    tokens_per_joule: output tokens per joule of GPU energy, over all nodes; null: at least one node
        does not report its power
    nodes: the figures of each node
    """

    tokens_per_joule: float | None
    nodes: tuple[NodeFigures, ...]
