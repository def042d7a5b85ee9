"""Published scores beside ours: only where the whole protocol is stated, and the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from quality_samples import a_quality
from spark_bench.display.quality_tables import quality_tables
from spark_bench.display.terminal import print_all
from spark_bench.expectations.published_scores import (
    PublishedTaskScore,
    load_scores,
    published_scores,
)
from spark_bench.report.quality_section import quality_run
from spark_bench.results.quality_schema import QualityResult

FULL: dict[str, Any] = {
    "models": ("openai/gpt-oss-120b",), "setting": "spark", "quantization": "MXFP4",
    "evidence": "reported", "task": "gsm8k", "percent": 90.0, "items": 20, "harness": "sgl-eval",
    "harness_version": "0.1.3", "endpoint": "chat", "thinking": "off", "temperature": 0.0,
    "max_tokens": 8192, "protocol": "all of it", "source": "a page",
}  # fmt: skip


def a_gsm8k(outcomes: str = "1" * 18 + "00", model: str = "openai/gpt-oss-120b") -> QualityResult:
    """A result of gsm8k through the harness, as FULL states its protocol."""
    result = a_quality(outcomes)
    config = result.config
    items = replace(config.items, source="sgl-eval 0.1.3, test.jsonl", count=len(outcomes))
    protocol = replace(config.protocol, thinking="off", temperature=0.0, max_tokens=8192)
    return replace(
        result,
        config=replace(config, task="gsm8k", items=items, protocol=protocol, model=model),
    )


def beside(**changes: Any) -> list[str]:
    return list(published_scores(a_gsm8k(), (PublishedTaskScore(**FULL | changes),)))


def test_a_score_of_the_same_protocol_is_set_beside_ours() -> None:
    words = "(MXFP4, spark, reported; a page)"
    where = "the interval of 69.9 to 97.2 % here"
    assert beside() == [f"90 % published {words}, within {where}"]
    assert beside(percent=99.5) == [f"99.5 % published {words}, outside {where}"]
    assert beside(shots=0) == beside()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"harness_version": ""}, "protocol not stated (version of the harness)"),
        ({"thinking": "", "temperature": None}, "protocol not stated (thinking, temperature)"),
        ({"items": None}, "protocol not stated (items)"),
        ({"harness": "", "endpoint": ""}, "protocol not stated (harness, endpoint)"),
        ({"harness_version": "0.1.2"}, "version of the harness 0.1.2 there, 0.1.3 here"),
        ({"items": 1319}, "items 1319 there, 20 here"),
        ({"thinking": "on"}, "thinking on there, off here"),
        ({"temperature": 0.6}, "temperature 0.6 there, 0.0 here"),
        ({"max_tokens": 16384}, "max_tokens 16384 there, 8192 here"),
        ({"shots": 5}, "shots 5 there, 0 here"),
        (
            {"thinking": "", "items": 9},
            "protocol not stated (thinking); items 9 there, 20 here",
        ),
    ],
)
def test_any_other_is_not_compared_and_shows_no_figure(
    changes: dict[str, Any], reason: str
) -> None:
    assert beside(**changes) == [f"1 published score not compared: {reason} (a page)"]


def test_other_models_and_tasks_have_nothing_to_do_with_it() -> None:
    assert beside(models=("org/other",)) == beside(task="mmlu") == []


def test_a_limited_result_is_not_the_whole_task() -> None:
    few = a_gsm8k("1" * 9)
    [sentence] = published_scores(few, (PublishedTaskScore(**FULL),))
    assert sentence == "1 published score not compared: items 20 there, 9 here (a page)"


def test_no_score_of_the_catalog_states_all_of_its_protocol() -> None:
    """If one does some day, the docs say otherwise than they do now."""
    assert len(load_scores()) == 12
    assert all("" in one.stated.values() for one in load_scores())


def test_the_table_and_the_page_say_that_they_are_not_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = a_gsm8k(model="RadixArk/Qwen3.8-Flash-Next-NVFP4")
    run = quality_run(result, Path("q.json"))
    [sentence] = run.published
    assert sentence.startswith(
        "4 published scores not compared: protocol not stated (harness, version of the harness); "
        "items 1319 there, 20 here (sgl-project/sglang"
    )
    print_all(quality_tables(result))
    printed = " ".join(capsys.readouterr().out.split())
    assert "published 4 published scores not compared: protocol not stated (harness" in printed
