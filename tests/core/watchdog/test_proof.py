"""What proves that a group serves, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cluster.watchdog import proof
from cluster.watchdog.proof import EngineLoad, TokenProgress

RECORDED = Path(__file__).parents[2] / "monitoring" / "sglang-0.5.11.txt"
BUSY, IDLE = EngineLoad(2, 100), EngineLoad(0, 100)


def test_the_load_of_a_real_engine() -> None:
    load = proof.parse_load(RECORDED.read_text())
    assert load and load.requests >= 16
    assert load.tokens > 0


def test_numbers_that_are_none_do_not_count() -> None:
    lines = ["sglang:num_running_reqs 2", "sglang:num_queue_reqs nan", "sglang:num_queue_reqs -3"]
    lines += ["sglang:num_queue_reqs x", 'sglang:num_queue_reqs{a="b c"} 1', "sglang:num_running"]
    assert proof.parse_load("\n".join(lines)) == EngineLoad(3, 0)
    assert proof.parse_load("sglang:num_queue_reqs 1") is None


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    proof.parse_load(text)
    assert proof.wrong_models(200, text, "\0never")
    assert proof.wrong_completion(200, text)


def test_tokens_that_stand_still_while_requests_run() -> None:
    progress = proof.note_load(TokenProgress(3, 0.0), BUSY, 10.0)
    assert progress == TokenProgress(100, 10.0, 10.0)
    assert proof.note_load(progress, BUSY, 200.0) == progress
    assert proof.stands_still(progress, BUSY, 309.0) == ""
    assert proof.stands_still(progress, BUSY, 310.0) == "2 requests, and no token for 300 s"
    assert proof.note_load(progress, EngineLoad(2, 5), 400.0) == TokenProgress(5, 400.0, 10.0)


def test_a_request_after_a_long_rest_has_its_time() -> None:
    progress = proof.note_load(TokenProgress(100, 10.0), IDLE, 900.0)
    progress = proof.note_load(progress, BUSY, 910.0)
    assert proof.stands_still(progress, BUSY, 1209.0) == ""
    assert proof.stands_still(progress, BUSY, 1210.0)


@pytest.mark.parametrize(
    ("load", "now", "needed"),
    [(IDLE, 310.0, True), (IDLE, 309.0, False), (BUSY, 900.0, False), (None, 900.0, False)],
)
def test_a_completion_is_requested_of_an_idle_engine_alone(
    load: EngineLoad | None, now: float, needed: bool
) -> None:
    assert proof.needs_completion(TokenProgress(100, 10.0), load, now) is needed


def test_a_rank_that_has_just_started_proves_itself_by_a_completion() -> None:
    progress = proof.note_load(TokenProgress(), IDLE, 10.0)
    assert proof.needs_completion(progress, IDLE, 10.0)
    assert proof.stands_still(proof.note_load(progress, BUSY, 20.0), BUSY, 300.0) == ""


def test_each_rank_must_be_healthy() -> None:
    assert proof.wrong_health({0: 200, 1: 200}) == ""
    assert proof.wrong_health({1: 0, 0: 200}) == "rank 1 /health: no answer"
    assert proof.wrong_health({0: 503, 1: 0}) == ("rank 0 /health: 503, rank 1 /health: no answer")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, json.dumps({"data": [{"id": "m"}]}), ""),
        (200, json.dumps({"data": [{"id": "other"}]}), "/v1/models lacks the model"),
        (200, '{"data": 3}', "/v1/models is no list of models"),
        (200, "[" * 5000, "/v1/models is no list of models"),
        (0, "", "/v1/models: no answer"),
        (401, "", "/v1/models: 401"),
    ],
)
def test_the_model_must_be_listed(status: int, body: str, why: str) -> None:
    assert proof.wrong_models(status, body, "m") == why


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, '{"usage": {"completion_tokens": 1}}', ""),
        (200, '{"usage": {"completion_tokens": 0}}', "a completion without a token"),
        (200, '{"usage": {"completion_tokens": true}}', "a completion without a token"),
        (200, '{"choices": []}', "a completion without its usage"),
        (0, "", "a completion: no answer"),
    ],
)
def test_a_completion_must_have_a_token(status: int, body: str, why: str) -> None:
    assert proof.wrong_completion(status, body) == why
