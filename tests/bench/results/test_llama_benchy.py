"""Results at depths in llama-benchy's form: its own arithmetic on the same requests, recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchy_batches import MODEL, RECORDED, results
from msgspec.structs import replace
from result_samples import a_result
from spark_bench import __version__
from spark_bench.errors import BadInput
from spark_bench.results.llama_benchy import export_rows


def near(value: Any) -> Any:
    """The value, with numbers that may differ in their last digits."""
    if isinstance(value, dict):
        return {name: near(each) for name, each in value.items()}
    if isinstance(value, list):
        return [near(each) for each in value]
    exact = not isinstance(value, float)
    return value if exact else pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_the_report_is_the_one_that_llama_benchy_writes(cached: bool) -> None:
    report = json.loads(export_rows(results(cached)))
    recorded = json.loads(RECORDED.read_text())["cached" if cached else "uncached"]
    assert [list(run) for run in report["benchmarks"]] == [list(run) for run in recorded]
    assert report["benchmarks"] == near(recorded)
    del report["benchmarks"]
    assert report == {
        "version": f"spark-bench {__version__}",
        "timestamp": "2026-11-23 13:38:05Z",
        "latency_mode": "none",
        "latency_ms": 0.0,
        "model": MODEL,
        "prefix_caching_enabled": cached,
        "max_concurrency": 2,
    }


def test_the_order_of_files_changes_nothing() -> None:
    every = results(False)
    assert export_rows(every[::-1]) == export_rows(every)


def test_what_one_report_cannot_hold_is_refused() -> None:
    plain, other = results(False), results(False)[1]
    with pytest.raises(BadInput, match="none of these results is at a depth"):
        export_rows([a_result()])
    moved = replace(other, config=replace(other.config, model="a/b"))
    with pytest.raises(BadInput, match="of one model, and these"):
        export_rows([*plain, moved])
    with pytest.raises(BadInput, match="some of these results have cached depths"):
        export_rows([*plain, *results(True)])
    # A depth of 0 has no context that could be cached: it goes with both.
    export_rows([plain[0], *results(True)[2:]])
