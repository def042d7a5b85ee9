"""Slots of a closed loop, and conversations over them."""

from __future__ import annotations

import math

import pytest
from spark_bench.errors import BadInput
from spark_bench.load import arrivals
from spark_bench.load.slots import steps
from spark_bench.record import Message, Prompt, SlotStep, Timing


def prompt(conversation: int, turn: int) -> Prompt:
    return Prompt((Message("user", "?"),), 1, 1, conversation, turn)


@pytest.mark.parametrize(
    ("concurrency", "ramp", "wanted"),
    [
        pytest.param(None, 0.0, (), id="no limit"),
        pytest.param(8, 0.0, (SlotStep(0.0, 8),), id="at once"),
        pytest.param(1, 9.0, (SlotStep(0.0, 1),), id="one slot"),
        pytest.param(3, 9.0, (SlotStep(0.0, 1), SlotStep(4.5, 2), SlotStep(9.0, 3)), id="ramp"),
    ],
)
def test_steps(concurrency: int | None, ramp: float, wanted: tuple[SlotStep, ...]) -> None:
    assert steps(concurrency, ramp) == wanted


@pytest.mark.parametrize("ramp", [-1.0, math.nan, math.inf])
def test_a_ramp_that_is_refused(ramp: float) -> None:
    with pytest.raises(BadInput, match="number of seconds, 0 or more"):
        steps(4, ramp)


def test_a_ramp_without_slots() -> None:
    with pytest.raises(BadInput, match="give --concurrency as well"):
        steps(None, 5.0)


def test_a_turn_waits_for_the_one_before() -> None:
    prompts = [prompt(0, 0), prompt(0, 1), prompt(0, 2), prompt(1, 0), prompt(1, 1)]
    assert arrivals.conversation_timings(prompts, pause=2.0) == [
        Timing(),
        Timing(after=0, pause=2.0),
        Timing(after=1, pause=2.0),
        Timing(),
        Timing(after=3, pause=2.0),
    ]


def test_first_turns_arrive_when_their_conversation_starts() -> None:
    prompts = [prompt(5, 0), prompt(2, 0), prompt(5, 1), prompt(2, 1)]
    starts = [Timing(at=0.0), Timing(at=1.5)]
    assert arrivals.conversation_timings(prompts, starts=starts) == [
        Timing(at=0.0),
        Timing(at=1.5),
        Timing(after=0),
        Timing(after=1),
    ]


def test_turns_out_of_order() -> None:
    assert arrivals.conversation_timings([prompt(0, 1), prompt(0, 0)]) == [
        Timing(after=1),
        Timing(),
    ]


def test_as_many_starts_as_conversations() -> None:
    with pytest.raises(ValueError, match="longer"):
        arrivals.conversation_timings([prompt(0, 0), prompt(1, 0)], starts=[Timing()])
