"""A result file: everything that is recorded about one run.

Each class is an object of the file and each field a key of it; docs/results.md explains them to
users, and the docstrings here become the descriptions in schema.json. Renaming, adding or removing
a key, or changing its meaning, takes a new `SCHEMA_VERSION`; a key that a file leaves out where it
says nothing (UNSET) does not.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

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
from spark_bench.results.config_schema import RunConfig
from spark_bench.results.provenance_schema import Provenance

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
    config: RunConfig
    provenance: Provenance
    repeats: tuple[Repeat, ...] = ()
    notes: tuple[str, ...] = ()


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
