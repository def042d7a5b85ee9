"""Prefill and decode speed of one batch of prompts, as llama-benchy takes them.

A batch is requests that are sent at once. Its definitions are those of llama_benchy 0.4.0
(results.py, `_process_batch`), with two differences: prefill ends with the first token, not with
the first event, and no latency of the network is taken off. Tokens are counted by the server where
it does; theirs are spread evenly over an answer's chunks.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from spark_bench.metrics.times import NS_PER_MS, NS_PER_S, TimedRequests, Times
from spark_bench.record import Request

# Seconds over which a peak is taken.
PEAK_SECONDS = 1.0


class Batch(Struct, frozen=True, kw_only=True):
    """Speeds in tokens per second, times in milliseconds; null: too few tokens for it.

    pp: prompt tokens of all requests, from the first send to the last first token
    tg: tokens after the first ones of all answers, from the first of these to the last token
    peak: the most tokens of all answers within a second
    pp_each, tg_each, peak_each: the same of each whole answer, by itself
    ttfr_ms, ttft_ms: from the send of each request to its first event, and to its first token
    """

    pp: float | None
    tg: float | None
    peak: float | None
    pp_each: tuple[float, ...]
    tg_each: tuple[float, ...]
    peak_each: tuple[float, ...]
    ttfr_ms: tuple[float, ...]
    ttft_ms: tuple[float, ...]


class DepthFigures(Struct, frozen=True, kw_only=True):
    """A load at a depth: what its prompts cost after a context of that many tokens.

    depth: tokens of the context before each prompt
    cached: the contexts were sent before, for the prefix cache, and `pp` counts only the prompts;
        otherwise it counts both
    in_cache: share of the contexts' tokens that the server found in its cache; null: unknown
    batches: one for each repeat
    contexts: of the requests that sent the contexts; empty unless they were cached
    """

    depth: int
    cached: bool
    in_cache: float | None
    batches: tuple[Batch, ...]
    contexts: tuple[Batch, ...] = ()


def measure_batch(requests: Sequence[Request], cached: int = 0) -> Batch:
    """The figures of a batch. cached: tokens of each prompt that count for nothing"""
    timed = TimedRequests(requests)
    times = timed.answered
    whole = {r.index: r.prompt_tokens or r.asked_input or 0 for r in requests}
    prompts = np.array([max(0, whole[index] - cached) for index in times.index.tolist()], float)
    ttft_ns = times.first_ns - times.sent_ns
    spans = times.last_ns - times.first_ns
    pp = tg = None
    if len(times):
        prefill = int(times.first_ns.max() - times.sent_ns.min())
        pp = float(prompts.sum()) * NS_PER_S / prefill if prefill > 0 else None
        decode = int(times.last_ns.max() - times.first_ns.min())
        tokens = int(times.after.sum())
        tg = tokens * NS_PER_S / decode if decode > 0 and tokens else None
    decoded = (spans > 0) & (times.after > 0)
    return Batch(
        pp=pp,
        tg=tg,
        peak=_peak(times),
        pp_each=tuple((prompts * NS_PER_S / np.maximum(ttft_ns, 1)).tolist()),
        tg_each=tuple((times.after[decoded] * NS_PER_S / spans[decoded]).tolist()),
        peak_each=tuple(
            peak
            for number in range(len(times))
            if (peak := _peak(times.where(np.arange(len(times)) == number))) is not None
        ),
        ttfr_ms=tuple(((times.first_event_ns - times.sent_ns) / NS_PER_MS).tolist()),
        ttft_ms=tuple((ttft_ns / NS_PER_MS).tolist()),
    )


def _peak(times: Times) -> float | None:
    """The most tokens per second in any second; over all of the time if that is shorter."""
    if not times.token_ns.size:
        return None
    order = np.argsort(times.token_ns, kind="stable")
    at, window = times.token_ns[order], int(PEAK_SECONDS * NS_PER_S)
    so_far = np.cumsum(times.token_counts[order])
    lasted = int(at[-1] - at[0])
    if 0 < lasted < window:
        return float(so_far[-1]) * NS_PER_S / lasted
    before = np.searchsorted(at, at - window, side="right")
    earlier = np.append(0, so_far)[before]
    return float((so_far - earlier).max()) / PEAK_SECONDS


def depth_figures(
    depth: int, requests: Sequence[Request], contexts: Sequence[Request] = ()
) -> DepthFigures:
    """The figures of one repeat at a depth.

    contexts: the requests that sent the contexts before; empty: they were sent with the prompts
    """
    hits = [r.cached_tokens for r in requests if r.ok and r.cached_tokens is not None]
    share = sum(min(hit, depth) for hit in hits) / (depth * len(hits)) if depth and hits else None
    return DepthFigures(
        depth=depth,
        cached=bool(contexts),
        in_cache=share,
        batches=(measure_batch(requests, cached=depth if contexts else 0),),
        contexts=(measure_batch(contexts),) if contexts else (),
    )


def merge_depth(repeats: Sequence[DepthFigures]) -> DepthFigures:
    """All repeats at one depth."""
    shares = [each.in_cache for each in repeats if each.in_cache is not None]
    return DepthFigures(
        depth=repeats[0].depth,
        cached=repeats[0].cached,
        in_cache=sum(shares) / len(shares) if shares else None,
        batches=tuple(batch for each in repeats for batch in each.batches),
        contexts=tuple(batch for each in repeats for batch in each.contexts),
    )


class Speed(Struct, frozen=True):
    """Values of several batches or requests; mean, and the population's standard deviation."""

    mean: float
    std: float
    values: tuple[float, ...]


