"""docs/results.md: its lines work as they stand there, and no key of the file is left out."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from result_samples import REQUESTS, SIDE, a_result
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.times import TimedRequests
from spark_bench.results.assemble import node_figures, server_figures
from spark_bench.results.codec import START_NS, to_row
from spark_bench.results.files import requests_path, write_requests, write_result
from spark_bench.results.json_schema import schema

DOC = Path(__file__, "../../../../docs/results.md").resolve().read_text()


def lines(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", DOC, re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that the lines name; everything optional is in them."""
    result = msgspec.structs.replace(
        a_result(),
        server=server_figures(SIDE, reconcile({}, {}, TimedRequests(REQUESTS))),
        nodes=node_figures(SIDE, 40),
    )
    path = tmp_path / "result.json"
    write_result(result, path)
    write_result(result, tmp_path / "benchmark_results" / "a.json")
    write_result(result, tmp_path / "benchmark_results" / "b.json")
    write_requests((to_row(r, START_NS) for r in REQUESTS), requests_path(path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", lines("sh"))
def test_the_documented_jq_line_runs(line: str) -> None:
    if not shutil.which("jq"):
        assert os.environ.get("CI") != "true", "CI=true needs jq: apt-get install jq"
        pytest.skip("jq is not installed")
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip()
    assert "null" not in result.stdout


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", lines("python"))
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_documented_pandas_line_runs(line: str) -> None:
    result = eval(line, {"pd": pd, "json": json, "glob": glob})
    if isinstance(result, pd.Series | pd.DataFrame):
        assert result.notna().to_numpy().any()
    else:
        assert result > 0


@pytest.mark.usefixtures("here")
def test_the_last_documented_lines_give_the_stated_figures() -> None:
    ttft, gap = (eval(line, {"pd": pd}) for line in lines("python")[-2:])
    assert (ttft["count"], ttft["mean"]) == (9, 200.0)
    assert gap == pytest.approx(12.0)


def test_there_are_lines_of_both_kinds() -> None:
    assert len(lines("sh")) >= 5
    assert len(lines("python")) >= 5


LATENCY = re.compile(r"(mean|median|std|p90|p95|p99_9|p99|max)_(\w+_ms)")


@pytest.mark.parametrize("kind", sorted(schema()["$defs"]))
def test_every_key_is_explained(kind: str) -> None:
    keys = schema()["$defs"][kind].get("properties", {})
    documented = set(re.findall(r"`(\w+)`", DOC))
    latencies = {key: match[2] for key in keys if (match := LATENCY.fullmatch(key))}
    assert not {latencies.get(key, key) for key in keys} - documented
