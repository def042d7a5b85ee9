"""Prefill and decode speed of one batch of prompts, as llama-benchy takes them.

A batch is requests that are sent at once. Its definitions are those of llama_benchy 0.4.0
(results.py, `_process_batch`), with two differences: prefill ends with the first token, not with
the first event, and no latency of the network is taken off. Tokens are counted by the server where
it does; theirs are spread evenly over an answer's chunks.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import UNSET, Struct, UnsetType

from spark_bench.arrays import Floats, Ints
from spark_bench.metrics.bounds import Bound, LatencyBounds, mean_bound
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
    bounds: the lowest and the highest value that each of these can have, where there are several
        that their mean can have; left out: unknown, as in files of earlier versions
    """

    pp: float | None
    tg: float | None
    peak: float | None
    pp_each: tuple[float, ...]
    tg_each: tuple[float, ...]
    peak_each: tuple[float, ...]
    ttfr_ms: tuple[float, ...]
    ttft_ms: tuple[float, ...]
    bounds: dict[str, Bound] | UnsetType = UNSET


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


def measure_batch(requests: Sequence[Request], cached: int = 0, clock_error_ns: int = 0) -> Batch:
    """The figures of a batch.

    cached: tokens of each prompt that count for nothing
    clock_error_ns: how far the kernel's clock may be off against the client's
    """
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
        peak_each=tuple(peak for each in _each(times) if (peak := _peak(each)) is not None),
        ttfr_ms=tuple(((times.first_event_ns - times.sent_ns) / NS_PER_MS).tolist()),
        ttft_ms=tuple((ttft_ns / NS_PER_MS).tolist()),
        bounds=_bounds(LatencyBounds(times, clock_error_ns / NS_PER_MS), prompts)
        if len(times)
        else UNSET,
    )


def _bounds(latencies: LatencyBounds, prompts: Floats) -> dict[str, Bound]:
    """The bounds of a batch's figures, without those that have no highest value, since all tokens
    may have come at once. prompts: tokens of each that count"""
    times, error = latencies.times, latencies.error_ms
    ttfr, ttft = latencies.by_request("ttfc"), latencies.by_request("ttft")
    decoded = (times.last_ns > times.first_ns) & (times.after > 0)
    spans = [each[decoded] for each in latencies.spans_ms]
    whole = [
        (
            int(latencies.first_since_ns.max()) - int(latencies.sent_by_ns.min()),
            int(times.first_ns.max()) - int(times.sent_ns.min()),
        ),
        (
            int(latencies.last_since_ns.max()) - int(times.first_ns.min()),
            int(times.last_ns.max()) - int(latencies.first_since_ns.min()),
        ),
    ]
    prefill, decode = ([np.array([ns / NS_PER_MS]) for ns in ends] for ends in whole)
    peaks = [bound for each in _each(times) if (bound := _peak_bound(each))]
    bounds = {
        "pp": _speed_bound(prompts.sum(), prefill[0] - error, prefill[1] + error),
        "tg": _speed_bound(times.after.sum(), *decode),
        "peak": _peak_bound(times),
        "pp_each": _speed_bound(prompts, *ttft),
        "tg_each": _speed_bound(times.after[decoded], *spans),
        "peak_each": mean_bound(*np.array([(b.low, b.high) for b in peaks]).T)
        if len(peaks) == len(times)
        else None,
        "ttfr_ms": mean_bound(*ttfr),
        "ttft_ms": mean_bound(*ttft),
    }
    return {name: bound for name, bound in bounds.items() if bound}


def _speed_bound(tokens: Ints | Floats, shortest: Floats, longest: Floats) -> Bound | None:
    """The bounds of the mean of tokens per second; shortest, longest: what they took, in ms"""
    if not shortest.size or not (shortest > 0).all():
        return None
    return mean_bound(tokens / longest * 1e3, tokens / shortest * 1e3)


def _each(times: Times) -> list[Times]:
    """Each request's times by themselves."""
    return [times.where(np.arange(len(times)) == number) for number in range(len(times))]


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


