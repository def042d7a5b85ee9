"""Failures are results: each under its own name, with its cure, and none of them a crash."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from awkward_network import closed_port
from awkward_server import AwkwardServer
from run_here import run, short
from spark_bench.ruler.ruler import Ruler

QUIET = ["--quiet", "--no-metrics"]


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        pytest.param("rate_limited", "http_429", id="429"),
        pytest.param("server_error", "http_500", id="500"),
        pytest.param("bad_gateway", "http_502", id="502"),
        pytest.param("unavailable", "http_503", id="503"),
        pytest.param("cut_by_reset", "reset", id="reset"),
        pytest.param("cut_by_close", "cut", id="cut"),
        pytest.param("closes_unanswered", "cut", id="unanswered"),
        pytest.param("malformed_chunk", "malformed_http", id="malformed-chunk"),
        pytest.param("not_http", "malformed_http", id="not-http"),
        pytest.param("malformed_json", "malformed_json", id="malformed-json"),
        pytest.param("wrong_model", "wrong_model", id="wrong-model"),
        pytest.param("error_in_stream", "stream_error", id="error-in-stream"),
        pytest.param("no_tokens", "no_tokens", id="no-tokens"),
    ],
)
def test_each_fault_has_its_name_and_its_cure(
    awkward: AwkwardServer, tmp_path: Path, behaviour: str, kind: str
) -> None:
    ran = run(awkward.at(behaviour), *short(n=3, c=3, o=4), "--no-metrics", here=tmp_path)
    assert ran.code == 1
    result = ran.result
    assert result.status == "complete" and result.summary.failures == {kind: 3}
    assert result.summary.completed == 0 and result.summary.mean_ttft_ms is None
    said = " ".join(ran.out.split())
    assert f"failed 3 {kind}: " in said
    assert "3 of 3 requests failed: see the failures above" in ran.err


@pytest.mark.parametrize("behaviour", ["never_ends", "goes_silent", "never_answers"])
def test_no_answer_takes_longer_than_the_timeout(
    awkward: AwkwardServer, tmp_path: Path, behaviour: str
) -> None:
    words = [*short(n=3, c=3, o=4), "--timeout", "0.3", "--warmup", "0"]
    started = time.monotonic()
    ran = run(awkward.at(behaviour), *words, *QUIET, here=tmp_path)
    assert ran.code == 1 and ran.result.summary.failures == {"timeout": 3}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        pytest.param("unauthorized", "401: set SPARK_BENCH_API_KEY or --api-key-file", id="401"),
        pytest.param("not_found", "check --url and --endpoint", id="404"),
        pytest.param("no_such_model", "give a name that the server lists", id="model"),
        pytest.param("ignores_stream", "use an endpoint that streams", id="no-stream"),
    ],
)
def test_what_no_load_can_get_over_ends_the_run(
    awkward: AwkwardServer, tmp_path: Path, behaviour: str, words: str
) -> None:
    ran = run(awkward.at(behaviour), *short(), *QUIET, here=tmp_path)
    assert ran.code == 1 and not ran.results
    assert words in ran.err and ran.err.count("\n") == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with closed_port() as url:
        ran = run(url, *short(), *QUIET, here=tmp_path)
    assert ran.code == 1 and not ran.results
    assert ran.err == f"Error: {url}: Connection refused; is the server running? check --url\n"


def test_a_server_that_dies_half_way(tmp_path: Path) -> None:
    """What was answered counts; what was not is told by its kind, and the rest was refused."""
    with Ruler() as ruler:
        ruler.configure(ttft_us=50_000, itl_us=10_000)
        killing = threading.Timer(2.0, os.kill, (ruler.pid, signal.SIGKILL))
        killing.start()
        words = [*short(n=60, c=4, o=32), "--warmup", "0", "--repeat", "2"]
        ran = run(ruler.url, *words, "--no-metrics", here=tmp_path)
        killing.join()
    summary = ran.result.summary
    assert ran.code == 1
    assert summary.completed >= 4
    assert set(summary.failures) <= {"refused", "reset", "cut"} and "refused" in summary.failures
    assert summary.mean_itl_ms == pytest.approx(10, abs=1)
    assert "start the server" in ran.out
    # The second repeat had no prompts: the server's tokenizer is gone with it.
    assert ran.result.status == "partial" and "/tokenize" in ran.result.reason


@pytest.mark.parametrize(("limit", "code"), [("1", 1), ("25%", 0)])
def test_the_exit_code_is_by_max_failures(
    ruler: Ruler, tmp_path: Path, limit: str, code: int
) -> None:
    ruler.configure(ttft_us=1000, itl_us=1000, fail_every=4)
    words = [*short(), "--warmup", "0", "--max-failures", limit]
    ran = run(ruler.url, *words, *QUIET, here=tmp_path)
    assert ran.result.summary.failures == {"http_500": 2}
    assert ran.code == code
    assert bool(ran.err) == bool(code)


# ---- nowhere to write --------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(
    ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ruler.configure(ttft_us=1000, itl_us=1000)
    ran = run(ruler.url, *short(), "--no-metrics", "--output", "/dev/full")
    assert ran.code == 1
    assert "/dev/full can't be written: No space left on device" in ran.err
    assert f"It is printed, and written to {tmp_path / 'full'} instead." in ran.err
    assert (tmp_path / "full").read_text() == ran.out
    assert '"completed": 8' in ran.out
    assert "8 of 8 answered" in ran.err  # the tables make room for it


def test_requests_that_can_not_lie_beside_it(
    ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ruler.configure(ttft_us=1000, itl_us=1000)
    (tmp_path / "run" / "run.requests.jsonl").mkdir(parents=True)
    ran = run(ruler.url, *short(), *QUIET, "--save-requests", here=tmp_path / "run")
    assert ran.code == 1
    (spare,) = tmp_path.glob("spark-bench-*/run.requests.jsonl")
    assert spare.read_text().count("\n") == 8
    assert f"The requests were written to {spare} instead." in ran.err
    assert ran.result.requests_file is None
