"""Each fault of the breaker is caught in right answers, by the probe that is meant for it."""

from __future__ import annotations

import pytest
from broken_replies import FAULTS, Fault, rewritten
from probe_replies import ALL, BASIC, replies

from cluster.probes.judges import judge

# Fault -> the probes that must find it where all are asked.
CAUGHT = {
    "one token": {"text"},
    "one phrase": {"text"},
    "only !": {"text", "arithmetic", "logprobs"},
    "random tokens": {"arithmetic", "logprobs"},
    "every 2nd token": set(),
    "every 5th token": set(),
    "every 20th token": set(),
    "cut characters": {"script", "text"},
    "wrong encoding": {"script"},
    "end of turn": {"text"},
    "leaked thoughts": {"reasoning"},
    "leaked calls": {"tools"},
    "cut arguments": {"tools"},
    "repeated piece": {"tools"},
    "neighbors": {"concurrency"},
    "two neighbors": {"concurrency"},
    "empty": {"text", "arithmetic"},
    "truncated": {"tools"},
    "broken off": {"arithmetic", "script", "tools", "concurrency"},
    "other language": {"script", "arithmetic"},
    "no draft": {"speculation"},
    "every draft": {"speculation"},
    "another answer": {"arithmetic", "script"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault: Fault) -> None:
    for seed in range(10):
        verdicts = judge(ALL, fault(replies(ALL), seed))
        wrong = {verdict.name for verdict in verdicts if verdict.outcome == "wrong"}
        assert wrong >= CAUGHT[fault.name], [v.why for v in verdicts]


def test_every_fault_has_its_probe() -> None:
    assert [fault.name for fault in FAULTS] == list(CAUGHT)


@pytest.mark.parametrize("abilities", [ALL, BASIC], ids=["full", "basic"])
def test_what_the_breaker_leaves_alone_is_right(abilities: object) -> None:
    same = [rewritten(r, lambda id, fields: None) for r in replies(abilities)]  # type: ignore[arg-type]
    assert not [v for v in judge(abilities, same) if v.outcome == "wrong"]  # type: ignore[arg-type]
