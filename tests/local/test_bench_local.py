"""spark-bench against the embedded default: a real model, found through the project's listing.

What it reports is held against llama.cpp's own counts, and against figures computed from the raw
bytes by something that shares no code with it.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import statistics
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyinfra_runs import run_pyinfra
from server_log import Exchange, ServerLog, server_log

ROOT = Path(__file__).parents[2]
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
INPUT, OUTPUT = 64, 32
# What spark-bench sends ahead of a run: two short prompts, to learn the template's length.
PROBES = 2
# Two threads of an engine wait for each other at every layer: on a busy machine, for seconds.
ONE_THREAD = {"OMP_THREAD_LIMIT": "1"}

pytestmark = pytest.mark.local


class Served:
    """inventories/local.py deployed with a port and a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.name = f"bench-{self.port}"
        [(host, data)] = runpy.run_path(str(ROOT / "inventories" / "local.py"))["head"]
        own = {
            "port": self.port,
            "group": self.name,
            "head_container": self.name,
            "env": ONE_THREAD,
        }
        self.inventory = folder / "local.py"
        self.inventory.write_text(f"head = [({host!r}, {data | own!r})]\n")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_BENCH")}
        self.environment["HOME"] = str(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pyinfra(self, *words: str) -> str:
        line = ["-y", str(self.inventory), "deploy.py", *words]
        done = run_pyinfra(line, self.environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def bench(self, *words: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The result of `spark-bench run quick` and its requests."""
        file = self.folder / "result.json"
        line = ["run", "quick", "--project", ".", "--inventory", str(self.inventory)]
        line += ["--output", str(file), "--save-requests", "--quiet", "--timeout", "60"]
        done = subprocess.run(
            [sys.executable, "-m", "spark_bench", *line, *map(str, words)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        rows = (self.folder / "result.requests.jsonl").read_text().splitlines()
        return json.loads(file.read_text()), [json.loads(row) for row in rows]

    def label(self) -> str:
        """The spec as the running process carries it."""
        mark = f"--spark-serving-name={self.name}".encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = path.read_bytes().split(b"\0")
            if mark in words and b"-m" in words:
                (spec,) = (w for w in words if w.startswith(b"--spark-serving-spec="))
                return spec.partition(b"=")[2].decode()
        raise AssertionError(f"no process of {self.name}")

    def counters(self) -> Counter[str]:
        """llama.cpp's own totals."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = [line.split() for line in answer.read().decode().splitlines()]
        return Counter({words[0]: int(float(words[1])) for words in lines if words[0][0] != "#"})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    here = Served(tmp_path_factory.mktemp("bench"))
    try:
        here.pyinfra()
        yield here
    finally:
        here.pyinfra("--data", "state=absent")


def test_it_finds_the_deployed_head_and_reports_what_it_measured(served: Served) -> None:
    before = served.counters()
    result, rows = served.bench("-n", 8, "-i", INPUT, "-o", OUTPUT, "-c", 4, "--warmup", 0)
    grown = served.counters() - before

    assert result["config"]["url"] == served.url
    assert result["config"]["model"] == MODEL
    assert result["status"] == "complete"
    assert (result["summary"]["completed"], result["summary"]["failed"]) == (8, 0)

    lengths = result["lengths"]
    assert lengths["tokenizer"] == "the server's /tokenize"
    assert (lengths["checked"], lengths["differing"], lengths["stopped_early"]) == (8, 0, 0)
    assert {(r["prompt_tokens"], r["output_tokens"]) for r in rows} == {(INPUT, OUTPUT)}
    assert {r["finish_reason"] for r in rows} == {"length"}
    assert sum(sum(r["token_counts"]) for r in rows) == 8 * OUTPUT

    assert result["server"]["generated_tokens"] == 8 * OUTPUT
    assert result["server"]["prompt_tokens"] == 8 * INPUT
    probed = grown["llamacpp:tokens_predicted_total"] - 8 * OUTPUT
    assert 0 < probed < PROBES * OUTPUT, "what is no part of the run"

    provenance = result["provenance"]
    assert provenance["server"]["engine"] == "llama.cpp"
    assert provenance["server"]["model"] == MODEL
    deployment = provenance["deployment"]
    assert (deployment["model"], deployment["group"]) == (MODEL, served.name)
    (rank,) = deployment["ranks"]
    assert rank["spec"] == sha256(served.label().encode()).hexdigest()

    (node,) = result["nodes"]["nodes"]
    assert node["memory_used_bytes"]["mean"] > 0
    if node["power_w"] is None:  # no nvidia-smi here
        assert result["nodes"]["tokens_per_joule"] is None


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_figures_match_the_raw_bytes(served: Served, endpoint: str) -> None:
    shape = ("-n", 8, "-i", INPUT, "-o", OUTPUT, "-c", 2, "--warmup", 0, "--seed", 7)
    before = served.counters()
    with server_log(served.port) as log:
        result, _ = served.bench(*shape, "--endpoint", endpoint, "--url", url(log))
    grown = served.counters() - before
    streams = log.streams(OUTPUT)
    assert len(streams) == 8

    last_events = [stream.last() for stream in streams]
    summary = result["summary"]
    assert summary["total_output_tokens"] == sum(t["timings"]["predicted_n"] for t in last_events)
    assert summary["total_output_tokens"] == sum(len(s.tokens()) for s in streams)
    assert summary["total_input_tokens"] == sum(t["usage"]["prompt_tokens"] for t in last_events)
    everything = [e.last() for e in log.exchanges if e.answered]
    assert grown["llamacpp:tokens_predicted_total"] == sum(
        t["timings"]["predicted_n"] for t in everything
    )

    for figure, true in truth(streams).items():
        assert summary[figure] == pytest.approx(true, rel=0.005, abs=2.0), figure


def url(log: ServerLog) -> str:
    return f"http://127.0.0.1:{log.port}"


def truth(streams: list[Exchange]) -> dict[str, float]:
    """Latencies in ms, under the names of the result, from each stream's arrivals alone."""
    ttft, itl, tpot, e2e = [], [], [], []
    for stream in streams:
        at = [(ns - stream.asked_ns) / 1e6 for ns in stream.tokens()]
        ttft.append(at[0])
        itl += [later - earlier for earlier, later in pairwise(at)]
        tpot.append((at[-1] - at[0]) / (OUTPUT - 1))
        e2e.append(at[-1])
    latencies = {"ttft": ttft, "itl": itl, "tpot": tpot, "e2e_latency": e2e}
    means = {f"mean_{name}_ms": statistics.fmean(values) for name, values in latencies.items()}
    medians = {f"median_{name}_ms": statistics.median(values) for name, values in latencies.items()}
    return means | medians


def test_the_turns_of_a_conversation_follow_each_other(served: Served) -> None:
    result, rows = served.bench("-n", 6, "-i", 48, "-o", 8, "-c", 2, "--turns", 2)
    assert (result["summary"]["completed"], result["lengths"]["differing"]) == (6, 0)
    turns = {(r["conversation"], r["turn"]): r for r in rows}
    assert len(turns) == 6
    for number in range(3):
        first, second = turns[number, 0], turns[number, 1]
        assert second["sent_ns"] >= first["done_ns"]
        assert second["prompt_tokens"] > first["prompt_tokens"]


def test_answers_that_end_early_are_counted_as_such(served: Served) -> None:
    """Questions to which the model has short answers, and no ignore_eos."""
    file = served.folder / "short.json"
    ask = ("What is the capital of France?", "What is 2+2?", "Name one colour.", "Say yes.")
    answers = [{"from": "gpt", "value": "It is what it is, and there is no more to it."}]
    turns = [[{"from": "human", "value": question}, *answers] for question in ask]
    file.write_text(json.dumps([{"conversations": turn} for turn in turns]))
    result, rows = served.bench(
        *("-n", 4, "-o", 80, "-c", 2, "--no-ignore-eos", "--sharegpt", file)
    )
    stopped = [r for r in rows if r["finish_reason"] == "stop"]
    assert stopped
    assert all(r["output_tokens"] < 80 for r in stopped)
    assert result["summary"]["stopped_early"] == len(stopped)
    assert result["summary"]["total_output_tokens"] == sum(r["output_tokens"] for r in rows)
    assert result["lengths"]["asked_output"] == 4 * 80
