"""What counts as serving."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from engine_replies import MODEL, NODES, body
from hypothesis import given, settings as profile, strategies as st

from cluster.engine import serving
from cluster.engine.serving import EndpointReply


def models(*ids: str) -> EndpointReply:
    return EndpointReply(200, json.dumps({"data": [{"id": i} for i in ids]}), 0.01)


GOOD = serving.GroupAnswers(
    health=(EndpointReply(200, seconds=0.2), EndpointReply(200, seconds=0.1)),
    models=models(MODEL),
    completion=EndpointReply(200, body(content="Paris."), 0.5),
)


def problems_with(**changed: Any) -> list[str]:
    return [str(f) for f in serving.serving_problems(replace(GOOD, **changed), NODES, MODEL)]


def health(*statuses: int) -> tuple[EndpointReply, ...]:
    return tuple(EndpointReply(status) for status in statuses)


PROBLEMS: list[Any] = [
    pytest.param({}, [], id="good"),
    pytest.param(
        {"health": health(503, 200)}, ["spark-1: /health of rank 0 answers 503"], id="head-503"
    ),
    pytest.param(
        {"health": health(200, 0)}, ["spark-2: /health of rank 1 does not answer"], id="worker-mute"
    ),
    pytest.param(
        {"health": health(0, 503)},
        [
            "spark-1: /health of rank 0 does not answer",
            "spark-2: /health of rank 1 answers 503",
        ],
        id="both",
    ),
    pytest.param({"models": EndpointReply(0)}, ["spark-1: /v1/models answers 0"], id="no-models"),
    pytest.param(
        {"models": EndpointReply(404, "x")}, ["spark-1: /v1/models answers 404"], id="models-404"
    ),
    pytest.param(
        {"models": models()}, [f"spark-1: serves no model, expected {MODEL}"], id="no-model"
    ),
    pytest.param(
        {"models": models("a/b", "c/d")},
        [f"spark-1: serves a/b, c/d, expected {MODEL}"],
        id="others",
    ),
    pytest.param(
        {"models": EndpointReply(200, "<html>")},
        [f"spark-1: serves no model, expected {MODEL}"],
        id="not-json",
    ),
    pytest.param(
        {"completion": EndpointReply(400, '{"error": "no chat template"}')},
        ['spark-1: a completion is answered 400: {"error": "no chat template"}'],
        id="completion-400",
    ),
    pytest.param(
        {"completion": EndpointReply(0)},
        ["spark-1: a completion is answered 0: "],
        id="completion-mute",
    ),
    pytest.param(
        {"completion": EndpointReply(200, '{"choices": [], "usage": {"completion_tokens": 0}}')},
        [
            "spark-1: a completion returned no token: "
            '{"choices": [], "usage": {"completion_tokens": 0}}'
        ],
        id="completion-empty",
    ),
    pytest.param(
        {"completion": EndpointReply(200, "{}")},
        ["spark-1: a completion returned no token: {}"],
        id="completion-without-usage",
    ),
]


@pytest.mark.parametrize(("changed", "problems"), PROBLEMS)
def test_problems(changed: dict[str, Any], problems: list[str]) -> None:
    assert problems_with(**changed) == problems


def test_the_old_servers_health_does_not_pass_for_the_new_model() -> None:
    """Everything answers 200, and the reply even echoes the wanted name: as SGLang does."""
    assert problems_with(models=models("meta-llama/Llama-3.1-8B-Instruct")) == [
        f"spark-1: serves meta-llama/Llama-3.1-8B-Instruct, expected {MODEL}"
    ]


def test_an_endless_answer_is_cut() -> None:
    (finding,) = problems_with(completion=EndpointReply(500, "x" * 10_000))
    assert len(finding) < 300


TEXTS: list[Any] = [
    pytest.param({"content": "Paris."}, "Paris.", id="content"),
    pytest.param({"content": None, "reasoning_content": "We"}, "We", id="reasoning-0.5.3"),
    pytest.param({"content": "", "reasoning": "We"}, "We", id="reasoning"),
    pytest.param({"content": "A", "reasoning_content": "B"}, "A", id="content-first"),
    pytest.param({}, "", id="empty"),
]


@pytest.mark.parametrize(("message", "text"), TEXTS)
def test_text(message: dict[str, Any], text: str) -> None:
    assert serving.completion_text(EndpointReply(200, body(**message))) == text


def test_text_of_a_plain_completion() -> None:
    assert (
        serving.completion_text(EndpointReply(200, '{"choices": [{"text": " Paris"}]}')) == " Paris"
    )


def test_seconds_measure_the_engine_only() -> None:
    assert GOOD.seconds == pytest.approx(0.71)
    slow = replace(GOOD, health=(EndpointReply(200, seconds=3.0), EndpointReply(200)))
    assert slow.seconds == pytest.approx(3.51)


@pytest.mark.parametrize("ask", [serving.question, serving.plain_question])
def test_questions_are_small_and_certain(ask: Any) -> None:
    document = json.loads(ask('it\'s "m"'))
    assert (document["model"], document["max_tokens"], document["temperature"]) == (
        'it\'s "m"',
        16,
        0,
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda x: (
        st.lists(x, max_size=2)
        | st.dictionaries(
            st.sampled_from(["data", "id", "choices", "message", "content", "usage", "text"])
            | st.just("completion_tokens"),
            x,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@profile(max_examples=100)
@given(JSON, JSON)
def test_any_answer_on_the_port_is_judged(one: Any, two: Any) -> None:
    served = replace(
        GOOD,
        models=EndpointReply(200, json.dumps(one)),
        completion=EndpointReply(200, json.dumps(two)),
    )
    assert serving.serving_problems(served, NODES, MODEL)
    assert isinstance(serving.completion_text(served.completion), str)
