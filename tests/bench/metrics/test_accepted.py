"""Accepted lengths from the tokens of events: right where they can be known, else not claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from made_requests import answer
from spark_bench.metrics.accepted import Accepted, accepted_lengths, merge_accepted, token_growth
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

STEP = 30.0


def drawn(
    seed: int,
    lengths: Callable[[np.random.Generator, int], Sequence[int]],
    *,
    gap: Callable[[int], float] = lambda _: STEP,
    answers: int = 12,
    events: int = 40,
    **fields: object,
) -> list[Request]:
    """Answers whose events have the drawn numbers of tokens; gap: ms before an event of so many."""
    random = np.random.default_rng(seed)
    requests = []
    for index in range(answers):
        counts = [1, *map(int, lengths(random, events))]
        gaps = [gap(tokens) * float(random.normal(1, 0.03)) for tokens in counts[1:]]
        requests.append(answer(index, gaps=gaps, counts=counts, **fields))
    return requests


def one_to_four(random: np.random.Generator, events: int) -> list[int]:
    return [int(n) for n in random.integers(1, 5, events)]


def lengths_of(requests: list[Request], **stated: object) -> Accepted:
    stated = {"speculates": True} | stated
    accepted = accepted_lengths(TimedRequests(requests), **stated)  # type: ignore[arg-type]
    assert accepted
    return accepted


def inner(requests: list[Request]) -> list[int]:
    """The tokens of all events but the first and the last of each answer."""
    return [int(n) for request in requests for n in request.token_counts[1:-1]]


@pytest.mark.parametrize("seed", range(100))
def test_an_events_tokens_are_its_steps(seed: int) -> None:
    requests = drawn(seed, one_to_four)
    accepted, truth = lengths_of(requests), inner(requests)
    assert (accepted.unclear, accepted.source, accepted.left_out) == ("", "usage", 0)
    assert accepted.mean == pytest.approx(np.mean(truth))
    assert accepted.std == pytest.approx(np.std(truth))
    assert list(accepted.steps) == [truth.count(n) for n in (1, 2, 3, 4)]
    assert sum(part.steps for part in accepted.course) == len(truth)
    assert 1 <= accepted.low <= accepted.mean <= accepted.high <= 4


@pytest.mark.parametrize("seed", range(20))
def test_the_course_shows_where_drafts_get_worse(seed: int) -> None:
    requests = drawn(seed, lambda _, events: [4] * (events // 2) + [1] * (events // 2))
    course = lengths_of(requests).course
    assert [part.start for part in course] == [13 * n for n in range(8)]
    assert [part.mean for part in course[:6]] == [4.0] * 6
    assert course[-1].mean == 1.0 and course[6].mean < 4


@pytest.mark.parametrize("seed", range(20))
def test_an_event_of_two_steps_is_left_out(seed: int) -> None:
    """Some events hold two steps, and came after twice the time: single steps stay as they were."""
    requests = drawn(seed, lambda r, n: [8 if r.random() < 0.1 else 2 for _ in range(n)], gap=two)
    accepted = lengths_of(requests, engine=2.0)
    assert (accepted.unclear, accepted.mean) == ("", 2.0)
    assert accepted.left_out == inner(requests).count(8)


def two(tokens: int) -> float:
    return 2 * STEP if tokens == 8 else STEP


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("speculates", [True, None], ids=["setting", "no setting"])
def test_events_of_several_steps_are_no_accepted_lengths(
    seed: int, speculates: bool | None
) -> None:
    """A stream interval or a late sender: twice the tokens after twice the time."""
    requests = drawn(seed, one_to_four, gap=lambda tokens: STEP * tokens)
    accepted = accepted_lengths(TimedRequests(requests), speculates=speculates)
    assert accepted and "longer gaps" in accepted.unclear


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ({"speculates": None}, "nothing says that the engine speculates"),
        ({"interval": 4}, "the engine sends 4 steps together (stream_interval)"),
        ({"engine": 1.2}, "the engine's own mean is 1.20, so events hold several steps"),
        ({"engine": 4.4}, "the engine's own mean is 4.40, so events hold parts of steps"),
    ],
)
def test_what_cannot_be_known_is_not_claimed(stated: dict[str, object], why: str) -> None:
    assert lengths_of(drawn(1, one_to_four), **stated).unclear.startswith(why)


@pytest.mark.parametrize("engine", [None, 2.4, 2.6])
def test_the_engines_own_figure_is_beside_ours(engine: float | None) -> None:
    accepted = lengths_of(drawn(1, one_to_four), engine=engine, speculates=None if engine else True)
    assert (accepted.unclear, accepted.engine) == ("", engine)


def test_tokens_spread_evenly_say_nothing() -> None:
    even = lengths_of(drawn(1, one_to_four, counted_by="even"), engine=2.5)
    assert (even.unclear[:9], even.steps, even.engine) == ("no answer", (), 2.5)
    half = drawn(1, one_to_four) + drawn(2, one_to_four, counted_by="even")
    assert lengths_of(half).unclear.startswith("the events' tokens are counted in 50% of")


def test_a_plain_engine_has_no_accepted_lengths() -> None:
    ones = drawn(1, lambda _, events: [1] * events, counted_by="chunk")
    assert accepted_lengths(TimedRequests(ones)) is None
    assert accepted_lengths(TimedRequests(drawn(1, one_to_four)), speculates=False) is None
    assert accepted_lengths(TimedRequests([])) is None
    # One that drafts in vain has them: all are 1.
    assert (lengths_of(ones).mean, lengths_of(ones).unclear) == (1.0, "")


def test_an_absurd_count_takes_no_memory() -> None:
    requests = drawn(1, lambda _, events: [2] * (events - 2) + [2**31 - 1, 2])
    accepted = lengths_of(requests)
    assert (accepted.mean, accepted.left_out, len(accepted.steps)) == (2.0, 12, 2)


def test_growth_is_that_of_time_with_tokens() -> None:
    tokens = np.array([1, 2] * 50)
    assert token_growth(tokens, np.array([1.0, 2.0] * 50)) == pytest.approx(1.0)
    assert token_growth(tokens, np.array([1.0, 1.0] * 50)) == pytest.approx(0.0)
    assert token_growth(np.array([2] * 100), np.ones(100)) is None
    assert token_growth(np.array([], np.int64), np.array([])) is None


@pytest.mark.parametrize("seed", range(20))
def test_repeats_together_are_all_their_steps(seed: int) -> None:
    first, second = drawn(seed, one_to_four), drawn(seed + 100, one_to_four, answers=5)
    merged = merge_accepted([lengths_of(first, engine=2.4), lengths_of(second, engine=2.6)])
    truth = inner(first) + inner(second)
    assert merged.mean == pytest.approx(np.mean(truth))
    assert merged.std == pytest.approx(np.std(truth))
    assert merged.engine == pytest.approx(2.5)
    assert sum(merged.steps) == len(truth) == sum(part.steps for part in merged.course)
