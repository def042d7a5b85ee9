"""What the other watchdog sends is hostile until parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cluster.watchdog import messages
from cluster.watchdog.duties import HeadAnswer, RankReport

LIFE = "0f" * 32 + "2026-11-27T15:00:00.123456789Z"
ANSWER = {"generation": 7, "wish": "serve", "age": 1.5}
REPORT = {"rank": 1, "generation": 7, "life": LIFE, "on_duty": True}


def test_what_is_sent_can_be_read() -> None:
    for answer in (HeadAnswer(7, "hold", 0.0), HeadAnswer(2**53, "serve", 1e12)):
        parsed = messages.parse_answer(messages.dump_answer(answer))
        assert parsed and (parsed.generation, parsed.wish) == (answer.generation, answer.wish)
    for report in (RankReport(7, LIFE, True), RankReport(0, "", False)):
        data = messages.dump_report(3, report)
        assert len(data) <= messages.MOST
        assert messages.parse_report(data, 4) == (3, report)


@pytest.mark.parametrize(
    "change",
    [
        {"generation": -1},
        {"generation": True},
        {"generation": 2**53 + 1},
        {"generation": 1.0},
        {"wish": "stop"},
        {"wish": ["serve"]},
        {"age": -0.1},
        {"age": float("nan")},
        {"age": float("inf")},
        {"age": "1"},
        {"age": True},
        {"more": 1},
    ],
)
def test_an_answer_out_of_bounds_is_none(change: dict[str, Any]) -> None:
    assert messages.parse_answer(json.dumps(ANSWER).encode())
    assert messages.parse_answer(json.dumps({**ANSWER, **change}).encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0},
        {"rank": 2},
        {"rank": "1"},
        {"generation": None},
        {"generation": -1},
        {"life": None},
        {"life": "a b"},
        {"life": "a" * 129},
        {"life": "\x1b[2J"},
        {"on_duty": 1},
    ],
)
def test_a_report_out_of_bounds_is_none(change: dict[str, Any]) -> None:
    assert messages.parse_report(json.dumps(REPORT).encode(), 2)
    assert messages.parse_report(json.dumps({**REPORT, **change}).encode(), 2) is None


@given(
    st.binary(max_size=600) | st.sampled_from([b"[" * 512, b'{"a":' * 100, b"\xff\xfe", b"1e999"])
)
def test_any_bytes_are_a_message_or_none(data: bytes) -> None:
    assert messages.parse_answer(data) is None
    assert messages.parse_report(data, 2) is None
