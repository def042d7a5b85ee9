"""`spark-bench all` killed outright at random moments, and resumed: nothing is lost but what
was under way, and in the end the files are those of a run that nobody disturbed."""

from __future__ import annotations

import csv
import io
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_project import FakeProject
from spark_bench.results.codec import read_result
from spark_bench.results.suite_results import SuiteResults
from waiting import until

# They differ from one run of the same to the next.
VOLATILE = (
    *("output_throughput", "total_throughput", "ttft_ms", "itl_ms", "e2e_ms", "low", "high"),
    *("median_ttft_ms", "p99_ttft_ms", "median_itl_ms", "p99_itl_ms", "tpot_ms", "p99_e2e_ms"),
    *("request_throughput", "duration", "pareto", "client"),
    *("started", "startup_seconds", "bench_seconds"),
    *("slots", "queue_ms", "prompts_p99_share", "bounds"),
)

KILLS = 12
MODELS = ("--yes", "--models", "a,b,c")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProject]:
    with FakeProject(tmp_path / "project", seconds=0.2) as project:
        yield project


@pytest.mark.timeout(600)
def test_killed_12_times_and_resumed_it_ends_as_if_it_had_not_been(fake: FakeProject) -> None:
    began = time.monotonic()
    assert fake.all(*MODELS).code == 0
    whole = time.monotonic() - began
    undisturbed = final(fake.out)
    fake.clear()

    chance, killed = random.Random(4), 0
    while killed < KILLS:
        # From before the first file to well within the second model; what was done before is not
        # done again, so that the third and the end have their turns, too.
        if killed_at(fake, chance.uniform(0.1, whole * 0.55)):
            killed += 1
            assert_whole(fake)
        else:
            assert final(fake.out) == undisturbed
            fake.clear()
    done = fake.all(*resumed(fake))
    assert done.code == 0, done.err
    assert final(fake.out) == undisturbed


def killed_at(fake: FakeProject, seconds: float) -> bool:
    """Begin, or go on, and kill it after so long; False: it ended before."""
    with fake.start(*resumed(fake)) as process:
        try:
            process.communicate(timeout=seconds)
        except Exception:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), process.returncode
    return process.returncode != 0


def resumed(fake: FakeProject) -> tuple[str, ...]:
    return ("--yes", "--resume", "out") if (fake.out / "job.json").exists() else MODELS


def assert_whole(fake: FakeProject) -> None:
    """After a kill each file is whole, with a row for each model before the one under way."""
    files = {file.name for file in fake.out.iterdir()} if fake.out.exists() else set()
    if "results.json" not in files:
        assert not files & {"results.csv", "summary.txt"}
        return
    done = [row.name for row in fake.results.results]
    assert done == ["a", "b", "c"][: len(done)]
    assert all(row.status == "OK" for row in fake.results.results)
    for name in done:
        assert read_result(fake.out / f"{name}_benchmark.json").status == "complete"
    deployed = [deploy["model"].removeprefix("org/") for deploy in fake.deploys]
    assert all(deployed.count(name) >= 1 for name in done)


def final(folder: Path) -> dict[str, Any]:
    """Every file, without what is another at another time."""
    results = msgspec.json.decode((folder / "results.json").read_bytes(), type=SuiteResults)
    rows = csv.DictReader(io.StringIO((folder / "results.csv").read_text()))
    return {
        "names": sorted(file.name for file in folder.iterdir()),
        "results": [timeless(msgspec.to_builtins(row)) for row in results.results],
        "rest": (results.config, results.models_tested, results.finished, results.restored),
        "csv": [timeless(row) for row in rows],
        "summary": masked(folder / "summary.txt"),
        "files": {name: measured(folder / f"{name}_benchmark.json") for name in "abc"},
        "logs": {name: len(re.findall("^[$] ", (folder / f"{name}.log").read_text(), re.M))
                 for name in "abc"},
    }  # fmt: skip


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table; its columns of bounds end in _least and _most."""
    return {
        name: value
        for name, value in row.items()
        if name not in VOLATILE and not name.endswith(("_least", "_most"))
    }


def masked(file: Path) -> list[str]:
    """The text without its figures; the rankings are sorted by these."""
    text = re.sub(r"begun .*, [\d:]+,", "begun", file.read_text())
    words = [re.sub(r"[\d,.]*\d", "#", line).split() for line in text.splitlines()]
    return sorted(" ".join(w for w in line if set(w) - set("#-.")) for line in words)


def measured(file: Path) -> Any:
    """What was asked for, and what was counted."""
    result = read_result(file)
    return (
        msgspec.structs.replace(result.config, command=()),
        result.provenance.deployment,
        (result.summary.completed, result.summary.failed, result.summary.total_output_tokens),
    )


def test_partial_files_of_a_kill_are_gone_after_a_resume(fake: FakeProject) -> None:
    fake.all(*MODELS)
    undisturbed = final(fake.out)
    (fake.out / ".results.json.4242").write_text("{")
    (fake.out / ".under-way").mkdir()
    (fake.out / ".under-way/b.json").write_text("{")
    (fake.out / "b_benchmark.json").write_text("{")
    done = fake.all("--yes", "--resume", "out")
    assert done.code == 0, done.err
    assert final(fake.out) == undisturbed
    assert "a: done already" in done.err
    assert "b: done already" not in done.err


def test_no_child_process_outlives_a_kill(fake: FakeProject) -> None:
    """Neither a deploy, which would go on beside the next one's, nor a run."""
    fake.fails(a="hangs")
    with fake.start(*MODELS) as process:
        until(lambda: ours(fake, "deploy.py"))
        process.kill()
    until(lambda: not ours(fake, "deploy.py"))
    fake.fails(a="stuck")
    with fake.start("--yes", "--resume", "out") as process:
        until(lambda: ours(fake, "--max-failures"))
        process.kill()
    until(lambda: not ours(fake, "--max-failures"))


def ours(fake: FakeProject, word: str) -> list[str]:
    """Command lines of processes under way for this project."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if word in words and any(str(fake.folder) in each for each in words):
            lines.append(" ".join(words))
    return lines
