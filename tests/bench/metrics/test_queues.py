"""What streams show of a queue is what happened: on simulated servers, and on a real one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_requests import answer, closed_loop
from simulated_engine import Engine, Load, Observed, simulate
from spark_bench.metrics.queues import Queue, queue
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

RECORDED = json.loads(Path(__file__, "../../../support/recorded_queues.json").resolve().read_text())


def observed(requests: list[Request]) -> Queue:
    seen = queue(TimedRequests(requests))
    assert seen
    return seen


def drawn(seed: int) -> tuple[Engine, Load]:
    rng = random.Random(seed)
    engine = Engine(
        slots=rng.choice([None, 1, 2, 4, 8, 16, 32]),
        prefills=rng.choice(["between", "alone", "pieces", "apart"]),
        prefill_ms=rng.choice([20, 50, 150, 400]),
        step_ms=rng.choice([4, 10, 30]),
        jitter=rng.choice([0.01, 0.1]),
    )
    load = Load(
        requests=rng.choice([40, 150]),
        closed=rng.choice([None, 1, 2, 8, 16, 40]),
        rate=rng.choice([1, 4, 12, 40]),
        tokens=rng.choice([(50, 50), (20, 100), (5, 5), (1, 30)]),
        prompts=rng.choice([(1, 1), (0.3, 3)]),
        delay_ms=rng.choice([0.2, 1.0]),
    )
    return engine, load


def agrees(engine: Engine, load: Load, truth: Observed, seen: Queue) -> list[str]:
    """What of the stated is not so, within one step and what the longest prompts take."""
    slack = 1.2 * engine.step_ms + 0.05 * seen.ttft_ms
    batch = engine.prefill_ms * load.prompts[1] * (engine.prefills in ("between", "alone"))
    wrong = []
    if not seen.wait_low_ms - slack <= truth.waited_ms + batch:
        wrong.append(f"the wait is at least {seen.wait_low_ms:.1f}, it was {truth.waited_ms:.1f}")
    if not truth.waited_ms <= seen.wait_high_ms + slack + batch:
        wrong.append(f"the wait is at most {seen.wait_high_ms:.1f}, it was {truth.waited_ms:.1f}")
    if not truth.queued_ms <= seen.wait_high_ms + seen.behind_ms + slack:
        wrong.append(f"until read {truth.queued_ms:.1f}, behind {seen.behind_ms:.1f}")
    if seen.slots and not (seen.slots_low or 0) <= truth.ran <= (seen.slots_high or 0):
        wrong.append(f"{seen.slots} slots, it ran {truth.ran}")
    if seen.verdict == "queue" and engine.slots is None:
        wrong.append("a queue without a limit")
    return wrong


@pytest.mark.parametrize("seed", range(120))
def test_what_is_reported_of_a_simulated_server_is_true(seed: int) -> None:
    engine, load = drawn(seed)
    truth = simulate(engine, load, seed)
    seen = observed(truth.requests)
    assert not agrees(engine, load, truth, seen), (engine, load, truth.waited_ms, truth.ran, seen)


@pytest.mark.parametrize("prefills", ["between", "alone", "apart"])
@pytest.mark.parametrize("slots", [1, 4, 32])
def test_a_limit_is_found(slots: int, prefills: Any) -> None:
    load = Load(requests=6 * slots + 20, closed=2 * slots + 2, tokens=(40, 160))
    truth = simulate(Engine(slots=slots, prefills=prefills), load)
    seen = observed(truth.requests)
    assert (seen.verdict, seen.slots, seen.emitting) == ("queue", slots, slots)
    assert seen.wait_ms == pytest.approx(truth.waited_ms, rel=0.05)


def test_equal_answers_show_the_limit_at_their_start_however_long_the_run() -> None:
    truth = simulate(Engine(slots=8), Load(requests=2000, closed=16))
    assert (observed(truth.requests).slots, truth.ran) == (8, 8)


@pytest.mark.parametrize("prefills", ["between", "alone", "pieces", "apart"])
def test_where_all_emitted_at_once_nobody_waited(prefills: Any) -> None:
    engine = Engine(prefills=prefills, prefill_ms=10)
    seen = observed(simulate(engine, Load(closed=12, tokens=(200, 300))).requests)
    assert (seen.verdict, seen.emitting, seen.in_flight) == ("none", 12, 12)
    assert (seen.slots, seen.wait_ms, seen.wait_high_ms) == (None, 0, 0)


def test_a_slow_first_token_is_no_queue() -> None:
    """Half a second until each first token, whatever the load: at most 6 of 20 emit at once."""
    engine = Engine(prefills="apart", prefill_ms=500)
    seen = observed(simulate(engine, Load(requests=300, rate=20, tokens=(5, 5))).requests)
    assert seen.emitting < seen.in_flight / 2
    assert (seen.verdict, seen.wait_ms) == ("none", pytest.approx(0, abs=1))


def test_a_server_that_fills_its_slots_only_when_all_are_free_is_not_explained() -> None:
    load = Load(closed=16, tokens=(20, 100))
    seen = observed(simulate(Engine(slots=8, refill=False), load).requests)
    assert (seen.verdict, seen.slots, seen.wait_ms) == ("unknown", None, None)
    assert seen.wait_low_ms == 0


def test_the_order_in_which_requests_are_taken_does_not_matter() -> None:
    """Two slots; the last of those who wait is taken first."""
    requests, free, left = [], [0.0, 0.0], [float(n) for n in range(24)]
    while left:
        at = min(free)
        arrived = [sent for sent in left if sent <= at] or left[:1]
        sent = arrived[-1]
        left.remove(sent)
        begun = max(at, sent)
        lasts = 10.0 * (4 + len(requests) % 5)
        free[free.index(at)] = begun + 30 + lasts
        gaps = [10.0] * round(lasts / 10)
        requests.append(answer(len(requests), sent=sent, ttft=begun + 30 - sent, gaps=gaps))
    seen = observed(requests)
    waits = [float(r.token_ns[0] - r.sent_ns) / 1e6 - 30 for r in requests]
    assert (seen.verdict, seen.slots) == ("queue", 2)
    assert seen.wait_ms == pytest.approx(np.mean(waits))


def test_a_request_that_failed_later_held_its_slot() -> None:
    requests = simulate(Engine(slots=4), Load(closed=8, tokens=(40, 90))).requests
    cut = [replace(r, failure="cut") if r.index % 7 == 3 else r for r in requests]
    assert observed(cut).slots == observed(requests).slots == 4


def test_one_at_a_time_and_no_tokens() -> None:
    assert queue(TimedRequests([])) is None
    seen = observed(closed_loop(slots=1, requests=5))
    assert (seen.verdict, seen.emitting, seen.in_flight, seen.behind_ms) == ("none", 1, 1, 0)


@pytest.mark.parametrize("recorded", RECORDED, ids=[each["load"] for each in RECORDED])
def test_it_agrees_with_the_metrics_of_a_real_sglang(recorded: dict[str, Any]) -> None:
    """SGLang 0.5.11 on one H200: the second repeats of docs/measuring.md, tokens evenly spaced.

    /metrics counts a wait for other prompts as its queue, and not what the API server did.
    """
    requests = [
        answer(
            index,
            sent=sent / 1000,
            ttft=ttft / 1000,
            gaps=[(e2e - ttft) / 1000 / max(tokens - 1, 1)] * (tokens - 1),
            prompt_tokens=prompt,
        )
        for index, (sent, ttft, e2e, tokens, prompt) in enumerate(recorded["requests"])
    ]
    seen = observed(requests)
    assert seen.slots == recorded["slots"]
    assert seen.wait_ms is not None
    slack = 2 * recorded["outside_ms"]
    assert seen.wait_ms - slack <= recorded["queue_ms"] <= seen.wait_ms + seen.behind_ms + slack
    if recorded["slots"]:
        assert (seen.emitting, recorded["running"]) == (8, 8)
