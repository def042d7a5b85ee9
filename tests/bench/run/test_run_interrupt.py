"""Ctrl-C and SIGTERM: what was measured is kept; a second one ends at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_server import FaultyServer
from run_here import short
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.codec import read_result
from spark_bench.run.context import Interrupts
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.sampling import END_SECONDS, Sampling
from waiting import until

PACED = {"ttft_us": 50_000, "itl_us": 10_000}


@contextmanager
def running(url: str, here: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`spark-bench run` as a user has it, in a folder of its own."""
    argv = [sys.executable, "-m", "spark_bench", "run", *words, "--url", url]
    process = subprocess.Popen(
        [*argv, "--output", str(here / "run.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(reference: ReferenceServer, requests: int) -> None:
    """Until so many have been answered."""
    until(lambda: sum(s.done_ns > 0 for s in reference.dump()) >= requests, "no such run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_partial_result(
    reference: ReferenceServer, tmp_path: Path, number: signal.Signals
) -> None:
    reference.configure(**PACED)
    with running(reference.url, tmp_path, *short(n=400, c=4, o=100), "--warmup", "0") as process:
        wait_for(reference, 8)
        # All four end at the same moment: a busy client may not have sent the next ones yet.
        until(lambda: reference.stats().running, "the load ended")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = read_result(tmp_path / "run.json")
    summary = result.summary
    assert (result.status, result.reason) == ("partial", "stopped by Ctrl-C")
    assert 4 <= summary.completed < 396
    assert summary.mean_itl_ms is not None and summary.mean_itl_ms > 0
    # Requests under way are reported as such; a busy client may be about to send one.
    under_way = summary.failures.pop("interrupted")
    assert 1 <= under_way <= 4 and not summary.failures
    assert f"{summary.completed} of {summary.completed + under_way} completed" in out
    assert "Traceback" not in err


def test_a_second_ctrl_c_ends_at_once(faulty: FaultyServer, tmp_path: Path) -> None:
    """The first one waits for nothing either, but for the server's last metrics."""
    url = faulty.at("never_answers")
    with running(url, tmp_path, *short(n=4, c=4), "--warmup", "0") as process:
        until(lambda: faulty.calls and faulty.calls[-1].method == "POST")
        # No figure is there yet: the probes are still unanswered.
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)  # an answer would be waited for 600 s
    assert process.returncode == 130
    assert err.strip().endswith("Aborted") and "Traceback" not in err
    assert not (tmp_path / "run.json").exists()


def test_between_repeats_the_first_is_kept(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**PACED)
    words = [*short(n=8, c=8), "--warmup", "0", "--repeat", "50"]
    with running(reference.url, tmp_path, *words) as process:
        wait_for(reference, 2 + 8 + 8)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = read_result(tmp_path / "run.json")
    assert result.status == "partial"
    assert 2 <= len(result.repeats) < 50
    assert all(repeat.summary.completed == 8 for repeat in result.repeats[:2])


def test_a_sweep_keeps_its_points(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(**PACED)
    words = ["-n", "64", "-i", "16", "-o", "8", "--sweep", "concurrency=32,64", "--warmup", "0"]
    with running(reference.url, tmp_path, *words) as process:
        wait_for(reference, 2 + 64)
        reference.configure(**PACED | {"ttft_us": 2_000_000})
        until(lambda: reference.stats().running)  # the second point has begun
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    statuses = [read_result(file).status for file in sorted(tmp_path.glob("run_c*.json"))]
    assert statuses[0] == "complete" and statuses[1:] in ([], ["partial"])
    assert "written to run_c32.json" in out or "run_c32.json" in out


def test_two_interrupts_during_a_load(reference: ReferenceServer, tmp_path: Path) -> None:
    """The second comes while the first is being answered: nothing hangs, nothing is half."""
    reference.configure(**PACED)
    with running(reference.url, tmp_path, *short(n=400, c=4), "--warmup", "0") as process:
        wait_for(reference, 8)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    if (tmp_path / "run.json").exists():
        assert read_result(tmp_path / "run.json").status == "partial"


def test_a_signal_between_two_loads_is_not_forgotten() -> None:
    stops: list[str] = []
    interrupts = Interrupts(lambda: stops.append("stop"))
    interrupts.worth = True
    interrupts.handle(signal.SIGINT, None)
    interrupts.watch()  # in the load that has begun meanwhile
    assert stops == ["stop", "stop"] and interrupts.came
    with pytest.raises(KeyboardInterrupt):
        interrupts.handle(signal.SIGINT, None)


def test_the_first_ctrl_c_ends_a_run_with_nothing_to_keep() -> None:
    interrupts = Interrupts(lambda: None)
    interrupts.watch()
    with pytest.raises(KeyboardInterrupt):
        interrupts.handle(signal.SIGTERM, None)


def test_a_canceled_sampler_ends_at_once(reference: ReferenceServer) -> None:
    sampling = Sampling.start(SamplerJob(url=reference.url))
    started = time.monotonic()
    sampling.cancel()
    assert time.monotonic() - started < END_SECONDS, "it was killed, not waited for"
    assert sampling.ended
