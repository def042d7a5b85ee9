"""The same requests of two runs beside each other: how much longer each took in the second.

Runs of one profile and seed send the same prompts in the same order, repeat by repeat, so what a
prompt's length or its place in the load does to a latency is the same on both sides and cancels.
What is left is averaged over a repeat's requests: the mean logarithm of their ratios without the
lowest and the highest fifth, since a batch that formed otherwise delays many requests at once; what
happens to few requests shows in the means and 99th percentiles of all of them. The repeats are the
unit of the interval and the test (`stats.paired`), since requests of one repeat share its
disturbances and are not independent.

Requests are paired by repeat and position, and only if every prompt's hash is the same on both
sides. E2E counts where both answers are equally long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from spark_bench.arrays import Floats, Ints
from spark_bench.compare import stats
from spark_bench.compare.runs import ComparedRun, ResultPart
from spark_bench.errors import BadInput
from spark_bench.metrics.times import Times
from spark_bench.printable import printable
from spark_bench.results import codec

ALPHA = 0.05  # over all pairs of a comparison together
LATENCIES = ("e2e_latency", "tpot", "ttft")


class PairedLatency(Struct, frozen=True):
    """How a latency of the same requests differs between the first run and another.

    latency: as in the summary's keys; run: the other's letter
    pairs: requests that have it in both runs; repeats: those that they are of
    percent, low, high: by how much the typical ratio differs from 1, with its 95% interval
    slower: share of the pairs that took longer in the other run
    p, p_holm: two-sided p-value, single and Holm-adjusted over all pairs of the comparison
    """

    latency: str
    run: str
    pairs: int
    repeats: int
    percent: float
    low: float | None
    high: float | None
    slower: float
    p: float | None
    p_holm: float | None
    verdict: Literal["better", "worse", "unclear", "1 repeat"]


@dataclass(frozen=True)
class SavedRepeat:
    """The requests of one repeat.

    prompts: each request's prompt by position, as its hash; None: unknown
    times: of those that count
    """

    prompts: dict[int, str | None]
    times: Times


class CantPair(Exception):
    """Why two runs can't be paired, as a sentence."""


def pair_requests(
    runs: Sequence[ComparedRun], differing: Sequence[str]
) -> tuple[tuple[PairedLatency, ...], tuple[str, ...]]:
    """Return (a row for each latency and run but the first, why others have none).

    differing: fields of the load that differ between the runs
    """
    rows: list[PairedLatency] = []
    measured = [run for run in runs if run.parts]
    if len(measured) < 2:
        return (), ()
    try:
        if differing:
            raise CantPair(f"they differ in {printable(', '.join(differing))}")
        if without := [run.letter for run in measured if not all(p.requests for p in run.parts)]:
            raise CantPair(f"no requests file in {', '.join(without)} (run --save-requests)")
        first = _saved(measured[0])
    except CantPair as why:
        return (), (f"requests are not paired: {why}",)
    reasons: list[str] = []
    for run in measured[1:]:
        try:
            rows += _pair(measured[0], run, _shared(first, _saved(run), run.letter))
        except CantPair as why:
            reasons.append(f"requests of {run.letter} are not paired: {why}")
    return _adjusted(rows), tuple(reasons)


def _saved(run: ComparedRun) -> dict[tuple[int, int], SavedRepeat]:
    """A run's requests by file and repeat."""
    saved = {}
    for number, part in enumerate(run.parts):
        for repeat, own in _read(part.requests, part):
            saved[number, repeat] = own
    return saved


def _read(path: Path | None, part: ResultPart) -> list[tuple[int, SavedRepeat]]:
    assert path
    read = []
    try:
        for repeat, rows in groupby(codec.read_rows(path), key=lambda row: row.repeat):
            prompts: dict[int, str | None] = {}
            requests = []
            for row in rows:
                request = codec.from_row(row)
                prompts[row.index] = request.prompt_sha256 or None
                if len(row.token_gaps_ns) != len(row.token_counts):
                    raise ValueError(f"{path}: request {row.index} has times without tokens")
                if request.ok:
                    requests.append(request)
            read.append((repeat, SavedRepeat(prompts, Times.of(requests))))
    except (BadInput, OverflowError, ValueError) as error:
        raise CantPair(printable(getattr(error, "message", str(error)))) from error
    return read


