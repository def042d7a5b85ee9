"""@fake Sparks whose logins' shells print of their own around and between every answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, Spark

Mix = Callable[[list[str]], list[str]]
LINE = "Welcome to NVIDIA DGX Spark"


class NoisySpark(Spark):
    """A fake one whose answers are mixed with a shell's own lines."""

    mix: Mix = staticmethod(lambda lines: lines)

    def responses(self, cluster: Fakes) -> dict[str, Any]:
        usual = super().responses(cluster)
        return {k: self.mix(v) if isinstance(v, list) else v for k, v in usual.items()}


def noisy(folder: Path, mix: Mix) -> Fakes:
    sparks: list[Spark] = [NoisySpark(0), NoisySpark(1)]
    for spark in sparks:
        assert isinstance(spark, NoisySpark)
        spark.mix = mix
    return Fakes(folder, sparks)


def around(lines: list[str]) -> list[str]:
    """Before, between and after; the first on a line without its end; all with CR LF."""
    mixed = [line for one in lines for line in (one, LINE, "\x1b[2J{")]
    return [f"{line}\r" for line in [LINE, f"loading{mixed[0]}", *mixed[1:]]]


def test_a_first_deploy_of_noisy_nodes_serves(tmp_path: Path) -> None:
    run = noisy(tmp_path, around).deploy()
    assert run.code == 0, run.text
    assert "serving openai/gpt-oss-120b on 2 node(s)" in run.text


@pytest.mark.parametrize("name", ["status", "doctor"])
@pytest.mark.parametrize(
    ("mix", "named"),
    [
        pytest.param(around, False, id="around"),
        pytest.param(lambda lines: [LINE], True, id="nothing-else"),
        pytest.param(lambda lines: lines[: len(lines) // 2], False, id="half"),
        pytest.param(lambda lines: [line[::-1] for line in lines], False, id="backwards"),
        pytest.param(lambda lines: lines * 2, False, id="twice"),
    ],
)
def test_any_node_output_yields_a_document(
    tmp_path: Path, name: str, mix: Mix, named: bool
) -> None:
    sparks = noisy(tmp_path, mix)
    inventory = f"inventory={sparks.inventory()}"
    run = sparks.pyinfra("@local", f"deploys/{name}.py", "-y", "--data", inventory)
    assert "Traceback" not in run.text
    document = json.loads(run.out)
    assert document["version"] == 1
    assert (LINE in run.out) == named
    assert ("[[ $- == *i* ]] || return" in run.out) >= named


@pytest.mark.parametrize("file", ["deploys/network.py", "deploys/host.py"])
def test_output_pyinfra_would_misread_is_refused_with_a_fix(tmp_path: Path, file: str) -> None:
    sparks = noisy(tmp_path, lambda lines: [LINE, *lines])
    for spark in sparks.sparks:
        spark.answers["command -v netplan"] = ["netplan", "routes []"]
        spark.answers["busctl get-property"] = ["login me", "apt"]
    run = sparks.deploy(file=file)
    assert run.code == 1
    assert f"its shell prints before each command's output: {LINE}" in run.text
    assert "[[ $- == *i* ]] || return" in run.text
