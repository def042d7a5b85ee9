"""How far from the truth a client's figures are."""

from __future__ import annotations

from peers.actual import Actual
from peers.told import FIGURES, METRICS, Told

WRONG = 0.02
"""A figure of the fault table is wrong from this share of the truth on."""

# ttft_mean and so on, in the order of tables.
KEYS = tuple(f"{metric}_{figure}" for metric in METRICS for figure in FIGURES)


def errors(told: Told, true: Actual) -> dict[str, float]:
    """told - true in milliseconds, by KEYS, where the client tells that figure."""
    return {
        f"{metric}_{figure}": getattr(told, metric)[figure] - _true(true, metric, told)[figure]
        for metric in METRICS
        for figure in FIGURES
        if figure in getattr(told, metric) and figure in _true(true, metric, told)
    }


def truths(told: Told, true: Actual) -> dict[str, float]:
    """What `errors` compares with, by KEYS."""
    return {
        f"{metric}_{figure}": value
        for metric in METRICS
        for figure, value in _true(true, metric, told).items()
    }


def wrong(told: Told, true: Actual) -> list[str]:
    """The figures that miss the truth, each with what was told and what is true."""
    pairs = {
        "successes": (told.completed, true.completed),
        "tokens": (told.tokens, true.tokens),
        "tok/s": (told.throughput, true.throughput),
        "TTFT": (told.ttft.get("mean"), true.ttft.get("mean")),
        "ITL": (told.itl.get("mean"), _true(true, "itl", told).get("mean")),
        "TPOT": (told.tpot, _nearest(told.tpot, true.tpot, true.tpot_after)),
    }
    return [
        f"{name} {_short(said)} (true {_short(fact)})"
        for name, (said, fact) in pairs.items()
        if said is not None and fact is not None and _off(said, fact)
    ]


def _true(true: Actual, metric: str, told: Told) -> dict[str, float]:
    if metric == "ttft":
        return true.ttft
    return true.icl if told.by_chunk else true.itl


def _nearest(said: float | None, *facts: float | None) -> float | None:
    """Of the truths by the definitions in use; the first where nothing was said."""
    known = [fact for fact in facts if fact is not None]
    if said is None or not known:
        return facts[0]
    return min(known, key=lambda fact: abs(fact - said))


def _off(said: float, fact: float) -> bool:
    """Counts must be exact; measured figures may be off by WRONG."""
    if isinstance(said, int) and isinstance(fact, int):
        return said != fact
    return abs(said - fact) > WRONG * abs(fact)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
