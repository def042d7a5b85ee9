"""Which request is sent when: slots, times, conversations, and the end of a load."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from spark_bench.client.schedule import SECOND, Schedule, Turn
from spark_bench.record import Job, Load, Prompt, SlotStep, Timing

START = 10**15
PROMPT = Prompt((), None, 1)


def load(
    timings: Sequence[Timing], steps: Sequence[SlotStep] = (), duration: float | None = None
) -> Load:
    jobs = [Job(index, b"", timing, PROMPT) for index, timing in enumerate(timings)]
    return Load(jobs, tuple(steps), duration=duration)


@dataclass
class Played:
    """What a schedule did with a server that takes `takes` seconds for each request.

    taken: each turn with the time at which it was taken, in seconds after the start
    """

    taken: list[tuple[float, Turn]] = field(default_factory=list)
    ended: dict[int, float] = field(default_factory=dict)
    most: int = 0
    finished: float = 0.0

    @property
    def order(self) -> list[int]:
        return [turn.index for _, turn in self.taken]

    @property
    def sent(self) -> dict[int, float]:
        return {turn.index: at for at, turn in self.taken}

    @property
    def scheduled(self) -> dict[int, float]:
        return {turn.index: seconds(turn.scheduled_ns) for _, turn in self.taken}

    @property
    def possible(self) -> dict[int, float]:
        return {turn.index: seconds(turn.possible_ns) for _, turn in self.taken}


def seconds(ns: int) -> float:
    return round((ns - START) / SECOND, 9)


def play(load: Load, takes: Sequence[float]) -> Played:
    """Run a load on a clock that jumps to whatever happens next."""
    schedule, played = Schedule(load, START), Played()
    now, running = START, list[tuple[int, int]]()
    last = None if load.duration is None else START + round(load.duration * SECOND)
    for _ in range(10 * len(load.jobs) + 2 * len(load.steps) + 10):
        while running and running[0][0] <= now:
            at, index = heapq.heappop(running)
            played.ended[index] = seconds(at)
            schedule.ended(index, at)
        while turn := schedule.take(now):
            played.taken.append((seconds(now), turn))
            took = round(takes[turn.index % len(takes)] * SECOND)
            heapq.heappush(running, (now + took, turn.index))
        played.most = max(played.most, schedule.in_flight)
        if schedule.finished(now):
            played.finished = seconds(now)
            return played
        due = schedule.next_ns(now)
        assert due is None or due > now, "nothing to wait for, and yet nothing to send"
        # The recorder looks at its clock now and then, so it doesn't miss a duration's end.
        upcoming = [at for at, _ in running[:1]] + [t for t in (due, last) if t and t > now]
        now = min(upcoming)
    raise AssertionError("the load does not end")


AT_ONCE = Timing()


def test_a_closed_loop_refills_each_slot() -> None:
    played = play(load([AT_ONCE] * 5, [SlotStep(0, 2)]), [1.0, 0.4])
    assert played.sent == {0: 0, 1: 0, 2: 0.4, 3: 1.0, 4: 1.4}
    assert played.scheduled == played.possible == played.sent
    assert played.most == 2


def test_steps_open_slots_over_time() -> None:
    played = play(load([AT_ONCE] * 4, [SlotStep(0, 1), SlotStep(2, 2), SlotStep(3, 4)]), [10.0])
    assert played.sent == {0: 0, 1: 2, 2: 3, 3: 3}
    assert played.scheduled == played.sent


def test_without_slot_steps_there_is_no_limit() -> None:
    assert play(load([AT_ONCE] * 50), [1.0]).most == 50


def test_an_open_loop_keeps_to_its_times() -> None:
    played = play(load([Timing(0.5), Timing(0.1), Timing(0.3)]), [9.0])
    assert played.order == [1, 2, 0]
    assert played.scheduled == played.sent == {0: 0.5, 1: 0.1, 2: 0.3}


def test_a_wait_for_a_slot_is_not_omitted() -> None:
    """Coordinated omission: a request delayed for lack of a slot still counts from its scheduled
    time."""
    played = play(load([Timing(0.1 * (i + 1)) for i in range(3)], [SlotStep(0, 1)]), [1.0])
    assert played.scheduled == {0: 0.1, 1: 0.2, 2: 0.3}
    assert played.sent == played.possible == {0: 0.1, 1: 1.1, 2: 2.1}


def test_a_turn_follows_its_predecessor() -> None:
    turns = [AT_ONCE, Timing(after=0, pause=0.5), Timing(after=1)]
    played = play(load(turns), [1.0])
    assert played.scheduled == played.sent == {0: 0, 1: 1.5, 2: 2.5}


def test_a_conversation_goes_on_before_another_begins() -> None:
    turns = [AT_ONCE, Timing(after=0), AT_ONCE, Timing(after=2), AT_ONCE, Timing(after=4)]
    played = play(load(turns, [SlotStep(0, 2)]), [1.0])
    assert played.order == [0, 2, 1, 3, 4, 5]
    assert played.scheduled == played.sent, "and none has waited for another's slot"


def test_a_pause_leaves_its_slot_to_others() -> None:
    turns = [AT_ONCE, Timing(after=0, pause=0.5), AT_ONCE, AT_ONCE]
    played = play(load(turns, [SlotStep(0, 1)]), [1.0])
    assert played.order == [0, 2, 1, 3]
    assert played.scheduled[1] == 1.5
    assert played.sent[1] == 2.0


def test_after_the_duration_nothing_is_sent() -> None:
    played = play(load([AT_ONCE] * 9, [SlotStep(0, 1)], duration=2.5), [1.0])
    assert played.order == [0, 1, 2]
    assert played.finished == 3.0


def test_a_duration_ends_a_load_that_waits() -> None:
    played = play(load([AT_ONCE, Timing(100.0)], duration=2.0), [0.5])
    assert played.order == [0]
    assert played.finished == 2.0


def test_an_empty_load_is_finished() -> None:
    assert Schedule(load([]), START).finished(START)


times = st.floats(0, 5).map(lambda at: round(at, 3))


@st.composite
def loads(draw: st.DrawFn) -> Load:
    timings: list[Timing] = []
    for index in range(draw(st.integers(1, 25))):
        # A turn follows one before, which nothing else follows.
        taken = {timing.after for timing in timings}
        free = [earlier for earlier in range(index) if earlier not in taken]
        if free and draw(st.booleans()):
            timings.append(Timing(after=draw(st.sampled_from(free)), pause=draw(times)))
        else:
            timings.append(Timing(at=draw(st.one_of(st.just(0.0), times))))
    ats = sorted(draw(st.lists(times, max_size=4)))
    steps = [SlotStep(0 if not i else at, 1 + i) for i, at in enumerate(ats)]
    return load(timings, steps, draw(st.one_of(st.none(), times)))


@given(loads(), st.lists(times, min_size=1, max_size=5))
def test_any_load_is_scheduled_correctly(load: Load, takes: list[float]) -> None:
    played = play(load, takes)
    assert len(played.order) == len(set(played.order)), "each once"
    if load.duration is None:
        assert len(played.order) == len(load.jobs)
    else:
        assert all(at < load.duration for at in played.sent.values())
    if load.steps:
        assert played.most <= load.steps[-1].slots
    for index, sent in played.sent.items():
        timing = load.jobs[index].timing
        assert sent == played.possible[index], "nothing waits that could be sent"
        assert played.scheduled[index] <= sent
        if timing.after is not None:
            assert played.scheduled[index] == pytest.approx(
                played.ended[timing.after] + timing.pause
            )
        elif timing.at:
            assert played.scheduled[index] == timing.at


@given(st.integers(1, 8), st.integers(1, 40), st.lists(times, min_size=1, max_size=5))
def test_a_closed_loop_is_always_full(slots: int, count: int, takes: list[float]) -> None:
    played = play(load([AT_ONCE] * count, [SlotStep(0, slots)]), takes)
    assert played.most == min(slots, count)
    assert played.order == list(range(count))
    assert played.scheduled == played.sent
    assert all(a <= b for (a, _), (b, _) in pairwise(played.taken))
