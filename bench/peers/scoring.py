"""How far from the truth a client's figures are."""

from __future__ import annotations

from peers.actual import Actual
from peers.reported import FIGURES, METRICS, Reported

WRONG = 0.02
"""A measured figure in the fault table is wrong if it is off by more than this share."""

# ttft_mean and so on, in the order of tables.
KEYS = tuple(f"{metric}_{figure}" for metric in METRICS for figure in FIGURES)


def errors(reported: Reported, true: Actual) -> dict[str, float]:
    """Reported minus true, in milliseconds, by KEYS; without figures that the client lacks."""
    return {
        f"{metric}_{figure}": getattr(reported, metric)[figure]
        - _true(true, metric, reported)[figure]
        for metric in METRICS
        for figure in FIGURES
        if figure in getattr(reported, metric) and figure in _true(true, metric, reported)
    }


def truths(reported: Reported, true: Actual) -> dict[str, float]:
    """What `errors` compares with, by KEYS."""
    return {
        f"{metric}_{figure}": value
        for metric in METRICS
        for figure, value in _true(true, metric, reported).items()
    }


def wrong(reported: Reported, true: Actual) -> list[str]:
    """The figures that miss the truth, each with its reported and its true value."""
    pairs = {
        "successes": (reported.completed, true.completed),
        "tokens": (reported.tokens, true.tokens),
        "tok/s": (reported.throughput, true.throughput),
        "TTFT": (reported.ttft.get("mean"), true.ttft.get("mean")),
        "ITL": (reported.itl.get("mean"), _true(true, "itl", reported).get("mean")),
        "TPOT": (reported.tpot, _nearest(reported.tpot, true.tpot, true.tpot_after)),
    }
    return [
        f"{name} {_short(value)} (true {_short(fact)})"
        for name, (value, fact) in pairs.items()
        if value is not None and fact is not None and _off(value, fact)
    ]


def _true(true: Actual, metric: str, reported: Reported) -> dict[str, float]:
    if metric == "ttft":
        return true.ttft
    return true.icl if reported.by_chunk else true.itl


def _nearest(value: float | None, *facts: float | None) -> float | None:
    """The truth that is nearest to a value, of those by the definitions in use; the first one if
    nothing was reported."""
    definitions = [fact for fact in facts if fact is not None]
    if value is None or not definitions:
        return facts[0]
    return min(definitions, key=lambda fact: abs(fact - value))


def _off(value: float, fact: float) -> bool:
    """Counts must be exact; measured figures may be off by WRONG."""
    if isinstance(value, int) and isinstance(fact, int):
        return value != fact
    return abs(value - fact) > WRONG * abs(fact)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
