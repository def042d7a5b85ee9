"""The drift that status shows of @fake Sparks is the plan that a deploy of them makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, container

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
MOVED = "sha256:" + "ef" * 32


def drifted(sparks: Fakes) -> dict[str, Any]:
    return {"mem_fraction": 0.7}


def missing(sparks: Fakes) -> dict[str, Any]:
    sparks.sparks[1].container = None
    return {}


def moved_tag(sparks: Fakes) -> dict[str, Any]:
    """The image on the head is another one, of another SGLang, than its ranks were made of."""
    for spark in sparks.sparks:
        image = {"Id": MOVED, "RepoDigests": [], "Size": 24_831_838_208}
        spark.sections["image"] = (0, ["lmsysorg/sglang:spark", json.dumps(image)])
        spark.answers["metadata as m"] = ["0.5.23"]
    return {}


def interrupted(sparks: Fakes) -> dict[str, Any]:
    """A switch was cut off when it had set the group before aside and created one new rank."""
    old = sparks.specs(mem_fraction=0.5)
    new = sparks.specs()
    for spark in sparks.sparks:
        spec = old[spark.name]
        there = [container(f"{spec.name}.previous", spec.dump(), status="exited", policy="no")]
        if spark.rank == 0:
            name = new[spark.name].name
            there.append(container(name, new[spark.name].dump(), status="created", policy="no"))
        spark.container = None
        spark.sections["ranks"] = (0, [json.dumps(one) for one in there])
    return {}


def stopped(sparks: Fakes) -> dict[str, Any]:
    return {"state": "stopped"}


@pytest.mark.parametrize("change", [drifted, missing, moved_tag, interrupted, stopped])
def test_the_drift_of_status_is_the_plan_of_the_deploy(
    tmp_path: Path, change: Callable[[Fakes], dict[str, Any]]
) -> None:
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    data = [w for n, v in change(sparks).items() for w in ("--data", f"{n}={v}")]
    report = tmp_path / "outcome.json"
    run = sparks.deploy("--dry", "--data", f"report={report}", *data, yes=False)
    assert run.code == 0, run.text
    plan = json.loads(report.read_text())["plan"]
    inventory = f"inventory={sparks.inventory()}"
    status = sparks.pyinfra("@local", "deploys/status.py", "-y", "--data", inventory, *data)
    assert status.code == 0, status.text
    drift = json.loads(status.out)["drift"]
    # A plan's line has the rank's name between the node and the reason.
    reasons = [(line.split()[0], line.split(": ", 1)[1]) for line in plan if ": " in line]
    # The rest of the group follows; what a switch left is among the leftovers.
    others = ("restarts with its group", "was left by a switch that was interrupted")
    reasons = [each for each in reasons if each[1] not in others]
    assert reasons
    assert sorted(drift) == sorted(f"{node}: {reason}" for node, reason in reasons)
