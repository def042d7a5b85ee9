"""Speculative decoding seen from outside: how many tokens each decode step gave.

An engine that speculates verifies several drafted tokens in one step, and sends those that it
accepts in one event. So the tokens of an event are the accepted length of its step: accepted drafts
and the token that the step gives anyway, as SGLang (`sglang:spec_accept_length`) and vLLM count it.

But an event of several tokens may as well hold several steps: an engine's stream interval, a server
process that was late, or a proxy sends them together. Three things tell the two apart. The engine
says whether it speculates. A step takes the same time whatever it accepts, while k steps take k
times as long, so in an event of several steps tokens grow with the time before it. And an engine's
own figure must agree. Where they do not, the figures are those of events, and `unclear` says why.
"""

from collections.abc import Sequence
from math import ceil, log, sqrt

import numpy as np
from msgspec import Struct

from spark_bench.arrays import Bools, Counts, Floats, Ints
from spark_bench.metrics.times import TimedRequests, Times

# Sources of counts (`Request.counted_by`) that tell one event's tokens from another's.
COUNTED = ("usage", "tokenizer", "chunk")
# An event that came after more than this many usual gaps may hold two steps.
ONE_STEP = 1.5
# No engine drafts more tokens for one step.
MOST_TOKENS = 64
# Parts of the course.
PARTS = 8
# Fewer events with few tokens, or with more, than this show no relation to the time before them.
LEAST_EVENTS = 30
# Tokens grow with the time before them if twice the tokens take more than 1.41 times as long.
GROWS = 0.5
# The engine's own figure is a mean over other steps than ours: it agrees within this share.
AGREES = 0.15
# Fewer tokens than this per event of an engine that may not speculate are no sign of anything.
NOTABLE = 1.2


class CoursePart(Struct, frozen=True):
    """A part of the answers: from token `start` on.

    steps: how many began there; mean: tokens of each
    """

    start: int
    steps: int
    mean: float


class Accepted(Struct, frozen=True, kw_only=True):
    """Tokens of each decode step of an engine that speculates, by the tokens of streamed events.

    unclear: why the events' tokens are not known to be those of steps; "": they are
    source: how they were counted: "usage" (by the server, with each event), "tokenizer", "chunk"
        (one each, as the total confirms), or several of these
    mean, std: over steps; the first and the last event of each answer don't count
    low, high: the 10th and the 90th percentile of the answers' means
    steps: how many steps gave 1, 2, 3 ... tokens
    left_out: events that may hold several steps, since they came after more than 1.5 times the
        usual gap, or have more than 64 tokens
    course: over the answer, in parts of equal length
    engine: the mean by the engine's own metrics; null: it has none
    """

    unclear: str
    source: str
    mean: float
    std: float
    low: float
    high: float
    steps: tuple[int, ...]
    left_out: int
    course: tuple[CoursePart, ...]
    engine: float | None


def accepted_lengths(
    timed: TimedRequests,
    *,
    speculates: bool | None = None,
    interval: int = 1,
    engine: float | None = None,
) -> Accepted | None:
    """The accepted lengths of a run; None if there are none to know of.

    speculates: by the engine's settings; None: they are not known
    interval: steps that the engine sends together, by its settings
    engine: the mean accepted length by its own metrics; None: it has none
    """
    drafts = speculates or engine is not None
    answers = [r for r in timed.requests if r.ok and r.token_counts.size > 2]
    counted = [r for r in answers if r.counted_by in COUNTED]
    if speculates is False and engine is None:
        return None
    if not drafts and not any((r.token_counts > 1).any() for r in counted):
        return None
    steps = _Steps(Times.of(counted))
    tokens = steps.tokens[steps.single]
    mean = float(tokens.mean()) if tokens.size else 0.0
    if not drafts and mean < NOTABLE:
        return None
    if not tokens.size:
        why = "no answer has events whose tokens are counted one by one"
        return _without_steps(why, engine) if drafts else None
    by_answer = np.bincount(steps.owner[steps.single], tokens) / np.maximum(
        np.bincount(steps.owner[steps.single]), 1
    )
    low, high = np.percentile(by_answer[by_answer > 0], [10, 90])
    return Accepted(
        unclear=_unclear(
            drafts=bool(drafts),
            counted=len(counted) / len(answers),
            interval=interval,
            growth=token_growth(tokens, steps.usual[steps.single]),
            mean=mean,
            engine=engine,
        ),
        source=", ".join(sorted({r.counted_by for r in counted})),
        mean=mean,
        std=float(tokens.std()),
        low=float(low),
        high=float(high),
        steps=tuple(np.bincount(tokens)[1:].tolist()),
        left_out=int(tokens.size and (~steps.single).sum()),
        course=_course(tokens, steps.before[steps.single]),
        engine=engine,
    )


