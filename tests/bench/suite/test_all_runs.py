"""`spark-bench all` as typed, against a fake project: what is deployed, recorded and printed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_project import FakeProject
from spark_bench.results.codec import read_result
from spark_bench.results.suite_results import COLUMNS
from spark_bench.suite.suite_rows import STREAMS

# Exactly what the scripts that this replaces write.
HEADER = (
    "model,model_short,nodes,tp,output_throughput,total_throughput,ttft_ms,itl_ms,e2e_ms,status"
)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProject]:
    with FakeProject(tmp_path / "project") as project:
        yield project


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProject]:
    """One in whose `out` model a is measured; tests leave it as it is."""
    with FakeProject(tmp_path_factory.mktemp("measured") / "project") as project:
        assert project.all("--yes", "--models", "a").code == 0
        yield project


def test_every_model_is_deployed_measured_and_recorded(fake: FakeProject) -> None:
    done = fake.all("--yes", "--models", "c,1", "--repeat", "2")
    assert done.code == 0, done.err
    assert [deploy["model"] for deploy in fake.deploys] == ["org/c", "org/a"]
    assert fake.statuses == {"c": "OK", "a": "OK"}
    assert done.out == (fake.out / "summary.txt").read_text()
    assert "Throughput ranking" in done.out
    assert "TTFT ranking" in done.out

    table = (fake.out / "results.csv").read_text()
    assert table.splitlines()[0].startswith(HEADER + ",")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["model"], row["status"], row["tp"]) for row in rows] == [
        ("org/c", "OK", "2"),
        ("org/a", "OK", "2"),
    ]
    assert all(float(row["output_throughput"]) > 0 and float(row["ttft_ms"]) > 0 for row in rows)

    results = json.loads((fake.out / "results.json").read_text())
    assert list(results)[:5] == [
        *("timestamp", "config", "total_time_seconds", "models_tested", "results"),
    ]
    assert results["config"]["profile"] == "quick"
    assert results["models_tested"] == 2
    row = results["results"][0]
    assert [name for name in row if name in COLUMNS] == list(COLUMNS)
    assert set(row) - set(COLUMNS) <= {*STREAMS, "bounds"}
    assert row["bounds"]["output_throughput"][0] <= row["output_throughput"]

    for name in ("a", "c"):
        result = read_result(fake.out / f"{name}_benchmark.json")
        assert result.config.model == f"org/{name}"
        assert len(result.repeats) == 2
        assert result.provenance.deployment
        assert result.provenance.deployment.model == f"org/{name}"
        log = (fake.out / f"{name}.log").read_text()
        assert f"serving org/{name}" in log
        assert "spark_bench run quick" in log


def test_overrides_take_effect(fake: FakeProject) -> None:
    """The other fields of the profile stay."""
    assert fake.all("--yes", "--models", "a", load=("--profile", "latency", "-n", "2", "-r", "inf",
                    "-o", "3")).code == 0  # fmt: skip
    config = read_result(fake.out / "a_benchmark.json").config
    assert (config.profile, config.num_prompts, config.input_len, config.output_len) == (
        *("latency", 2, 128, 3),
    )
    assert config.request_rate is None
    assert set(config.overrides) == {"num_prompts", "output_len", "request_rate"}
    summary = read_result(fake.out / "a_benchmark.json").summary
    assert (summary.completed, summary.total_output_tokens) == (2, 6)
    result = fake.results.config
    assert (result.num_prompts, result.input_len, result.output_len) == (2, 128, 3)


FAULTS = {
    "refused": (
        "CONFIG_FAILED",
        "fake-1: no QSFP port is Up -> plug it in at both ends; b does not fit: 145.4 GB of "
        "weights > 111.0 GB -> more nodes",
    ),
    "unreachable": ("STARTUP_FAILED", "fake-2: it cannot be reached: timed out"),
    "dies": (
        "STARTUP_FAILED",
        "fake-2: sglang-worker-1 has ended: exited with exit code 1; fake-2: the GPU's memory ran "
        "out -> --data mem_fraction=0.75",
    ),
    "dies silently": (
        "STARTUP_FAILED",
        "the deploy ended with exit code 1 and left no report: Traceback (most recent call last):; "
        "MemoryError",
    ),
    "hangs": ("STARTUP_FAILED", "not served within 1 s (--startup-timeout, not counting downl"),
    "another": ("STARTUP_FAILED", "serves other/model, expected org/b"),
    "silent": ("NO_OUTPUT", "none of 3 requests was answered (3 http_500)"),
    "half": ("BENCH_FAILED", "of 3 requests failed ("),
    "stuck": ("BENCH_FAILED", "no end within 4 s (--bench-timeout)"),
}  # fmt: skip


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(("refused", "unreachable"), id="refused"),
        pytest.param(("dies", "dies silently"), id="dies"),
        pytest.param(("hangs", "another"), id="hangs"),
        pytest.param(("silent", ""), id="silent"),
        pytest.param(("half", ""), id="half"),
        pytest.param(("stuck", ""), id="stuck"),
    ],
)
def test_a_failing_model_is_a_row_and_never_the_end(
    fake: FakeProject, faults: tuple[str, str]
) -> None:
    fake.fails(**dict(zip("bc", faults, strict=True)))
    limit = "4" if "stuck" in faults else "60"
    limits = ("--startup-timeout", "1" if "hangs" in faults else "60", "--bench-timeout", limit)
    done = fake.all("--yes", "--models", "b,c", *limits)
    assert done.code == 1
    rows = fake.results.results
    assert [row.name for row in rows] == ["b", "c"]
    for number, (row, fault) in enumerate(zip(rows, faults, strict=True), start=1):
        if not fault:
            # After "stuck", a busy machine's may take longer than the limit as well.
            assert row.status == "OK" or "stuck" in faults
            continue
        status, diagnosis = FAULTS[fault]
        assert row.status == status
        assert diagnosis.replace("org/b", row.model) in row.diagnosis
        assert row.output_throughput is None
        assert f"{number}/2 {row.name}: {status}: " in done.err
        assert row.diagnosis in done.out
        line = next(line for line in done.out.splitlines() if line.split()[:1] == [row.name])
        assert line.split() == [row.name, *line.split()[1:3], "-", "-", "-", "-", status]


def test_downloads_are_no_part_of_the_time_for_the_start_up(fake: FakeProject) -> None:
    """4 s of them, twice the limit, each line within it."""
    fake.fails(b="downloads")
    done = fake.all("--yes", "--models", "b", "--startup-timeout", "2")
    assert fake.statuses == {"b": "OK"}, done.err


def test_a_silent_download_is_ended(fake: FakeProject) -> None:
    fake.fails(b="hangs downloading")
    fake.all("--yes", "--models", "b", "--startup-timeout", "2")
    (row,) = fake.results.results
    assert row.status == "STARTUP_FAILED"
    assert "downloading, 0 of 145.4 GB" in row.diagnosis


def test_gated_models_are_skipped_where_there_is_no_token(fake: FakeProject) -> None:
    fake.fails(gated="no token")
    output = fake.all("--dry-run").out
    assert "gated: it is gated, and there is no Hugging Face token here" in output
    assert "hf auth login" in output and "--no-skip-token" in output
    done = fake.all("--yes", "--models", "a,gated")
    assert done.code == 0, done.err
    assert fake.statuses == {"a": "OK", "gated": "SKIPPED"}
    assert "hf auth login" in fake.results.results[1].diagnosis
    # Once there is one, the same run is resumed.
    fake.fails()
    done = fake.all("--yes", "--resume", "out")
    assert fake.statuses == {"a": "OK", "gated": "OK"}, done.err


def test_weights_that_are_there_need_no_token(fake: FakeProject) -> None:
    fake.fails(gated="no token")
    assert "skipped" not in fake.all("--dry-run", "--no-skip-token").out


def test_the_servers_key_reaches_the_benchmark_and_no_deploy(
    fake: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake pyinfra ends where it sees the key."""
    fake.key = "planted-key"
    monkeypatch.setenv("SPARK_BENCH_API_KEY", fake.key)
    done = fake.all("--yes", "--models", "a")
    assert fake.statuses == {"a": "OK"}, done.err
    written = [path for path in fake.folder.rglob("*") if path.is_file()]
    assert [path for path in written if fake.key.encode() in path.read_bytes()] == []


