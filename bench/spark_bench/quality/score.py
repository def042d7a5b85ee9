"""Shares and intervals of answered items."""

from collections.abc import Iterable, Sequence

from spark_bench.metrics.intervals import LEVEL, wilson
from spark_bench.results.quality_schema import AnsweredItem, QualityUsage, Score

LENGTH = "length"  # the finish_reason of an answer cut off by a limit, in every engine


def score_items(items: Iterable[AnsweredItem]) -> Score:
    """The score of these items, with its interval."""
    every = list(items)
    answered = [item for item in every if not item.failure]
    n, right = len(answered), sum(item.right is True for item in answered)
    low, high = wilson(right, n)
    empty = sum(item.empty for item in answered)
    return Score(
        answered=n,
        failed=len(every) - n,
        right=right,
        score=right / n if n else None,
        low=low,
        high=high,
        level=LEVEL,
        stopped_by_length=_share(sum(item.finish_reason == LENGTH for item in answered), n),
        empty=_share(empty, n),
        unreadable=_share(sum(item.read is None for item in answered) - empty, n),
    )


def score_groups(items: Sequence[AnsweredItem]) -> dict[str, Score]:
    """The score of each group, in the items' order; empty if there are none."""
    groups = dict.fromkeys(item.group for item in items if item.group)
    return {group: score_items(i for i in items if i.group == group) for group in groups}


def add_usage(items: Sequence[AnsweredItem], seconds: float) -> QualityUsage:
    """Tokens of the answered items, and the seconds that they took."""
    prompts = [item.prompt_tokens for item in items if item.prompt_tokens is not None]
    outputs = [item.output_tokens for item in items if item.output_tokens is not None]
    return QualityUsage(
        seconds=round(seconds, 3),
        prompt_tokens=sum(prompts) if prompts else None,
        output_tokens=sum(outputs) if outputs else None,
        thoughtful=sum(i.thoughts > 0 for i in items),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
