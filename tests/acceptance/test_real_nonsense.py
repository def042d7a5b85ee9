"""Real SGLang answers fast and without an error, and what it says is nonsense: it is not accepted.

Every other test here serves random weights with probes=off.
"""

from __future__ import annotations

import re

import pytest
from conftest import MODEL, START_SECONDS
from deploying import HEAD, WORKER, Deploy, lives, serves, states
from sparks import Cluster

# What a change of settings restarts the group with.
CHANGED = {"context_length": 512, "timeout": 2 * START_SECONDS}
UNPROVEN = "probes = 'off': the group counts as ready if it answers, however wrong its answers are"
# What random weights can't know: a sum, and that English is likelier than any other text. Each of
# the 2,048 tokens has the same probability to them, e^-7.62.
WRONG = (r"the probe '?arithmetic", r"the probe '?logprobs.* -7\.6")
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3 * START_SECONDS)]


def test_random_weights_are_refused_as_nonsense(serving: Cluster, deploy: Deploy) -> None:
    before = [id for id, _start in lives(serving)]
    output = deploy.fails(probes="auto", **CHANGED)
    for wrong in WRONG:
        assert re.search(wrong, output), output
    assert f"{MODEL} serves again, as before this run" in output, output
    assert states(serving) == {
        HEAD: "running",
        WORKER: "running",
        f"{HEAD}.failed": "exited",
        f"{WORKER}.failed": "exited",
    }
    assert serves(serving, MODEL)
    assert UNPROVEN in deploy.succeeds()
    assert [id for id, _start in lives(serving)] == before


def test_verify_finds_it_in_what_serves(serving: Cluster, deploy: Deploy) -> None:
    before = lives(serving)
    output = deploy.fails(program="deploys/verify.py", probes="auto")
    for wrong in WRONG:
        assert re.search(wrong, output), output
    assert lives(serving) == before
