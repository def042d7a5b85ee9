"""Single decisions of the head's and a worker's watchdog, and the memory floor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from cluster.watchdog.duties import (
    NOTHING,
    FallenState,
    FloorState,
    HeadAnswer,
    HeadState,
    HeadView,
    OwnRank,
    Proof,
    RankAction,
    RankReport,
    WatchLimits,
    WorkerState,
    WorkerView,
    decide_floor,
    decide_head,
    decide_start,
    decide_worker,
    note_not_ended,
)

LIMITS = WatchLimits()
OWN = OwnRank("a", 1000.0)
FAILS, SERVES = Proof("a", "rank 1 /health: no answer"), Proof("a")
WORKERS = {1: RankReport(5, "w", True)}


def look(
    state: HeadState, now: float, proof: Proof | None = None, **view: object
) -> tuple[HeadState, RankAction]:
    values: dict[str, object] = {"rank": OWN, "workers": WORKERS, "proof": proof, **view}
    return decide_head(state, HeadView(**values), now, LIMITS)  # type: ignore[arg-type]


@pytest.fixture
def serving() -> HeadState:
    """A head that has looked twice, and that finds its group serving, at 100 s."""
    state, _ = look(HeadState(5, 0.0), 80.0)
    state, _ = look(state, 100.0, SERVES)
    assert state.duty == "serving"
    return state


def fail(
    state: HeadState, begin: float, end: float, **view: object
) -> tuple[HeadState, RankAction]:
    """Failing proofs every 10 s, up to the first action."""
    action, now = NOTHING, begin
    while now <= end and action == NOTHING:
        state, action = look(state, now, FAILS, **view)
        now += 10
    return state, action


def test_a_group_that_fails_long_enough_is_restarted_workers_first(serving: HeadState) -> None:
    state, action = fail(serving, 110, 190)
    assert (state.duty, action) == ("failing", NOTHING)
    state, action = look(state, 200.0, FAILS)
    why = "failing for 90 s: rank 1 /health: no answer"
    assert action == RankAction("restart", why, "group-restart")
    assert state.answer(200.0, LIMITS, held=False) == HeadAnswer(6, "restart", 0)
    state, action = look(state, 205.0, workers={1: RankReport(6, "w2", True)})
    assert action == RankAction("end", why)


def test_a_worker_that_does_not_confirm_is_not_waited_for_for_ever(serving: HeadState) -> None:
    state, _ = fail(serving, 110, 200)
    state, action = look(state, 200.0 + LIMITS.confirm - 1)
    assert action == NOTHING
    state, action = look(state, 200.0 + LIMITS.confirm)
    assert action.kind == "end"


@pytest.mark.parametrize(
    ("view", "duty"),
    [
        ({"held": True}, "held"),
        ({"rank": None}, "off"),
        ({"rank": replace(OWN, running=False)}, "off"),
        ({"rank": replace(OWN, armed=False)}, "off"),
        ({"workers": {1: RankReport(5, "", False)}}, "off"),
        ({"address": False}, "no address"),
    ],
)
def test_it_never_acts_where_it_must_not(
    serving: HeadState, view: Mapping[str, object], duty: str
) -> None:
    state, action = fail(serving, 110, 3000, **view)
    assert (state.duty, action) == (duty, NOTHING)
    assert state.answer(3000.0, LIMITS, held=False).wish == "hold"
    assert state.generation == serving.generation


def test_a_docker_that_does_not_answer_now_and_then_does_not_delay_a_restart(
    serving: HeadState,
) -> None:
    state, action, now = serving, NOTHING, 110
    while action == NOTHING and now < 300:
        if now % 20:
            state, action = look(state, float(now), FAILS)
        else:
            state, _ = look(state, float(now), rank=None, trouble="Docker: timeout")
            assert state.duty in ("serving", "failing")
        now += 10
    assert (action.kind, now) == ("restart", 220)


def test_a_docker_that_does_not_answer_for_long_is_why_nobody_acts(serving: HeadState) -> None:
    state = serving
    for now in range(110, 400, 5):
        state, action = look(state, float(now), rank=None, trouble="Docker: timeout")
        late = now - 100 >= LIMITS.confirm
        assert (action, state.duty) == (NOTHING, "off" if late else "serving")
        assert state.answer(float(now), LIMITS, held=False).wish == ("hold" if late else "serve")
    assert state.why == "Docker: timeout"
    held, _ = look(serving, 105.0, rank=None, trouble="Docker: timeout", held=True)
    assert held.duty == "held"


def test_a_fabric_address_that_does_not_come_is_reported_after_its_deadline(
    serving: HeadState,
) -> None:
    why = "the fabric address has not been on this node"
    for now, late in ((110, ""), (400, ""), (410, " for more than 300 s"), (900, " for more than")):
        serving, _ = look(serving, float(now), address=False)
        assert serving.why.startswith(why + late) and (late or serving.why == why)
    serving, _ = look(serving, 910.0)
    serving, _ = look(serving, 920.0, address=False)
    assert (serving.duty, serving.why) == ("no address", why)


def test_a_lease_taken_since_the_last_look_is_passed_on(serving: HeadState) -> None:
    assert serving.answer(101.0, LIMITS, held=False).wish == "serve"
    assert serving.answer(101.0, LIMITS, held=True).wish == "hold"


def test_a_head_that_has_not_looked_for_long_says_hold(serving: HeadState) -> None:
    assert serving.answer(200.0, LIMITS, held=False).wish == "hold"


@pytest.mark.parametrize("held", [True, False])
def test_a_group_that_has_served_does_not_load_again_after_a_deploy_or_a_new_watchdog(
    serving: HeadState, held: bool
) -> None:
    state, _ = look(serving, 110.0, held=True) if held else (replace(serving, looked=None), None)
    state, action = fail(state, 120, 200)
    assert (state.duty, action) == ("failing", NOTHING)
    _, action = look(state, 210.0, FAILS)
    assert action.kind == "restart"


def test_a_report_of_an_earlier_generation_is_not_who_serves_now(serving: HeadState) -> None:
    state = replace(serving, lives={}, generation=6)
    state, _ = look(state, 110.0, SERVES, workers={1: RankReport(5, "old", True)})
    assert (state.duty, state.lives) == ("serving", {0: state.own})
    state, action = look(state, 115.0, SERVES, workers={1: RankReport(6, "w2", True)})
    assert (action, state.lives) == (NOTHING, {0: state.own, 1: "w2"})


def test_loading_is_left_alone_until_its_limit() -> None:
    state, action = fail(HeadState(5, 0.0), 100, 690)
    assert (state.duty, action) == ("loading", NOTHING)
    state, action = fail(state, 700, 750)
    assert action.kind == "restart" and action.why.startswith("not serving ")


def test_restarts_back_off_and_stop_at_the_limit_of_an_hour() -> None:
    """A rank that serves at once, and fails at once: the worst case."""
    state, ends, own = HeadState(5, 0.0), [], 0
    for now in range(0, 7200, 10):
        rank = OwnRank(f"life{own}", 1000.0)
        proof = Proof(rank.life, "" if now % 200 == 0 else "no answer")
        view = HeadView(rank, proof=proof)
        state, action = decide_head(state, view, float(now), LIMITS)
        if action.kind == "end":
            ends.append(now)
            own += 1
    pauses = [b - a for a, b in pairwise(ends)]
    assert len([at for at in ends if at < ends[0] + 3600]) == LIMITS.restarts
    assert all(pause >= LIMITS.back_off * 2**n for n, pause in enumerate(pauses[:3]))
    assert all(sum(at <= other < at + 3600 for other in ends) <= LIMITS.restarts for at in ends)


def test_a_rank_0_that_does_not_end_is_ended_again_within_the_limit(serving: HeadState) -> None:
    state, _ = fail(serving, 110, 200)
    ends = 0
    for now in range(210, 3600, 10):
        state, action = look(state, float(now))
        ends += action.kind == "end"
    assert ends == LIMITS.restarts
    assert (state.duty, state.why) == ("limit", "rank 0 did not end")


# ---- workers

FOLLOWS = WorkerState("following", generation=5, wish="serve", heard=100.0, looked=100.0)


def follow(state: WorkerState, now: float, **view: object) -> tuple[WorkerState, RankAction]:
    return decide_worker(state, WorkerView(**{"rank": OWN, **view}), now, LIMITS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "rank", "ends"),
    [
        (HeadAnswer(6, "restart", 3.0), OWN, True),
        (HeadAnswer(6, "restart", 3.0), replace(OWN, age=2.0), False),
        (HeadAnswer(6, "restart", 3.0), replace(OWN, life=""), False),
        (HeadAnswer(6, "restart", 3.0), replace(OWN, armed=False), False),
        (HeadAnswer(6, "restart", 3.0), replace(OWN, running=False), False),
        (HeadAnswer(6, "restart", 3.0), None, False),
        (HeadAnswer(6, "serve", 3.0), OWN, False),
        (HeadAnswer(6, "hold", 3.0), OWN, False),
        (HeadAnswer(5, "restart", 3.0), OWN, False),
    ],
)
def test_a_generation_ends_what_is_older(
    answer: HeadAnswer, rank: OwnRank | None, ends: bool
) -> None:
    state, action = follow(FOLLOWS, 105.0, answer=answer, silent=False, rank=rank)
    assert (action.kind == "end") is ends
    assert state.generation == answer.generation
    again = follow(state, 110.0, answer=answer, silent=False, rank=rank)
    assert again[1] == NOTHING


@pytest.mark.parametrize(
    ("seconds", "view"),
    [
        (5, {"answer": HeadAnswer(6, "restart", 3.0), "silent": False}),
        (0, {"silent": True}),
    ],
)
def test_a_rank_that_could_not_be_ended_is_ended_again_within_the_limit(
    seconds: int, view: Mapping[str, object]
) -> None:
    state = FOLLOWS if seconds else replace(FOLLOWS, heard=0.0, misses=LIMITS.misses)
    ends = 0
    for now in range(105, 400, 5):
        after, action = follow(state, float(now), **view)
        ends += action.kind == "end"
        state = note_not_ended(after, state) if action.kind == "end" else after
        assert (state.generation, state.silenced) == (5, False)
    assert (ends, state.duty) == (LIMITS.ends, "limit")


def be_silent(state: WorkerState, until: int, silent: bool | None = True) -> list[float]:
    ends = []
    for now in range(105, until, 5):
        state, action = follow(state, float(now), silent=silent)
        if action.kind == "end":
            ends.append(now - 100.0)
    return ends


def test_a_silent_head_ends_a_rank_once() -> None:
    assert be_silent(FOLLOWS, 5000) == [LIMITS.silent]


def test_a_head_whose_api_answers_is_not_silent() -> None:
    assert be_silent(FOLLOWS, 5000, silent=False) == []


@pytest.mark.parametrize("state", [WorkerState(), replace(FOLLOWS, wish="hold")])
def test_a_worker_that_does_not_know_better_does_nothing(state: WorkerState) -> None:
    assert be_silent(state, 5000) == []


def test_a_worker_that_was_frozen_asks_before_it_acts() -> None:
    state, action = follow(FOLLOWS, 1000.0, silent=True)
    assert action == NOTHING
    state, action = follow(state, 1005.0, answer=HeadAnswer(9, "restart", 400.0), silent=False)
    assert (action, state.generation) == (NOTHING, 9)


def test_a_worker_ends_its_rank_no_more_than_the_limit_an_hour() -> None:
    state, ends = FOLLOWS, 0
    for n in range(600):
        answer = HeadAnswer(6 + n, "restart", 0.0)
        state, action = follow(state, 105.0 + 5 * n, answer=answer, silent=False)
        ends += action.kind == "end"
    assert ends == LIMITS.ends
    assert state.duty == "limit"
    state, action = follow(replace(state, looked=9000.0), 9000.0)
    assert (state.duty, action) == ("following", NOTHING)


# ---- memory


FALLEN = OwnRank("", 0.0, running=False, fallen=True)


def test_a_rank_that_fell_with_its_dockerd_is_started_within_the_limit_of_an_hour() -> None:
    state, starts = FallenState(), []
    for now in range(0, 7200, 5):
        state, action = decide_start(state, FALLEN, float(now), LIMITS, held=now < 20)
        starts += [now] if action.kind == "start" else []
    assert starts == [20, 30, 40, 50, 3620, 3630, 3640, 3650]


@pytest.mark.parametrize(
    "rank",
    [
        None,
        OWN,
        replace(FALLEN, armed=False),
        replace(FALLEN, fallen=False),
        replace(FALLEN, fallen=False, running=True),
    ],
)
def test_no_other_rank_is_started(rank: OwnRank | None) -> None:
    state = FallenState()
    for now in range(0, 60, 5):
        state, action = decide_start(state, rank, float(now), LIMITS, held=False)
        assert action == NOTHING


def test_the_floor_ends_a_rank_and_stops_it_at_the_third_time() -> None:
    state, actions, rank = FloorState(), [], OWN
    for now in range(30):
        missing = -1 if now == 3 else 1_000_000
        # Docker starts it again 2 s after its end.
        if actions and now == actions[-1][0] + 2:
            rank = replace(OWN, life=f"life{now}")
        state, action = decide_floor(state, rank, missing, float(now), LIMITS)
        if action != NOTHING:
            actions.append((now, action.kind))
    assert actions == [(9, "end"), (16, "end"), (23, "stop")]


def test_the_floor_ends_a_life_once() -> None:
    state = FloorState(below=0.0)
    state, action = decide_floor(state, OWN, 1, 5.0, LIMITS)
    assert action.kind == "end"
    for now in range(6, 60):
        state, action = decide_floor(state, OWN, 1, float(now), LIMITS)
        assert action == NOTHING


@pytest.mark.parametrize("rank", [None, replace(OWN, life=""), replace(OWN, running=False)])
def test_the_floor_leaves_a_node_without_a_rank_alone(rank: OwnRank | None) -> None:
    state = FloorState()
    for now in range(60):
        state, action = decide_floor(state, rank, 1_000_000, float(now), LIMITS)
        assert (state.below, action) == (None, NOTHING)


def test_the_floor_acts_on_what_a_deploy_starts_too() -> None:
    state = FloorState(below=0.0)
    rank = replace(OWN, armed=False)
    assert decide_floor(state, rank, 2_500_000, 5.0, LIMITS)[1] == RankAction(
        "end", "MemAvailable was 2 MB below the floor for 5 s", "memory-floor"
    )
