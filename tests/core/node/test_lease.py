"""A lease as data: how it is described, and that it holds nothing secret."""

from __future__ import annotations

import pytest

from cluster.lease import (
    Lease,
    LeaseAnswer,
    held_by_other,
    lease_lost,
    parse_lease,
    parse_lease_answer,
    redacted_command,
)

ANN = Lease("ann", "laptop", 1748772000.0, "pyinfra inventories/spark.py deploy.py", "ab12")


def test_a_lease_survives_its_file() -> None:
    assert parse_lease(ANN.dump()) == ANN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="half"),
        pytest.param('{"owner": "ann"}', id="fields-missing"),
        pytest.param(ANN.dump().replace("1748772000.0", '"now"'), id="wrong-type"),
    ],
)
def test_text_that_is_not_a_lease_parses_as_none(text: str) -> None:
    assert parse_lease(text) is None


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        pytest.param(["taken"], LeaseAnswer("taken"), id="taken"),
        pytest.param(["held 7", ANN.dump()], LeaseAnswer("held", 7, ANN), id="held"),
        pytest.param(
            ["stale 99", "rubbish"], LeaseAnswer("stale", 99, None), id="stale-unreadable"
        ),
        pytest.param([], None, id="nothing"),
        pytest.param(["Welcome to spark-1"], None, id="no-answer-of-ours"),
    ],
)
def test_a_lease_answer_parses_or_is_none(out: list[str], expected: LeaseAnswer | None) -> None:
    assert parse_lease_answer(out) == expected


def test_a_refusal_names_owner_host_time_command_and_its_end() -> None:
    assert str(held_by_other("sglang", LeaseAnswer("held", 17, ANN), "spark-1")) == (
        "spark-1: another run holds the lease on the group sglang: ann@laptop, "
        "since 2025-06-01 10:00:00 UTC: "
        "pyinfra inventories/spark.py deploy.py "
        "-> wait until it ends; if it is dead, its lease expires in 43 s"
    )


def test_an_unreadable_lease_holder_still_refuses_the_run() -> None:
    assert "an unidentified run" in str(held_by_other("g", LeaseAnswer("held", 3), "spark-1"))


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        pytest.param(ANN, "taken over by ann@laptop, since 2025", id="taken-over"),
        pytest.param(None, "not refreshed within 50 s", id="head-gone"),
    ],
)
def test_a_lost_lease_says_why(holder: Lease | None, why: str) -> None:
    assert why in str(lease_lost("sglang", holder, "spark-1"))


def test_no_text_in_it_controls_a_terminal() -> None:
    evil = Lease("ann\x1b[2J", "lap\ntop", 0.0, "pyinfra\r\u202e", "x")
    assert str(evil).isprintable()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("model", "qwen72b", "model=qwen72b", id="setting"),
        pytest.param("hf_tokn", "hf_secret", "hf_tokn=***", id="unknown-key"),
        pytest.param("env", '{"KEY": "secret"}', "env=***", id="environment"),
        pytest.param("extra_args", '["--api-key=secret"]', "extra_args=***", id="arguments"),
        pytest.param("api_key_file", "sk-secret", "api_key_file=***", id="key-for-its-file"),
        pytest.param("hf_endpoint", "https://me:secret@hub", "hf_endpoint=***", id="url-password"),
        pytest.param("image", "a/b@sha256:12", "image=a/b@sha256:12", id="digest"),
    ],
)
def test_a_command_shows_settings_and_no_secret(name: str, value: str, expected: str) -> None:
    line = redacted_command(["pyinfra", "spark.py", "deploy.py"], {name: value})
    assert line == f"pyinfra spark.py deploy.py --data {expected}"