class SpeedRow(Struct, frozen=True, kw_only=True):
    """A row as llama-benchy's users publish it; None: not measured, or no figure of such a row.

    test: "pp2048 @ d4096", "tg32 @ d4096", and with "ctx_" in front those of the contexts
    speed: tokens per second of a batch; each: of a request, where batches have several
    """

    test: str
    speed: Speed
    each: Speed | None
    peak: Speed | None
    ttft_ms: Speed | None


def speed_of(values: Sequence[float | None]) -> Speed | None:
    """The values that there are; None if there are none."""
    there = tuple(value for value in values if value is not None)
    return Speed(float(np.mean(there)), float(np.std(there)), there) if there else None


def pooled(batches: Sequence[Batch], name: str) -> Speed | None:
    """A figure of every request of all batches."""
    return speed_of([value for batch in batches for value in getattr(batch, name)])


def speed_rows(
    figures: DepthFigures, input_len: int, output_len: int, concurrency: int
) -> list[SpeedRow]:
    """The rows of a load at a depth: contexts first, prefill before decode."""
    alone = concurrency == 1
    suffix = "" if alone else f" (c{concurrency})"
    at = f" @ d{figures.depth}"
    here = at if figures.depth else ""
    rows = []
    for names, batches in (
        ((f"ctx_pp{at}", f"ctx_tg{at}"), figures.contexts),
        ((f"pp{input_len}{here}", f"tg{output_len}{here}"), figures.batches),
    ):
        prefill, decode = (
            pooled(batches, f"{name}_each")
            if alone
            else speed_of([getattr(b, name) for b in batches])
            for name in ("pp", "tg")
        )
        if prefill:
            rows.append(
                SpeedRow(
                    test=names[0] + suffix,
                    speed=prefill,
                    each=None if alone else pooled(batches, "pp_each"),
                    peak=None,
                    ttft_ms=pooled(batches, "ttft_ms"),
                )
            )
        if decode:
            rows.append(
                SpeedRow(
                    test=names[1] + suffix,
                    speed=decode,
                    each=None if alone else pooled(batches, "tg_each"),
                    peak=speed_of([batch.peak for batch in batches]),
                    ttft_ms=None,
                )
            )
    return rows