def test_fail_fast_leaves_the_rest_for_later(fake: FakeProject) -> None:
    fake.fails(a="dies")
    assert fake.all("--yes", "--models", "a,b", "--fail-fast").code == 1
    assert fake.statuses == {"a": "STARTUP_FAILED", "b": "SKIPPED"}
    fake.fails()
    assert fake.all("--yes", "--resume", "out").code == 0
    assert fake.statuses == {"a": "OK", "b": "OK"}
    output = fake.all("--dry-run", "--resume", "out").out
    assert "0 to measure" in output
    assert "2 done already: a, b" in output


def test_a_project_elsewhere_and_an_inventory_from_here(fake: FakeProject, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    words = fake.words("--yes", "--models", "a", "--inventory", "mine.py")
    done = subprocess.run(words, cwd=tmp_path, env=fake.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    deployed = [c for c in calls(fake) if "deploy.py" in c]
    assert deployed[0][1] == str(tmp_path / "mine.py")


def calls(fake: FakeProject) -> list[list[str]]:
    """The words of each of pyinfra's calls."""
    return [json.loads(line) for line in (fake.folder / "calls.log").read_text().splitlines()]


def test_a_full_disk_ends_it_and_restores(fake: FakeProject) -> None:
    fake.deploy("c")
    fake.out.mkdir()
    (fake.out / "results.csv").mkdir()
    done = fake.all("--yes", "--models", "a,b")
    assert done.code == 1
    assert "results.csv can't be written" in done.err
    assert fake.served == "org/c"


def test_a_dry_run_touches_nothing(fake: FakeProject) -> None:
    done = fake.all("--dry-run", "--skip-token", "--vary", "tp=1,2,4")
    assert done.code == 0
    assert not fake.out.exists()
    assert fake.served == ""
    assert {call[1] for call in calls(fake)} == {"@local"}
    assert "6 to measure" in done.out
    assert "6 skipped:" in done.out
    assert "a tp=4: tensor_parallel 4 GPUs are needed, the nodes have 2" in done.out
    assert "gated tp=1: it is gated (--skip-token)" in done.out
    assert "about " in done.out


@pytest.mark.parametrize(
    "words, expected",
    [
        pytest.param(["--models", "99"], "no model of the catalog has this number", id="number"),
        pytest.param(["--models", "org/aa"], "did you mean a", id="name"),
        pytest.param(["--models", ","], "names no model", id="none"),
        pytest.param(["--models", "4", "--skip-token"], "no model is left to measure", id="zero"),
        pytest.param(["--vary", "nosuch=1"], "nosuch is not a setting", id="setting"),
        pytest.param(["--profile", "nosuch"], "profile 'nosuch' is not known", id="profile"),
        pytest.param(["--single-node", "--multi-node"], "doesn't go with", id="nodes"),
        pytest.param(["--csv", "--json"], "would all go to stdout", id="formats"),
        pytest.param(["--inventory", "nosuch.py"], "there is no such file", id="inventory"),
        pytest.param(["--project", "/"], "there is no deploys/listing.py", id="project"),
        pytest.param(["--startup-timeout", "0"], "is not a number above 0", id="limit"),
        pytest.param([], "there is no terminal to ask", id="unasked"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_met_are_refused(
    fake: FakeProject, words: list[str], expected: str
) -> None:
    done = fake.all(*words, *(["--yes"] if words else []))
    assert done.code == 2
    assert expected in done.err
    assert not fake.out.exists()
    assert fake.served == ""


@pytest.mark.parametrize(
    "words, settings",
    [
        pytest.param(["--single-node"], [{"head_only": "true"}], id="single"),
        pytest.param(["--multi-node"], [{"head_only": "false"}], id="multi"),
        pytest.param(
            ["--vary", "tp=1,2"],
            [{"tensor_parallel": "1", "head_only": "true"}, {"tensor_parallel": "2"}],
            id="variants",
        ),
    ],
)
def test_each_case_is_deployed_with_its_settings(
    fake: FakeProject, words: list[str], settings: list[dict[str, str]]
) -> None:
    assert fake.all("--yes", "--models", "a", *words).code == 0
    common = {"rollback": "false", "model": "org/a"}
    assert fake.deploys == [{**common, **each} for each in settings]
    rows = fake.results.results
    assert [row.nodes for row in rows] == [
        1 if s.get("head_only") == "true" else 2 for s in settings
    ]
    if len(rows) > 1:
        assert any(row.pareto for row in rows)
        assert "Pareto front" in (fake.out / "summary.txt").read_text()


def test_the_previously_served_model_is_served_again(fake: FakeProject) -> None:
    fake.deploy("c", head_only="true", mem_fraction="0.7")
    before = fake.read("served.json")
    done = fake.all("--yes", "--models", "a", "--output-dir", "again")
    assert done.code == 0
    assert fake.read("served.json") == before
    assert "org/c is served again\n" in done.err
    fake.all("--yes", "--models", "a", "--no-restore", "--output-dir", "third")
    assert fake.served == "org/a"


def test_a_failed_restore_is_reported_and_counts(fake: FakeProject) -> None:
    fake.deploy("c")
    fake.fails(c="dies")
    done = fake.all("--yes", "--models", "a", "--output-dir", "again")
    assert done.code == 1
    assert "org/c is not served again: fake-2: sglang-worker-1 has ended" in done.err


def test_formats_for_pipes(measured: FakeProject) -> None:
    done = measured.all("--yes", "--resume", "out", "--csv")
    assert done.out == (measured.out / "results.csv").read_text()
    done = measured.all("--yes", "--resume", "out", "--json")
    assert done.out == (measured.out / "results.json").read_text()
    done = measured.all("--yes", "--resume", "out", "--markdown")
    assert "| a | 2 | 2 | " in done.out
    assert "| a | pp8 (c" in done.out
    assert "| a | tg4 (c" in done.out
    assert " ± " in done.out
    assert len(measured.deploys) == 1


def test_a_second_run_into_a_folder_is_refused(measured: FakeProject) -> None:
    done = measured.all("--yes", "--models", "a")
    assert done.code == 2
    assert "already holds a run: continue it with --resume out" in done.err
    assert len(measured.deploys) == 1


@pytest.mark.parametrize(
    "words, expected",
    [
        pytest.param(["--models", "a,b"], "--models: a -> a,b", id="models"),
        pytest.param(["-n", "5"], "--num-prompts: 3 -> 5", id="load"),
        pytest.param(["--vary", "tp=1"], "--vary: (none) -> tp=1", id="variants"),
    ],
)
def test_a_changed_job_is_refused(measured: FakeProject, words: list[str], expected: str) -> None:
    done = measured.all("--dry-run", "--resume", "out", *words)
    assert done.code == 2
    assert expected in done.err
    assert len(measured.deploys) == 1


def test_a_job_whose_surroundings_changed_is_refused(measured: FakeProject) -> None:
    inventory = measured.folder / "inventories/spark.py"
    before = inventory.read_text()
    inventory.write_text("head = ['another']\n")
    done = measured.all("--yes", "--resume", "out")
    inventory.write_text(before)
    assert done.code == 2
    assert "the job has changed" in done.err
    assert "settings_sha256: " in done.err


def test_ctrl_c_drops_the_model_under_way_and_restores(fake: FakeProject) -> None:
    fake.deploy("c")
    fake.fails(b="stuck")
    process = fake.start("--yes", "--models", "a,b")
    assert fake.stuck.wait(60)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "to resume: spark-bench all --resume out\n" in err
    assert fake.statuses == {"a": "OK"}
    assert fake.served == "org/c"
    assert fake.results.restored == "org/c is served again"
    assert not fake.results.finished
    fake.fails()
    assert fake.all("--yes", "--resume", "out").code == 0
    assert fake.statuses == {"a": "OK", "b": "OK"}
    assert [deploy["model"] for deploy in fake.deploys] == [
        *("org/c", "org/a", "org/b", "org/c", "org/b", "org/c"),
    ]


def test_two_at_once_are_refused(fake: FakeProject) -> None:
    fake.fails(a="stuck")
    with fake.start("--yes", "--models", "a") as process:
        assert fake.stuck.wait(60)
        done = fake.all("--yes", "--resume", "out")
        process.terminate()
        process.communicate(timeout=60)
    assert done.code == 2
    assert "another spark-bench all is writing to" in done.err
    assert process.returncode == 130
