"""Batches of answers with known times, and what llama-benchy makes of them.

    .venv/bin/python tests/support/benchy_batches.py           # its reader accepts our report
    .venv/bin/python tests/support/benchy_batches.py --write   # record its own report anew

Installs llama-benchy in a temporary environment. The recorded report is what tests compare with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_requests import MS, answer
from msgspec.structs import replace
from result_samples import a_result
from spark_bench.metrics.depth import DepthFigures, depth_figures, merge_depth
from spark_bench.record import Request
from spark_bench.results.llama_benchy import export_rows
from spark_bench.results.schema import Result

VERSION = "0.4.0"
RECORDED = Path(__file__).parents[1] / "bench/results/llama_benchy" / f"report-{VERSION}.json"
MODEL = "openai/gpt-oss-120b"
PROMPT, TOKENS, REPEATS = 2048, 32, 3


def batch(seed: int, size: int, prompt_tokens: int) -> list[Request]:
    """Answers that were requested within a few ms; a millisecond is the unit of all times."""
    random = np.random.default_rng(seed)
    return [
        answer(
            index,
            sent=float(index),
            ttft=float(random.integers(400, 900)),
            gaps=[float(gap) for gap in random.integers(15, 60, TOKENS - 1)],
            prompt_tokens=prompt_tokens,
        )
        for index in range(size)
    ]


def points(cached: bool) -> list[tuple[int, int, list[list[Request]], list[list[Request]]]]:
    """(depth, requests at once, batches of contexts, batches of prompts)."""
    every = []
    for depth in (0, 4096):
        for size in (1, 2):
            seeds = range(100 * size + depth, 100 * size + depth + REPEATS)
            before = [batch(seed + 50, size, depth) for seed in seeds] if cached and depth else []
            every.append((depth, size, before, [batch(s, size, depth + PROMPT) for s in seeds]))
    return every


def results(cached: bool) -> list[Result]:
    """The points as results."""
    made = []
    for number, (depth, size, contexts, batches) in enumerate(points(cached)):
        figures: list[DepthFigures] = [
            depth_figures(depth, each, contexts[i] if contexts else ())
            for i, each in enumerate(batches)
        ]
        base = a_result()
        config = replace(
            base.config,
            model=MODEL,
            concurrency=size,
            num_prompts=size,
            input_len=PROMPT,
            output_len=TOKENS,
            depth=depth,
            depth_cached=cached,
        )
        made.append(
            replace(base, id=f"{base.id}{number}", config=config, depth=merge_depth(figures))
        )
    return made


def plain(requests: Sequence[Request]) -> list[dict[str, object]]:
    """The requests under the names of llama-benchy's RequestResult; times in seconds."""
    return [
        {
            "start_ts": r.sent_ns / MS / 1e3,
            "first_response_ts": r.first_event_ns / MS / 1e3,
            "first_token_ts": int(r.token_ns[0]) / MS / 1e3,
            "end_ts": r.done_ns / MS / 1e3,
            "prompt_tokens": r.prompt_tokens,
            "total_tokens": r.output_tokens,
            "token_timestamps": [at / MS / 1e3 for at in r.token_ns.tolist()],
        }
        for r in requests
    ]


# Runs with llama-benchy: its own report of requests, or its reading of ours as a table.
THEIRS = """
import json, sys
from llama_benchy.client import RequestResult
from llama_benchy.results import BenchmarkMetadata, BenchmarkReport, BenchmarkResults
task = json.load(sys.stdin)
results = BenchmarkResults()
if "points" in task:
    for depth, size, phases in task["points"]:
        for context, batches in phases:
            made = [[RequestResult(**each) for each in batch] for batch in batches]
            expected = made[0][0].prompt_tokens
            results.add("m", task["pp"], task["tg"], depth, size, made, 0.0, expected, context)
    print(json.dumps([run.model_dump() for run in results.runs], indent=1))
else:
    report = BenchmarkReport.model_validate(task["report"], strict=True)
    assert report.model_dump() == task["report"], "the reader drops or changes something"
    results.runs, results.model_name = report.benchmarks, report.model
    fields = {name: getattr(report, name) for name in BenchmarkMetadata.model_fields}
    results.metadata = BenchmarkMetadata(**fields)
    print(results._generate_md_report(report.max_concurrency))
"""


def theirs(python: Path, task: object) -> str:
    done = subprocess.run(
        [python, "-c", THEIRS], input=json.dumps(task), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def in_phases(cached: bool) -> list[list[object]]:
    """The points as llama-benchy's runs: contexts first. Cached prompts count without theirs."""
    every: list[list[object]] = []
    for depth, size, contexts, batches in points(cached):
        phases = [[True, [plain(each) for each in contexts]]] if contexts else []
        counted = [plain(each) for each in batches]
        for request in (each for one in counted for each in one if contexts):
            request["prompt_tokens"] = PROMPT
        every.append([depth, size, [*phases, [False, counted]]])
    return every


def main(words: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin/python")
        needed = [
            f"llama-benchy=={VERSION}",
            "pydantic",
            "numpy",
            "tabulate",
            "aiohttp",
            "requests",
        ]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Without its tokenizers and models, which its reader and its arithmetic do not need.
        subprocess.run([*pip, *needed[1:]], check=True)
        subprocess.run([*pip, "--no-deps", needed[0]], check=True)
        if "--write" in words:
            both = {
                name: json.loads(
                    theirs(python, {"points": in_phases(cached), "pp": PROMPT, "tg": TOKENS})
                )
                for name, cached in (("uncached", False), ("cached", True))
            }
            RECORDED.write_text(json.dumps(both, indent=1) + "\n")
        for cached in (False, True):
            print(theirs(python, {"report": json.loads(export_rows(results(cached)))}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
