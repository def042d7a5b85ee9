"""A lease that is not refreshed is no proof that another run has it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyinfra.api import Host, State

from cluster.lease import LOST_SECONDS, Lease, LeaseAnswer
from control import lease

OWN = Lease("ann", "laptop", 1748772000.0, "pyinfra inventory.py deploy.py", "a11")
OTHER = Lease("bob", "desk", 1748772000.0, "pyinfra other.py deploy.py", "b0b")


@pytest.mark.parametrize(
    ("said", "lost", "taken"),
    [
        pytest.param(LeaseAnswer("ours"), "", False, id="ours"),
        pytest.param(None, f"not refreshed within {LOST_SECONDS} s", False, id="silent-head"),
        pytest.param(
            LeaseAnswer("gone"), f"not refreshed within {LOST_SECONDS} s", False, id="rebooted"
        ),
        pytest.param(
            LeaseAnswer("held", 3, OTHER), "taken over by bob@desk", True, id="another-run"
        ),
    ],
)
def test_only_a_lease_that_another_run_has_was_taken(
    monkeypatch: pytest.MonkeyPatch, said: LeaseAnswer | None, lost: str, taken: bool
) -> None:
    state: Any = object.__new__(State)
    head: Any = object.__new__(Host)
    head.name = "spark-1"
    seen = time.clock_gettime(lease.CLOCK) - LOST_SECONDS - 1
    monkeypatch.setitem(lease._held, state, lease.Held(head, "sglang", OWN, seen=seen))
    monkeypatch.setattr(lease, "_said", lambda *_: said)
    why = lease.lost(state)
    assert lost in str(why) if lost else why is None
    assert lease.taken(state) is taken
