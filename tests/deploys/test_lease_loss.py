"""A lease that is not refreshed is no proof that another run has it."""

from __future__ import annotations

from typing import Any

import pytest
from fake_host import FakeHost, framed
from pyinfra.api import Config, Inventory, State

from cluster.lease import LOST_SECONDS, Lease
from control import lease

OWN = Lease("ann", "laptop", 1748772000.0, "pyinfra inventory.py deploy.py", "a11")
OTHER = Lease("bob", "desk", 1748772000.0, "pyinfra other.py deploy.py", "b0b")


@pytest.mark.parametrize(
    ("answer", "lost", "taken"),
    [
        pytest.param(["ours 0"], "", False, id="ours"),
        pytest.param(None, f"not refreshed within {LOST_SECONDS} s", False, id="silent-head"),
        pytest.param(["gone"], f"not refreshed within {LOST_SECONDS} s", False, id="rebooted"),
        pytest.param(["held 3", OTHER.dump()], "taken over by bob@desk", True, id="another-run"),
    ],
)
def test_only_a_lease_that_another_run_has_was_taken(
    monkeypatch: pytest.MonkeyPatch, answer: list[str] | None, lost: str, taken: bool
) -> None:
    """`answer`: the head's to every refresh after the first; None: it does not answer."""
    now = [1000.0]
    monkeypatch.setattr("time.clock_gettime", lambda clock: now[0])
    # It asks pyinfra's CLI for the command, whose import replaces the threads of this process.
    monkeypatch.setattr(lease, "own_lease", lambda: OWN)
    replies = [["taken"]]

    def reply(script: str, stdin: str) -> list[str]:
        if replies:
            return framed(*replies.pop())
        if answer is None:
            raise OSError("no route to host")
        return framed(*answer)

    state = State()
    state.init(Inventory(([], {})), Config())
    head: Any = FakeHost("spark-1", reply)
    lease.hold(state, head, "sglang")
    assert lease.lost(state) is None
    now[0] += LOST_SECONDS + 1
    why = lease.lost(state)
    assert lost in str(why) if lost else why is None
    assert lease.taken(state) is taken
