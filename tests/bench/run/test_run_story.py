"""A run as a user types it: what it prints, writes and leaves behind, and what it costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from run_here import run, short
from spark_bench.cli import main
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.codec import read_result

FAST = {"ttft_us": 2_000, "itl_us": 1_000}
SHORT = [*short(), "--no-metrics"]
MOST_BYTES = 125e6


def python(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in a folder of its own."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def typed(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(here, "-m", "spark_bench", "run", *words)


def test_a_default_run_writes_its_file_table_and_summary(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    """The profile, its file in the folder it always goes to, the table, and a line for people."""
    reference.configure(**FAST)
    done = typed(tmp_path, "quick", "-o", "16", "--url", f"{reference.url}/v1/")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "benchmark_results").iterdir()
    assert re.fullmatch(r"bench_quick_\d{8}_\d{6}\.json", file.name)
    result = read_result(file)
    assert result.config.overrides == {"output_len": 16}
    assert (result.config.profile, result.config.input_len) == ("quick", 128)
    assert result.config.command[:3] == ("spark-bench", "run", "quick")
    assert result.config.url == reference.url
    assert result.summary.completed == 10
    assert result.config.warmup == 10  # by itself: one round, as it is half of the load
    assert f"written to benchmark_results/{file.name}" in done.stdout
    assert (
        "10 of 10 completed" in done.stdout
        and "all 10 prompts were as long as requested" in done.stdout
    )
    assert done.stderr.startswith("quick: prompts and warm-up ...\nquick: 10 requests;")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_is_all_of_stdout(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    done = typed(tmp_path, *SHORT, "--json", "--output", "mine.json", "--url", reference.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "mine.json").read_text())
    assert "8 of 8 completed" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json"]


def test_quiet_is_quiet(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    ran = run(reference.url, *SHORT, "--quiet", here=tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert ran.result.summary.completed == 8


def test_quiet_json_is_a_document_alone(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    ran = run(reference.url, *SHORT, "--quiet", "--json", here=tmp_path)
    assert json.loads(ran.out)["summary"]["completed"] == 8 and not ran.err


def test_the_url_of_the_environment(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    words = ["run", *SHORT, "--warmup", "0", "--quiet", "--output", str(tmp_path / "x.json")]
    done = CliRunner().invoke(main, words, env={"SPARK_BENCH_URL": reference.url})
    assert done.exit_code == 0, done.stderr
    assert read_result(tmp_path / "x.json").config.url == reference.url


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    ran = run("http://127.0.0.1:1", *short(), here=tmp_path)
    assert ran.code == 1
    assert "127.0.0.1:1: Connection refused; is the server running? check --url" in ran.err


def test_saved_requests_are_pandas_in_a_line(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    ran = run(reference.url, *SHORT, "--save-requests", "--repeat", "2", here=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.result.requests_file == "run.requests.jsonl"
    rows = pd.read_json(tmp_path / "run.requests.jsonl", lines=True)
    assert rows.groupby("repeat").size().to_dict() == {0: 8, 1: 8}
    assert rows.ok.all() and set(rows.output_tokens) == {8}
    ttft = rows.token_gaps_ns.str[0] / 1e6
    assert ttft.mean() == pytest.approx(ran.result.summary.mean_ttft_ms, rel=0.05)
    assert (rows.sent_ns >= rows.scheduled_ns).all() and (rows.scheduled_ns >= 0).all()


def test_repeats_have_intervals(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    ran = run(reference.url, *SHORT, "--repeat", "3", here=tmp_path)
    result = ran.result
    assert ran.code == 0 and [repeat.repeat for repeat in result.repeats] == [0, 1, 2]
    assert result.summary.completed == 24
    each = [repeat.summary.mean_ttft_ms or 0.0 for repeat in result.repeats]
    interval = result.intervals["mean_ttft_ms"]
    assert interval.low <= sorted(each)[1] <= interval.high
    assert result.summary.mean_ttft_ms == sorted(each)[1]
    assert "8 prompts, 3 times" in ran.out


def test_goodput(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST | {"ttft_us": 100_000, "max_running": 4})
    ran = run(reference.url, *short(c=8), "--slo", "ttft=150", "--warmup", "0", here=tmp_path)
    summary = ran.result.summary
    assert summary.slo_attainment == 0.5  # the second four waited for the first
    assert summary.request_goodput == pytest.approx((summary.request_throughput or 0) / 2)
    assert ran.result.config.slo == {"ttft": 150.0}


# The kernel's own account of a process' largest size, told as it ends; a child's ru_maxrss would
# begin with the size of the tests' process.
TELLING = """
import atexit, sys
from spark_bench.cli import main
atexit.register(lambda: print(open("/proc/self/status").read(), file=sys.stderr))
main()
"""


def test_a_run_is_small(reference: ReferenceServer, tmp_path: Path) -> None:
    """256 streams, 3 x 128 tokens each, its tables and files included."""
    reference.configure(ttft_us=50_000, itl_us=10_000)
    words = ["-n", "768", "-c", "256", "-i", "128", "-o", "128", "--save-requests"]
    done = python(
        tmp_path, "-c", TELLING, "run", *words, "--output", "x.json", "--url", reference.url
    )
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "x.json")
    assert result.summary.total_output_tokens == 768 * 128
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert result.audit.peak_rss_bytes <= int(peak) * 1024 <= MOST_BYTES


def test_unneeded_libraries_are_not_imported(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**FAST)
    code = (
        "import sys; from spark_bench.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'pandas', 'scipy', 'tokenizers'} & set(sys.modules)))"
    )
    words = ["run", *short(), "--output", "x.json", "--quiet", "--url", reference.url]
    done = python(tmp_path, "-c", code, *words)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
