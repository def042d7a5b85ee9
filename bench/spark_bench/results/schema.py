"""A result file: everything that is known of one run, as it is written.

Every name of these types is a key of the file; docs/results.md explains them for users. A change
of meaning, a new or a removed key is a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final, Literal

from msgspec import Struct, field

from spark_bench.client.audit import Audit
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import Reconciliation
from spark_bench.metrics.intervals import Interval
from spark_bench.metrics.stalls import Stalls
from spark_bench.metrics.summary import Distributions

SCHEMA_VERSION: Final = 1
KIND: Final = "spark-bench run"


class Measurement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one repeat measured, or all of them together.

    summary: the run's figures, under sglang.bench_serving's names; those without the start and the
        tail in its `steady`
    audit: how exact the client was
    lengths: tokens asked for and tokens seen
    distributions: quantiles, for plots; null for the median over repeats
    intervals: confidence intervals, by the summary's key; over repeats, or within the run
    stalls: gaps and whose they were
    server: what the server's own metrics say of the same time, and how that fits; null: it has none
    nodes: power, temperature and memory, and tokens per joule; null: not sampled
    requests_file: the name of the requests' file, in the same folder; null: not saved
    """

    summary: Summary
    audit: Audit
    lengths: Lengths
    distributions: Distributions | None = None
    intervals: dict[str, Interval] = {}
    stalls: Stalls | None = None
    server: ServerFigures | None = None
    nodes: Nodes | None = None
    requests_file: str | None = None