Shared = list[tuple[SavedRepeat, SavedRepeat]]


def _shared(
    first: dict[tuple[int, int], SavedRepeat], second: dict[tuple[int, int], SavedRepeat], who: str
) -> Shared:
    """The repeats that both have. CantPair unless every prompt that both sent is the same."""
    both = [(first[key], second[key]) for key in sorted(first.keys() & second.keys())]
    same = other = unknown = 0
    for one, two in both:
        for index in one.prompts.keys() & two.prompts.keys():
            hashes = one.prompts[index], two.prompts[index]
            unknown += None in hashes
            same += None not in hashes and hashes[0] == hashes[1]
            other += None not in hashes and hashes[0] != hashes[1]
    if unknown:
        raise CantPair(
            "the requests files name no prompts (a version before 2026-11-27 wrote them): measure "
            "again"
        )
    if other:
        raise CantPair(f"{other} of {same + other} prompts are not the same: another tokenizer?")
    if not same:
        raise CantPair("they have no repeat in common")
    return both


def _pair(base: ComparedRun, run: ComparedRun, repeats: Shared) -> list[PairedLatency]:
    rows = []
    for latency in LATENCIES:
        ratios = [each for pair in repeats if (each := log_ratios(latency, *pair)).size]
        if not ratios:
            continue
        apart = stats.paired([stats.trimmed_mean(each.tolist()) for each in ratios])
        low, high = apart.interval()
        # What the figures' bounds leave open is no difference.
        less, more = _slack(latency, base, run)
        p = apart.nearer_zero(less, more).p()
        ends = [float(100 * np.expm1(end[0])) for end in (low - less, high + more)]
        together = np.concatenate(ratios)
        several = len(ratios) > 1
        rows.append(
            PairedLatency(
                latency,
                run.letter,
                pairs=int(together.size),
                repeats=len(ratios),
                percent=float(100 * np.expm1(apart.difference[0])),
                low=ends[0] if several else None,
                high=ends[1] if several else None,
                slower=float((together > 0).mean()),
                p=float(p[0]) if several else None,
                p_holm=None,
                verdict="1 repeat",
            )
        )
    return rows


def log_ratios(latency: str, first: SavedRepeat, second: SavedRepeat) -> Floats:
    """The logarithm of second over first for each request that has the latency in both."""
    _, here, there = np.intersect1d(first.times.index, second.times.index, return_indices=True)
    one, other = _chosen(first.times, latency, here), _chosen(second.times, latency, there)
    usable = (one > 0) & (other > 0)
    if latency == "e2e_latency":
        usable &= first.times.output_tokens[here] == second.times.output_tokens[there]
    ratios: Floats = np.log(other[usable] / one[usable])
    return ratios


def _chosen(times: Times, latency: str, which: Ints) -> Floats:
    values: Floats = times.latency_ms(latency)[which] if len(times) else np.empty(0)
    return values


def _slack(latency: str, base: ComparedRun, run: ComparedRun) -> tuple[Floats, Floats]:
    """By how much the difference may be smaller and larger, by the bounds of the mean."""
    name = f"mean_{latency}_ms"
    (less, more), (down, up) = (
        stats.slack(
            stats.locations([np.log(np.maximum(each.values(name), 1e-9)).tolist()]),
            [each.ends(name)],
            logarithms=True,
        )
        for each in (base, run)
    )
    return np.nan_to_num(down + more), np.nan_to_num(up + less)


def _adjusted(rows: Sequence[PairedLatency]) -> tuple[PairedLatency, ...]:
    """The rows with p-values over all of them, and verdicts."""
    singles = np.array([np.nan if row.p is None else row.p for row in rows], np.float64)
    done = []
    for row, p in zip(rows, stats.holm(singles), strict=True):
        if row.p is not None:
            way: Literal["better", "worse"] = "worse" if row.percent > 0 else "better"
            verdict = way if p < ALPHA else "unclear"
            row = msgspec.structs.replace(row, p_holm=float(p), verdict=verdict)
        done.append(row)
    return tuple(done)
