"""What the project says of settings without asking a node: what `spark-bench all` plans with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spark_bench.project import run_pyinfra
from spark_bench.suite.plan import Feasibility

from cluster.catalog.models import entries
from cluster.reports.feasible import judge_cases
from cluster.settings.declaration import HostData

ROOT = Path(__file__).parents[3]


def with_token(token_file: str) -> bool:
    return True


HOSTS = (
    HostData("spark-1", ("head",), {"model": "gpt-oss-120b"}),
    HostData("spark-2", ("workers",), {"model": "gpt-oss-120b"}),
)


@pytest.mark.parametrize(
    "case, nodes, tp, pp",
    [
        pytest.param({}, 2, 2, 1, id="as-declared"),
        pytest.param({"model": 6}, 2, 2, 1, id="a-number"),
        pytest.param({"model": "qwen7b", "head_only": True}, 1, 1, 1, id="head-alone"),
        pytest.param({"pipeline_parallel": 2}, 2, 1, 2, id="stages"),
        pytest.param({"model": "of/ones-own"}, 2, 2, 1, id="outside-the-catalogue"),
        pytest.param({"mem_fraction": 0.8, "disable_cuda_graph": True}, 2, 2, 1, id="settings"),
    ],
)
def test_feasible_cases_have_no_errors(case: dict[str, Any], nodes: int, tp: int, pp: int) -> None:
    (verdict,) = judge_cases(HOSTS, [case], with_token).verdicts
    assert verdict.errors == ()
    assert (verdict.nodes, verdict.tp, verdict.pp) == (nodes, tp, pp)


@pytest.mark.parametrize(
    "case, expected",
    [
        pytest.param({"model": "qwen7c"}, "did you mean qwen7b", id="model"),
        pytest.param({"mem_fracton": 0.8}, "did you mean mem_fraction", id="setting"),
        pytest.param({"mem_fraction": 8}, "it must be a number between 0 and 1", id="value"),
        pytest.param({"tensor_parallel": 4}, "4 GPUs are needed, the nodes have 2 x 1", id="gpus"),
        pytest.param({"tensor_parallel": 1}, "does not divide over 2 nodes", id="idle-node"),
        pytest.param({"model": "qwen72b", "head_only": True}, "does not fit", id="memory"),
        pytest.param({"mem_fraction": 0.2}, "does not fit", id="fraction"),
        pytest.param({"context_length": 999_999}, "is more than gpt-oss-120b has", id="context"),
        pytest.param({"model": "smollm2"}, "needs runtime = 'process'", id="runtime"),
    ],
)
def test_infeasible_cases_say_why(case: dict[str, Any], expected: str) -> None:
    (verdict,) = judge_cases(HOSTS, [case], with_token).verdicts
    assert any(expected in error for error in verdict.errors), verdict.errors


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param({"model": "dsv41-flash"}, "has no default variant; it has: ", id="none"),
        pytest.param({"model": "dsv41-flash", "variant": "reported"},
                     "is for 4 nodes, and 2 would serve", id="nodes"),
        pytest.param({"model": "qwen7b", "variant": "eagle"}, "is none of qwen7b's", id="unknown"),
        pytest.param({"model": "qwen38-27b"}, "is for 1 node, and 2 would serve", id="one-node"),
    ],
)  # fmt: skip
def test_a_variant_that_is_not_possible_says_why(case: dict[str, Any], expected: str) -> None:
    (verdict,) = judge_cases(HOSTS, [case], with_token).verdicts
    assert any(expected in error for error in verdict.errors), verdict.errors


def test_a_verdict_names_variant_image_and_arguments() -> None:
    cases = [{"model": "qwen38-27b", "head_only": True, "variant": v} for v in ("eagle", "dspark")]
    eagle, dspark = judge_cases(HOSTS, cases, with_token).verdicts
    assert (eagle.variant, eagle.draft) == ("eagle", "")
    assert (dspark.variant, dspark.draft) == ("dspark", "RadixArk/Qwen3.8-27B-DSpark")
    assert dspark.draft_bytes == 2_700_000_000
    assert eagle.image.startswith("lmsysorg/sglang@sha256:")
    assert "--enable-linear-replayssm-spec" in eagle.arguments
    assert eagle.image_doubts == ()
    own = judge_cases(HOSTS, [{"model": "qwen36-35b-fp8", "variant": "dgxarley"}], with_token)
    assert "neither SGLang's nor the vendor's" in own.verdicts[0].image_doubts[0]


def test_no_model_is_measured_by_default_in_an_image_of_a_third_party() -> None:
    cases = [{"model": model.alias, "head_only": n == 1} for model in entries() for n in (1, 2)]
    verdicts = judge_cases(HOSTS, cases, with_token).verdicts
    assert not [v.model for v in verdicts if v.image_doubts]


def test_each_case_has_its_own_verdict() -> None:
    cases = [{"model": "qwen7b"}, {"model": "x"}, {"model": "qwen14b"}]
    verdicts = judge_cases(HOSTS, cases, with_token).verdicts
    assert [bool(verdict.errors) for verdict in verdicts] == [False, True, False]


@pytest.mark.parametrize(
    ("case", "token", "lacks"),
    [
        pytest.param({"model": "llama8b"}, False, True, id="gated"),
        pytest.param({"model": "llama8b"}, True, False, id="gated-with-token"),
        pytest.param({"model": "qwen7b"}, False, False, id="open"),
        pytest.param({"model": "llama8b", "offline": True}, False, False, id="nothing-comes"),
    ],
)
def test_a_gated_model_lacks_a_token(case: dict[str, Any], token: bool, lacks: bool) -> None:
    lines = list[str]()
    hosts = tuple(replace(h, data={**h.data, "hf_token_file": "~/t"}) for h in HOSTS)

    def has_token(token_file: str) -> bool:
        lines.append(token_file)
        return token

    (verdict,) = judge_cases(hosts, [case], has_token).verdicts
    assert (verdict.errors, verdict.lacks_token) == ((), lacks)
    assert set(lines) <= {"~/t"}


def test_the_command_line_prints_what_spark_bench_reads() -> None:
    cases = json.dumps([{"model": n} for n in range(1, 15)])
    data = ["--data", "light=inventories/spark.py", "--data", f"cases={cases}"]
    printed = json.loads(run_pyinfra(ROOT, ["-y", "@local", "deploys/feasible.py", *data], 60))
    assert len(printed["verdicts"]) == 14
    assert set(printed["verdicts"][0]) == set(Feasibility.__struct_fields__)
    assert not any(v["errors"] for v in printed["verdicts"])