class _Steps:
    """The events between the first and the last of each answer.

    tokens: of each; before: of the answer before it; owner: its answer
    usual: the gap before it, in usual gaps of its answer
    single: whether it can be one step
    """

    def __init__(self, times: Times) -> None:
        gaps, shortest = times.gaps(), times.gap_bounds()[0].ns
        owner = times.gap_owners()
        last = np.zeros(gaps.ns.size, np.bool_)
        sizes = np.bincount(owner, minlength=len(times))
        last[np.cumsum(sizes)[sizes > 0] - 1] = True
        first = times.token_counts[times.begins][owner]
        inside = np.cumsum(gaps.tokens) - gaps.tokens
        begun = inside[np.cumsum(sizes) - sizes] if inside.size else inside
        middles = _medians(gaps.ns, owner, len(times))[owner]
        self.tokens: Ints = gaps.tokens.astype(np.int64)[~last]
        self.before: Ints = (first + inside - begun[owner]).astype(np.int64)[~last]
        self.owner: Ints = owner.astype(np.int64)[~last]
        self.usual: Floats = (gaps.ns / middles)[~last]
        self.single: Bools = (shortest / middles <= ONE_STEP)[~last]
        self.single &= self.tokens <= MOST_TOKENS


def _medians(ns: Ints, owner: Counts, answers: int) -> Floats:
    """The median gap of each answer, in ns, without those of 0 within one read."""
    apart = ns > 0
    order = np.lexsort((ns[apart], owner[apart]))
    sizes = np.bincount(owner[apart], minlength=answers)
    middle = np.cumsum(sizes) - sizes + sizes // 2
    medians = np.ones(answers)
    medians[sizes > 0] = ns[apart][order][middle[sizes > 0]]
    return medians


def token_growth(tokens: Ints, gaps: Floats) -> float | None:
    """How the time before an event grows with its tokens: 0 not at all, 1 in proportion.

    log of the ratio of the two medians of gaps over log of the ratio of tokens: events with the
    fewest tokens against those with more. None: all have the same, or there are too few.
    """
    fewest = tokens == tokens.min(initial=MOST_TOKENS)
    apart = gaps > 0
    few, more = fewest & apart, ~fewest & apart
    if min(few.sum(), more.sum()) < LEAST_EVENTS:
        return None
    times = float(np.median(gaps[more]) / np.median(gaps[few]))
    return log(times) / log(float(tokens[more].mean() / tokens[few].mean()))


def _unclear(
    *,
    drafts: bool,
    counted: float,
    interval: int,
    growth: float | None,
    mean: float,
    engine: float | None,
) -> str:
    """Why events are not known to be steps; "" if they are.

    counted: the share of answers whose events' tokens are counted
    """
    if counted < 0.9:
        return f"the events' tokens are counted in {counted:.0%} of the answers only"
    if interval > 1:
        return f"the engine sends {interval} steps together (stream_interval)"
    if growth is not None and growth > GROWS:
        return "events with more tokens came after longer gaps, so they hold several steps"
    if engine is not None and abs(mean / engine - 1) > AGREES:
        more = "several steps" if mean > engine else "parts of steps"
        return f"the engine's own mean is {engine:.2f}, so events hold {more}"
    if not drafts:
        return (
            "nothing says that the engine speculates: the server or a proxy may have sent tokens "
            "together"
        )
    return ""


def _course(tokens: Ints, before: Ints) -> tuple[CoursePart, ...]:
    width = ceil((int(before.max()) + 1) / PARTS)
    part = before // width
    steps, sums = np.bincount(part), np.bincount(part, tokens)
    return tuple(
        CoursePart(int(i) * width, int(steps[i]), float(sums[i] / steps[i]))
        for i in np.flatnonzero(steps)
    )


def _without_steps(why: str, engine: float | None) -> Accepted:
    return Accepted(
        unclear=why,
        source="",
        mean=0.0,
        std=0.0,
        low=0.0,
        high=0.0,
        steps=(),
        left_out=0,
        course=(),
        engine=engine,
    )


def merge_accepted(repeats: Sequence[Accepted]) -> Accepted:
    """Several repeats of one load as one: all steps together; `low` and `high` are the furthest."""
    size = max(len(each.steps) for each in repeats)
    steps = np.sum([np.pad(each.steps, (0, size - len(each.steps))) for each in repeats], axis=0)
    number, values = int(steps.sum()), np.arange(1, size + 1)
    mean = float(steps @ values) / number if number else 0.0
    engines = [each.engine for each in repeats if each.engine is not None]
    parts: dict[int, list[CoursePart]] = {}
    for each in repeats:
        for part in each.course:
            parts.setdefault(part.start, []).append(part)
    course = []
    for start, same in sorted(parts.items()):
        total = sum(part.steps for part in same)
        tokens = sum(part.steps * part.mean for part in same)
        course.append(CoursePart(start, total, tokens / total))
    return Accepted(
        unclear=next((each.unclear for each in repeats if each.unclear), ""),
        source=", ".join(dict.fromkeys(each.source for each in repeats if each.source)),
        mean=mean,
        std=sqrt(max(0.0, float(steps @ values**2) / number - mean**2)) if number else 0.0,
        low=min(each.low for each in repeats),
        high=max(each.high for each in repeats),
        steps=tuple(steps.astype(int).tolist()),
        left_out=sum(each.left_out for each in repeats),
        course=tuple(course),
        engine=sum(engines) / len(engines) if engines else None,
    )