class Repeat(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One repeat; started: in UTC, ISO 8601."""

    repeat: int
    started: datetime


class Result(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run. The measured part is the run's own, or the median over its repeats.

    id: unique; in the order of the runs when sorted as text
    created: when the run ended, in UTC, ISO 8601
    status: "partial" when it was ended before its last request
    reason: why it is partial ("Ctrl-C"), else empty
    repeats: each of them, in their order; empty when there was one
    notes: what a reader of the figures should know, in sentences
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


def new_id(now: datetime) -> str:
    """An id for a run that ended at `now`: its time in UTC to the millisecond, and some chance."""
    utc = now.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03}Z-{token_hex(4)}"


class Conversations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of conversations; one turn and no shared prefix is a plain load.

    turns: questions in each
    think_time: seconds between an answer's end and the next question
    shared_prefix: tokens that the prompts of a group begin with, all alike
    prefix_groups: how many different such prefixes there are
    """

    turns: int = 1
    think_time: float = 0.0
    shared_prefix: int = 0
    prefix_groups: int = 1


class RateRamp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests a second at the start and at the end of the run, and how they change over time."""

    start: float
    end: float
    shape: Literal["linear", "exponential"]


class Dataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that prompts or times came from.

    file: its name, without folders
    sha256: of its bytes, in hex
    speed: how much faster than recorded a trace was replayed
    """

    format: Literal["trace", "sharegpt"]
    file: str
    sha256: str
    speed: float = 1.0


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run as it was asked for: its profile and the overrides put together.

    profile: its name
    overrides: which of its fields were given apart, with their values
    url: of the server, without user and password
    num_prompts: requests in each repeat
    input_len, output_len: tokens asked for; null where each request has its own
    request_rate: requests per second; null: as fast as the slots allow
    burstiness: shape of the gamma distributed gaps (1: Poisson; smaller: burstier); null: even
    concurrency: requests in flight at most; null: no limit
    rate_ramp: the rate that changed over the run, in place of request_rate; null: it did not
    ramp: seconds until the last slot was open
    duration: seconds after which nothing more is sent; null: all prompts are sent
    cache: "miss" (random content that no prefix cache can know) or "hit"
    warmup: requests sent before the first repeat, which count nowhere
    timeout: seconds for one request
    ignore_eos: the server was asked to go on to output_len
    temperature: asked for; null: the server takes none, so its own
    extra_body: what the user added to each request's body, secrets hidden
    count_tokens: how tokens were to be counted
    slo: the longest times allowed, in milliseconds, by name; empty: none were given
    command: the words of the command line, secrets hidden
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


SettingValue = bool | int | float | str


class Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The client: versions of itself, of Python and of httpx."""

    version: str
    python: str
    httpx: str | None


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that the client ran on. What it doesn't tell is null.

    product: the machine's name by its firmware ("NVIDIA DGX Spark")
    platform: system and architecture ("Linux aarch64")
    cores, usable_cores: of the machine, and those that the client may run on
    load_average: over 1, 5 and 15 minutes, before the run started
    governor: of the first core's clock frequency ("performance", "powersave")
    clock_source: what the kernel reads the time from ("tsc", "arch_sys_counter")
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
    """The git commit of a project's folder; dirty: tracked files differed from it."""

    sha: str
    dirty: bool


class ServerInfo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server told about itself. What it doesn't tell is null.

    engine: "sglang", "vllm" or "llama.cpp"
    version: the engine's
    models: the ids that it serves
    model, max_model_len: the served model's entry: its id, its context in tokens
    settings: those of the engine's settings that speed depends on, under the engine's names
    """

    engine: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    model: str | None = None
    max_model_len: int | None = None
    settings: dict[str, SettingValue] = field(default_factory=dict)


class DeployedRank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine process of a deployment.

    image_id: what is inside the image's tag on that node
    spec: SHA-256 of everything that decides what it runs; the same hash is the same launch
    """

    rank: int
    node: str
    image: str
    image_id: str
    engine_version: str
    spec: str


class DeployedGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the project has deployed, as it lists it.

    model: that the head runs
    revision: of the weights, "" where not known
    launch: what the head's engine was started with
    ranks: those that run, the head first
    """

    model: str
    revision: str
    group: str
    launch: dict[str, Any]
    ranks: tuple[DeployedRank, ...]


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a result was measured with; null: unknown, or there is none."""

    client: Client
    machine: Machine
    project: Commit | None = None
    server: ServerInfo
    deployment: DeployedGroup | None = None


class Lengths(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the lengths asked for were met. Sums are over good requests with a usage.

    tokenizer: what the prompts were counted with; null: nothing, their lengths are approximate
    checked: requests whose prompt length was known beforehand and told by the server
    asked_input, seen_input: their prompt tokens, in sum
    differing: those where the two differ
    largest_difference: seen minus asked, of the one where they differ most
    asked_output, seen_output: tokens to generate and generated, in sum, of good requests
    stopped_early: good requests that ended before the length asked for
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
    """Mean over time and maximum of something, within the run."""

    mean: float
    max: float


class ServerSamples(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server by time; all columns are of one length. null: not told.

    at: seconds since the start of the run
    running, queued: requests
    token_usage: share of the KV cache in use
    cache_hit_rate: share of prompt tokens found in the prefix cache
    throughput: tokens a second that it generated
    """

    at: tuple[float, ...]
    running: SampleColumn
    queued: SampleColumn
    token_usage: SampleColumn
    cache_hit_rate: SampleColumn
    throughput: SampleColumn


class ServerFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server's own metrics say of the run.

    reconciliation: the client's latencies beside the server's histograms
    generated_tokens, prompt_tokens: by its own counters
    cache_hit_rate: share of prompt tokens found in the prefix cache
    running, queued: requests
    token_usage: share of the KV cache in use
    """

    reconciliation: Reconciliation | None
    generated_tokens: float | None
    prompt_tokens: float | None
    cache_hit_rate: float | None
    running: Range | None
    queued: Range | None
    token_usage: Range | None
    samples: ServerSamples


class NodeColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node by time; all columns are of one length. null: not told.

    at: seconds since the start of the run
    power_w: of all its GPUs; temperature_c, clock_mhz, utilization (percent): of the busiest
    memory_used_bytes: of the host; the GPU's own only where it shares that, as a GB10 does
    received_bytes, sent_bytes: over all RDMA ports since they came up
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
    """One node over the run.

    energy_joules: of its GPUs
    memory_used_bytes: of the host; the GPU's own only where it shares that, as a GB10 does
    received_bytes, sent_bytes: over RDMA during the run
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
    """tokens_per_joule: output tokens for each joule that all nodes' GPUs took; null where one of
    them doesn't tell its power."""

    tokens_per_joule: float | None
    nodes: tuple[NodeFigures, ...]
