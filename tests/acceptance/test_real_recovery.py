"""Switches that end badly, with real SGLang: a group that it refuses, and a killed controller."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import INSTALLED, MODEL, SHARED, START_SECONDS
from deploying import HEAD, WORKER, Deploy, lives, serves, states
from killing import forget_lease, killed
from sparks import Cluster

WHOLE = {HEAD: "running", WORKER: "running"}
UNSUPPORTED = "unsupported"
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3 * START_SECONDS)]


@pytest.fixture
def unsupported() -> dict[str, object]:
    """The settings of the same model under an architecture that SGLang does not have."""
    folder = INSTALLED / UNSUPPORTED
    shutil.copytree(INSTALLED / "model", folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["NobodysForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    return {"model": f"{SHARED}/{UNSUPPORTED}"}


def test_sglangs_refusal_is_named_and_the_old_group_restored(
    serving: Cluster, deploy: Deploy, unsupported: dict[str, object]
) -> None:
    before = [id for id, _start in lives(serving)]
    output = deploy.fails(timeout=2 * START_SECONDS, **unsupported)
    cause = "does not know the model's architecture, NobodysForCausalLM"
    assert cause in output, output
    assert "another image" in output, output
    assert f"{MODEL} serves again, as before this run" in output, output
    assert states(serving) == {
        **WHOLE,
        f"{HEAD}.failed": "exited",
        f"{WORKER}.failed": "exited",
    }
    assert generates(serving)
    deploy.succeeds()
    assert states(serving) == WHOLE
    assert [id for id, _start in lives(serving)] == before
    deploy.unchanged()


def test_a_context_longer_than_the_models_is_refused_before_a_start(
    serving: Cluster, deploy: Deploy
) -> None:
    before = lives(serving)
    output = deploy.fails(context_length=4096)
    assert "refused, nothing was changed" in output, output
    assert "context_length = 4096 is more than /opt/sglang/model has (2048)" in output, output
    assert lives(serving) == before


def test_a_run_killed_in_the_middle_of_a_switch(serving: Cluster, deploy: Deploy) -> None:
    """Its new head runs: the next run waits for what it began, or begins anew."""
    killed(deploy, 1, f"start {HEAD}", after=True, context_length=512)
    forget_lease(serving)
    assert "is taken over" in deploy.succeeds(context_length=512, timeout=START_SECONDS)
    assert states(serving) == WHOLE
    assert serving.http("/server_info", timeout=30).json["context_length"] == 512
    assert generates(serving)
    assert "hashed" not in deploy.unchanged(context_length=512)


def generates(cluster: Cluster) -> bool:
    """Whether the model is served, and gives tokens."""
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 4, "ignore_eos": True}
    answer = cluster.http("/v1/completions", body, timeout=60)
    return serves(cluster, MODEL) and answer.json["usage"]["completion_tokens"] == 4
