"""Scores of the same task beside each other: how far apart they are, and which answers agree.

What serves answers at temperature 0, and still says the same thing in other words when its batch,
its kernels or its numbers' format differ. So answers agree in two ways: by the value that was read
from them, and word for word. Where texts differ, the place of the first token that does (of the
first word, where a server sends no tokens) shows whether it is a rounding (late, and different in
each answer) or something broken (at once).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Struct

from spark_bench.compare import paired, stats
from spark_bench.metrics.intervals import wilson
from spark_bench.results.quality_schema import (
    CUT_OFF,
    Against,
    AnsweredItem,
    Matched,
    QualityResult,
)

ALPHA = 0.05  # over all differences of a table together


class ScorePart(Struct, frozen=True):
    """What a comparison needs of one quality result.

    config: what must be the same: items and protocol, flattened; shown: what may differ
    items: those that were answered, by what was sent
    texts: whether they have the answers
    """

    path: Path
    id: str
    status: str
    task: str
    config: dict[str, Any]
    shown: dict[str, Any]
    provenance: dict[str, Any]
    items: dict[str, AnsweredItem]
    texts: bool


class TaskScore(Struct, frozen=True):
    """A run's score of a task, over all its results of it.

    right: answers that are right, of `answers`
    score, low, high: their share, with its 95% Wilson interval
    """

    right: int
    answers: int
    score: float
    low: float
    high: float


class ScoreDifference(Struct, frozen=True):
    """How a run's score of a task differs from the first run's; shares, not points.

    items: answered in both; lost, won: right only in the first, and only in the second
    low, high: 95% interval of the difference
    p, p_holm: McNemar's two-sided p-value, single and Holm-adjusted over the table
    """

    items: int
    lost: float
    won: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Literal["better", "worse", "unclear"]
    matched: Matched


class ScoreRow(Struct, frozen=True):
    """A task: the score of each run, and each run's difference from the first; None: unknown."""

    task: str
    scores: tuple[TaskScore | None, ...]
    differences: tuple[ScoreDifference | None, ...]


def score_part(path: Path, result: QualityResult) -> ScorePart:
    """What a comparison needs of a quality result."""
    config = msgspec.to_builtins(result.config)
    return ScorePart(
        path=path,
        id=result.id,
        status=result.status,
        task=result.config.task,
        config={
            "items": config["items"]["sha256"],
            **{
                name: repr(value) for name, value in config["protocol"].items() if name != "timeout"
            },
        },
        shown={"model": result.config.model, "url": result.config.url},
        provenance=msgspec.to_builtins(result.provenance),
        items={f"{i.id} {i.prompt_sha256}": i for i in result.items if i.right is not None},
        texts=result.config.answers_kept,
    )


def outcomes(parts: Sequence[ScorePart]) -> dict[str, float]:
    """By item, the share of the results in which its answer is right."""
    counts: dict[str, list[bool]] = {}
    for part in parts:
        for key, item in part.items.items():
            counts.setdefault(key, []).append(item.right is True)
    return {key: sum(each) / len(each) for key, each in counts.items()}


def task_score(parts: Sequence[ScorePart]) -> TaskScore | None:
    """The score over these results; None: nothing was answered."""
    each = [item.right is True for part in parts for item in part.items.values()]
    low, high = wilson(sum(each), len(each))
    if low is None or high is None:
        return None
    return TaskScore(sum(each), len(each), sum(each) / len(each), low, high)


def match_answers(first: ScorePart, second: ScorePart) -> Matched:
    """Set the answers to the same items beside each other, in pairs."""
    differing, values, count = list[tuple[AnsweredItem, AnsweredItem]](), 0, 0
    texts = first.texts and second.texts
    for key in first.items.keys() & second.items.keys():
        one, other = first.items[key], second.items[key]
        same = texts and (one.answer, one.calls) == (other.answer, other.calls)
        count += 1
        values += same or (one.read is not None and one.read == other.read)
        if texts and not same:
            differing.append((one, other))
    # One unit for all of them: a median over words and tokens would be neither.
    by_token = bool(differing) and all(each.tokens for pair in differing for each in pair)
    places = [
        first_difference(one.tokens or (), other.tokens or ())
        if by_token
        else first_difference((one.answer or "").split(), (other.answer or "").split())
        for one, other in differing
    ]
    return Matched(
        answers=count,
        same_value=values,
        same_text=count - len(places) if texts else None,
        median_place=median(places) if places else None,
        earliest_place=min(places, default=None),
        places="token" if by_token else UNSET,
    )


def first_difference(first: Sequence[str], second: Sequence[str]) -> int:
    """The place of the first word or token that differs, from 1; where one answer ends, the place
    after it.

    >>> first_difference(["It", "is", "42."], ["It", "is", "43."]), first_difference([], ["It"])
    (3, 1)
    """
    pairs = enumerate(zip(first, second, strict=False), start=1)
    shorter = min(len(first), len(second)) + 1
    return next((place for place, (one, other) in pairs if one != other), shorter)


