"""What a run was asked to do: everything that determines the bytes sent and their times."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


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
    request_rate: requests a second; null: as fast as the slots allow
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
