"""spark-bench against real SGLang: its counts, its histograms, and SGLang's own client beside it.

SGLang 0.5.23 sends nothing for a token that ends in half a character. A model of random weights
makes many of those, so that events are not tokens.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, INSTALLED, MODEL, START_SECONDS, VERSION
from deploying import LABEL, Deploy, rank
from sparks import Cluster

PROMPTS, INPUT, OUTPUT, AT_ONCE = 10, 64, 32, 4
SECRET = "sk-nobody-shall-see-this"
# What spark-bench sends ahead of a run: two short prompts, to learn the template's length.
PROBES = 2
# The way to SGLang's scheduler and back, through its tokenizer and detokenizer, on a busy CPU.
OUTSIDE_MS = 50
NOISE_MS = 5
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(2 * START_SECONDS)]


@pytest.fixture
def serving(deploy: Deploy) -> Deploy:
    deploy.succeeds(timeout=START_SECONDS)
    return deploy


@dataclass(frozen=True)
class Done:
    """A run: its result, its requests, and everything that it wrote or printed."""

    result: dict[str, Any]
    requests: list[dict[str, Any]]
    texts: tuple[str, ...]


def bench(deploy: Deploy, folder: Path, *words: object) -> Done:
    """A user's `spark-bench run` on the controller."""
    done = deploy.cluster.ctl(
        *(sys.executable, "-m", "spark_bench", "run", "quick", "--inventory", deploy.inventory),
        *("-n", PROMPTS, "-i", INPUT, "-o", OUTPUT, "-c", AT_ONCE),
        *("--output", folder / "result.json", "--save-requests", *words),
        timeout=300,
        SPARK_BENCH_API_KEY=SECRET,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = (folder / "result.json").read_text()
    rows = (folder / "result.requests.jsonl").read_text()
    requests = [json.loads(row) for row in rows.splitlines()]
    return Done(json.loads(result), requests, (result, rows, done.stdout, done.stderr))


def totals(cluster: Cluster) -> Counter[str]:
    """SGLang's own counters and its histograms' sums and counts, over all labels."""
    counts: Counter[str] = Counter()
    for line in cluster.http("/metrics").body.splitlines():
        if match := re.fullmatch(r"sglang:(\w+_(?:total|sum|count))(?:\{.*\})? (\S+)", line):
            counts[match[1]] += float(match[2])  # type: ignore[assignment] # they are floats
    return counts


@pytest.mark.parametrize("how", ["auto", "off"])
def test_counts_match_the_servers(serving: Deploy, tmp_path: Path, how: str) -> None:
    before = totals(serving.cluster)
    done = bench(serving, tmp_path, "--warmup", 0, "--temperature", 1, "--count-tokens", how)
    grown = totals(serving.cluster) - before
    result, requests = done.result, done.requests

    summary, lengths = result["summary"], result["lengths"]
    assert (summary["completed"], summary["failed"]) == (PROMPTS, 0)
    assert lengths["tokenizer"] == "the server's /tokenize"
    assert (lengths["checked"], lengths["differing"], lengths["stopped_early"]) == (PROMPTS, 0, 0)
    assert {(r["prompt_tokens"], r["output_tokens"]) for r in requests} == {(INPUT, OUTPUT)}

    # Some events are several tokens, and are counted as that.
    assert any(len(r["token_counts"]) < OUTPUT for r in requests)
    assert all(sum(r["token_counts"]) + r["hidden_tokens"] == OUTPUT for r in requests)
    counted = {len(r["token_counts"]) == OUTPUT or r["counted_by"] != "chunk" for r in requests}
    assert counted == {True}
    if how == "auto":
        assert {r["counted_by"] for r in requests} == {"usage"}

    assert result["server"]["generated_tokens"] == PROMPTS * OUTPUT
    assert result["server"]["prompt_tokens"] == PROMPTS * INPUT
    probed = grown["generation_tokens_total"] - PROMPTS * OUTPUT
    assert 0 < probed < OUTPUT, "what is no part of the run"
    assert grown["num_requests_total"] == PROMPTS + PROBES


def test_times_fit_the_servers_histograms(serving: Deploy, tmp_path: Path) -> None:
    result = bench(serving, tmp_path, "--warmup", 0).result
    reconciliation = result["server"]["reconciliation"]
    for name in ("ttft", "itl", "e2e_latency"):
        assert reconciliation[name]["mean"] == pytest.approx(result["summary"][f"mean_{name}_ms"])
        assert reconciliation[name]["note"] == ""
    assert reconciliation["ttft"]["server"]["n"] == PROMPTS
    assert 0 <= reconciliation["ttft"]["difference"] < OUTSIDE_MS
    assert 0 <= reconciliation["e2e_latency"]["difference"] < OUTSIDE_MS
    assert reconciliation["itl"]["mean"] == pytest.approx(
        reconciliation["itl"]["server"]["mean"], rel=0.03
    )
    parts = [reconciliation[f"ttft_{part}_ms"] for part in ("queue", "engine", "outside")]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(reconciliation["ttft"]["mean"])


def test_it_reports_what_it_measured_and_shows_no_key(serving: Deploy, tmp_path: Path) -> None:
    cluster = serving.cluster
    done = bench(serving, tmp_path)
    provenance = done.result["provenance"]
    server = provenance["server"]
    assert (server["engine"], server["version"], server["model"]) == ("sglang", VERSION, MODEL)
    assert (server["settings"]["tp_size"], server["settings"]["device"]) == (2, "cpu")
    for number, described in enumerate(provenance["deployment"]["ranks"], start=1):
        container = rank(cluster, number)
        label = container["Config"]["Labels"][LABEL]
        assert described["image_id"] == container["Image"]
        assert described["spec"] == sha256(label.encode()).hexdigest()
    assert all(SECRET not in text for text in done.texts)


def test_sglangs_own_client_agrees(serving: Deploy, tmp_path: Path) -> None:
    """How fast the server is, changes from one run to the next on a busy machine: what is compared
    is each client's figures over the server's own."""
    before = totals(serving.cluster)
    theirs = sglang_client(serving.cluster, tmp_path)
    counted = totals(serving.cluster) - before
    ours = bench(serving, tmp_path, "--warmup", 0).result

    for figure in ("total_input_tokens", "total_output_tokens"):
        assert ours["summary"][figure] == theirs[figure]
    assert ours["summary"]["concurrency"] == pytest.approx(theirs["concurrency"], rel=0.2)

    reconciliation = ours["server"]["reconciliation"]
    for figure, histogram in {
        "tpot": "inter_token_latency_seconds",
        "e2e_latency": "e2e_request_latency_seconds",
    }.items():
        beside = reconciliation["itl" if figure == "tpot" else figure]["server"]["mean"]
        our_share = ours["summary"][f"mean_{figure}_ms"] / beside
        their_share = theirs[f"mean_{figure}_ms"] / mean_ms(counted, histogram)
        assert our_share == pytest.approx(their_share, rel=0.05), figure
    outside = theirs["mean_ttft_ms"] - mean_ms(counted, "time_to_first_token_seconds")
    assert reconciliation["ttft"]["difference"] < outside + NOISE_MS


def mean_ms(totals_ms: Counter[str], histogram: str) -> float:
    return 1e3 * totals_ms[f"{histogram}_sum"] / totals_ms[f"{histogram}_count"]


def sglang_client(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """The figures of `python -m sglang.benchmark.serving` for the same shape."""
    # It imports this for a dataset that is not used here, and it is not among what SGLang needs.
    (folder / "datasets.py").write_text("def load_dataset(*_, **__): raise NotImplementedError\n")
    file = folder / "theirs.jsonl"
    done = cluster.ctl(
        *(INSTALLED / "venv" / "bin" / "python", "-m", "sglang.benchmark.serving"),
        *("--backend", "sglang-oai-chat", "--host", "198.18.0.1", "--port", 30000),
        *("--model", MODEL, "--tokenizer", INSTALLED / "model", "--dataset-name", "random-ids"),
        *("--num-prompts", PROMPTS, "--random-input-len", INPUT, "--random-output-len", OUTPUT),
        *("--random-range-ratio", 1.0, "--max-concurrency", AT_ONCE, "--seed", 1),
        *("--warmup-requests", 0),
        *("--output-file", file),
        timeout=300,
        PYTHONPATH=f"{HERE / 'standins'}:{folder}",
        SGLANG_USE_CPU_ENGINE="1",
        HF_HUB_OFFLINE="1",
    )
    assert file.exists(), done.stdout + done.stderr
    counts: dict[str, Any] = json.loads(file.read_text().splitlines()[-1])
    return counts
