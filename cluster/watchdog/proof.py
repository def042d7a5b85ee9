"""Whether a group serves, by its servers' answers. Runs on nodes: the standard library alone.

What servers answer is hostile until parsed: bodies are cut before they come here, and numbers that
are none, or negative, do not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

# An engine without CUDA graphs answers a token in seconds; one that waits for a dead peer, never.
COMPLETION_SECONDS = 60
# After so long without a token a completion is requested, where no request runs or waits.
IDLE_SECONDS = 300
# So long no token may come while requests run: the prefill of a long prompt shows none.
STILL_SECONDS = 300
# The first token of a request, and each later one; generation_tokens_total grows at its end only.
_TOKENS = ("sglang:time_to_first_token_seconds_count", "sglang:inter_token_latency_seconds_count")
_REQUESTS = ("sglang:num_running_reqs", "sglang:num_queue_reqs")
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{[^\n]*\})? (\S+)")


@dataclass(frozen=True)
class EngineLoad:
    """What /metrics says: requests that run or wait, tokens since the engine's start."""

    requests: float
    tokens: float


@dataclass(frozen=True)
class TokenProgress:
    """What is remembered of the tokens.

    + tokens: at the last look; None: there was none in this life of the rank
    + moved: when they last grew, or a completion was right; long ago: neither yet
    + busy: since when requests have run or waited; None: there are none
    """

    tokens: float | None = None
    moved: float = float("-inf")
    busy: float | None = None


def parse_load(text: str) -> EngineLoad | None:
    """The load in /metrics; None where it does not say. Series of several ranks count together."""
    sums: dict[str, float] = {}
    for match in map(_SAMPLE.fullmatch, text.splitlines()):
        if match is None or match[1] not in (*_TOKENS, *_REQUESTS):
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if isfinite(value) and value >= 0:
            sums[match[1]] = sums.get(match[1], 0.0) + value
    if _REQUESTS[0] not in sums:
        return None
    requests, tokens = (
        sum(sums.get(name, 0.0) for name in names) for names in (_REQUESTS, _TOKENS)
    )
    return EngineLoad(requests, tokens)


def note_load(progress: TokenProgress, load: EngineLoad, now: float) -> TokenProgress:
    """The progress after another look; the counters of an engine that started again are lower."""
    busy = None if load.requests < 1 else now if progress.busy is None else progress.busy
    moved = progress.moved if progress.tokens in (None, load.tokens) else now
    return replace(progress, tokens=load.tokens, moved=moved, busy=busy)


def stands_still(progress: TokenProgress, load: EngineLoad, now: float) -> str:
    """Why tokens should have come; "" where that is no fault."""
    still = 0.0 if progress.busy is None else now - max(progress.moved, progress.busy)
    if still < STILL_SECONDS:
        return ""
    return f"{load.requests:.0f} requests, and no token for {still:.0f} s"


def needs_completion(progress: TokenProgress, load: EngineLoad | None, now: float) -> bool:
    """Whether nothing has proved for a while that the engine generates. Where requests run or wait,
    a completion would wait behind them, and prove nothing."""
    return load is not None and load.requests < 1 and now - progress.moved >= IDLE_SECONDS


def wrong_health(statuses: Mapping[int, int]) -> str:
    """The ranks whose /health is not 200; "" where all are. 0: nothing answered in time.

    One that hangs keeps rank 0 from answering too.
    """
    wrong = [(rank, status) for rank, status in sorted(statuses.items()) if status != 200]
    return ", ".join(f"rank {rank} /health: {status or 'no answer'}" for rank, status in wrong)


def wrong_models(status: int, body: str, model: str) -> str:
    """Why /v1/models does not show the model; "" where it does."""
    if status != 200:
        return f"/v1/models: {status or 'no answer'}"
    try:
        ids = [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return "/v1/models is no list of models"
    return "" if model in ids else "/v1/models lacks the model"


def wrong_completion(status: int, body: str) -> str:
    """Why a completion is none; "" where at least one token was generated."""
    if status != 200:
        return f"a completion: {status or 'no answer'}"
    try:
        usage = json.loads(body)["usage"]["completion_tokens"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return "a completion without its usage"
    return "" if type(usage) is int and usage > 0 else "a completion without a token"