def _peak_bound(times: Times) -> Bound | None:
    """The bounds of `_peak`: by the tokens that surely came within a second of each other, and by
    those that may have. None: all may have come at once."""
    at, since, window = times.token_ns, times.token_since_ns, int(PEAK_SECONDS * NS_PER_S)
    tokens = int(times.token_counts.sum())
    shortest, longest = int(since.max() - at.min()), int(at.max() - since.min())
    if shortest <= 0:
        return None
    if longest < window:
        return Bound(tokens * NS_PER_S / longest, tokens * NS_PER_S / shortest)
    by_at, by_since = np.argsort(at, kind="stable"), np.argsort(since, kind="stable")
    came, begun = at[by_at], since[by_since]
    over = np.append(0, np.cumsum(times.token_counts[by_at]))
    begun_by = np.append(0, np.cumsum(times.token_counts[by_since]))
    # Until the end of a window all that had come, less what may have come before it.
    fewest = over[1:] - begun_by[np.searchsorted(begun, came - window, side="right")]
    # Until then what may have come, less what surely had before.
    most = begun_by[1:] - over[np.searchsorted(came, begun - window, side="right")]
    highest = float(most.max()) if shortest >= window else tokens * NS_PER_S / shortest
    return Bound(float(fewest.max()) / PEAK_SECONDS, highest / PEAK_SECONDS)


def depth_figures(
    depth: int,
    requests: Sequence[Request],
    contexts: Sequence[Request] = (),
    clock_error_ns: int = 0,
) -> DepthFigures:
    """The figures of one repeat at a depth.

    contexts: the requests that sent the contexts before; empty: they were sent with the prompts
    clock_error_ns: how far the kernel's clock may be off against the client's
    """
    hits = [r.cached_tokens for r in requests if r.ok and r.cached_tokens is not None]
    share = sum(min(hit, depth) for hit in hits) / (depth * len(hits)) if depth and hits else None
    return DepthFigures(
        depth=depth,
        cached=bool(contexts),
        in_cache=share,
        batches=(measure_batch(requests, depth if contexts else 0, clock_error_ns),),
        contexts=(measure_batch(contexts, 0, clock_error_ns),) if contexts else (),
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
    """Values of several batches or requests; mean, and the population's standard deviation.

    bound: the lowest and the highest value that the mean can have; None: unknown
    """

    mean: float
    std: float
    values: tuple[float, ...]
    bound: Bound | None = None


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


def speed_of(batches: Sequence[Batch], name: str) -> Speed | None:
    """A figure of all batches, or of all their requests; None: no batch has it."""
    having = [(value, b.bounds) for b in batches if (value := getattr(b, name)) not in (None, ())]
    if not having:
        return None
    values = np.concatenate([np.atleast_1d(value) for value, _ in having])
    weights = [np.size(value) for value, _ in having]
    limits = [bounds[name] for _, bounds in having if bounds and name in bounds]
    bound = None
    if len(limits) == len(having):
        low, high = (
            float(np.average([getattr(limit, end) for limit in limits], weights=weights))
            for end in ("low", "high")
        )
        bound = Bound(low, high)
    return Speed(float(values.mean()), float(values.std()), tuple(values.tolist()), bound)


def speed_rows(
    figures: DepthFigures, input_len: int, output_len: int, concurrency: int
) -> list[SpeedRow]:
    """The rows of a load at a depth: contexts first, prefill before decode."""
    alone = concurrency == 1
    suffix = "" if alone else f" (c{concurrency})"
    at = f" @ d{figures.depth}"
    here = at if figures.depth else ""
    rows = []
    for test, name, batches in (
        (f"ctx_pp{at}", "pp", figures.contexts),
        (f"ctx_tg{at}", "tg", figures.contexts),
        (f"pp{input_len}{here}", "pp", figures.batches),
        (f"tg{output_len}{here}", "tg", figures.batches),
    ):
        if not (speed := speed_of(batches, f"{name}_each" if alone else name)):
            continue
        rows.append(
            SpeedRow(
                test=test + suffix,
                speed=speed,
                each=None if alone else speed_of(batches, f"{name}_each"),
                peak=speed_of(batches, "peak") if name == "tg" else None,
                ttft_ms=speed_of(batches, "ttft_ms") if name == "pp" else None,
            )
        )
    return rows
