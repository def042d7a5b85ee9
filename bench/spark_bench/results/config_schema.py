"""The part of a result file that says what was requested: see `schema`."""

import re
from math import prod
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


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


class RunConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