def compare_scores(runs: Sequence[Mapping[str, Sequence[ScorePart]]]) -> tuple[ScoreRow, ...]:
    """A row per task. runs: each run's results by task; the first is the baseline"""
    rows = []
    for task in dict.fromkeys(task for run in runs for task in run):
        first, *others = columns = [run.get(task, ()) for run in runs]
        apart = (None, *(score_difference(first, other) for other in others))
        rows.append(ScoreRow(task, tuple(map(task_score, columns)), apart))
    places = [
        (r, c) for r, row in enumerate(rows) for c, each in enumerate(row.differences) if each
    ]
    singles = [each.p for row in rows for each in row.differences if each]
    adjusted = stats.holm(np.array(singles, np.float64))
    for (r, c), p in zip(places, adjusted, strict=True):
        differences = list(rows[r].differences)
        one = differences[c]
        assert one
        way: Literal["better", "worse"] = "better" if one.difference > 0 else "worse"
        differences[c] = msgspec.structs.replace(
            one, p_holm=float(p), verdict=way if p < ALPHA else "unclear"
        )
        rows[r] = msgspec.structs.replace(rows[r], differences=tuple(differences))
    return tuple(rows)


def score_difference(
    first: Sequence[ScorePart], second: Sequence[ScorePart]
) -> ScoreDifference | None:
    """The second's score less the first's; None: they have no item in common."""
    pair = paired.pair_scores(outcomes(first), outcomes(second))
    if pair is None:
        return None
    low, high = pair.interval()
    p = pair.p()
    # Of several results on a side, the newest are set beside each other.
    return ScoreDifference(
        items=pair.items,
        lost=pair.lost,
        won=pair.won,
        difference=pair.difference,
        low=low,
        high=high,
        p=p,
        p_holm=p,
        verdict="unclear" if p >= ALPHA else "better" if pair.difference > 0 else "worse",
        matched=match_answers(first[-1], second[-1]),
    )


def describe_against(path: Path, before: QualityResult, now: QualityResult) -> Against | None:
    """What has changed since a result of the same items; None: no item is answered in both."""
    first, second = score_part(path, before), score_part(path, now)
    apart = score_difference([first], [second])
    if apart is None:
        return None
    common = [item for key, item in first.items.items() if key in second.items]
    return Against(
        id=before.id,
        file=path.name,
        model=before.config.model,
        score=sum(item.right is True for item in common) / len(common),
        items=apart.items,
        lost=int(apart.lost),
        won=int(apart.won),
        difference=apart.difference,
        low=apart.low,
        high=apart.high,
        p=apart.p,
        matched=apart.matched,
    )


# ---- whether answers can be used at all
#
# Both are held against a model's own answers, not against what others' models can: a small model
# may be bad at a task, and is not broken.

FALSE_ALARMS = 0.01  # of all comparisons of a model's variants with each other
LOSS = 5.0  # points
# Complete answers to a task below which nothing is concluded: of a model that gets three in ten
# right, none of ten is right once in 35 times.
FEWEST = 10


def why_unusable(part: ScorePart) -> str:
    """Why these answers can't be used, as a sentence: none is right, or most of them are empty or
    not of the requested form. "": they can.

    Answers that a limit cut off don't count: they show that the limit is too low.
    """
    whole = [item for item in part.items.values() if item.finish_reason != CUT_OFF]
    if len(whole) < FEWEST:
        return ""
    if not any(item.right for item in whole):
        return f"{part.task}: none of {len(whole)} answers is right"
    silent = sum(item.read is None and not item.right for item in whole)
    low, _ = wilson(silent, len(whole))
    if low is not None and low > 0.5:
        return f"{part.task}: {silent} of {len(whole)} answers are empty or unreadable"
    return ""


def proven_losses(
    variants: Mapping[str, Sequence[ScorePart]],
    loss: float = LOSS,
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variants of a model that are proven to score at least `loss` points less than its best.

    Only scores of the same items and protocol are compared with each other.

    variants: each variant's results
    names: what the variants are called; None: as they are

    Returns a sentence by variant.
    """
    tasks: dict[str, dict[str, list[ScorePart]]] = {}
    for name, parts in variants.items():
        for part in parts:
            tasks.setdefault(f"{part.task} {part.config}", {}).setdefault(name, []).append(part)
    losses: dict[str, list[str]] = {}
    for own in tasks.values():
        scores = {name: score.score for name, parts in own.items() if (score := task_score(parts))}
        best = max(scores, key=lambda name: scores[name], default="")
        # Any of them could have been the best one.
        alpha = FALSE_ALARMS / max(1, len(scores) * (len(scores) - 1) / 2)
        for name in scores:
            pair = paired.pair_scores(outcomes(own[best]), outcomes(own[name]))
            if pair and (proven := -pair.most(1 - alpha)) >= loss / 100:
                losses.setdefault(name, []).append(
                    f"{own[name][0].task}: {-100 * pair.difference:.1f} points below "
                    f"{(names or {}).get(best, best)}, at least {100 * proven:.1f} of them proven"
                )
    return {name: "; ".join(sentences) for name, sentences in losses.items()}
