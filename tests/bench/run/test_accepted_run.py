"""Accepted lengths of a run against the reference server, whose chunks have known tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from run_here import Ran, read_result, run
from spark_bench.metrics.accepted import Accepted
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.schema import Result

LOAD = ("-n", "12", "-c", "4", "-i", "32", "-o", "81", "--warmup", "0", "--repeat", "2")


def measured(reference: ReferenceServer, here: Path, *words: str) -> tuple[Ran, Accepted]:
    ran = run(reference.url, *LOAD, *words, here=here)
    assert ran.code == 0, ran.err
    accepted = ran.result.accepted
    assert isinstance(accepted, Accepted)
    return ran, accepted


def test_every_step_is_as_long_as_the_server_sent_it(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    reference.configure(ttft_us=5_000, itl_us=8_000, k=5, drafts=1)
    ran, accepted = measured(reference, tmp_path / "r")
    streams = ran.streams(reference.dump())
    assert len(streams) == 24
    truth = np.concatenate([stream.token_counts[1:-1] for stream in streams])
    # A machine that is busy may deliver an event so late that it may hold two.
    assert sum(accepted.steps) + accepted.left_out == truth.size
    assert accepted.left_out < truth.size / 4
    assert (accepted.unclear, accepted.source) == ("", "usage")
    assert abs(accepted.mean - truth.mean()) < 0.1 and len(accepted.steps) == 5
    assert accepted.engine and abs(accepted.engine - 3.0) < 0.1
    line = next(line for line in ran.out.splitlines() if line.startswith("accepted"))
    assert f"{accepted.mean:.2f} tokens per step" in " ".join(line.split())
    (file,) = (tmp_path / "r").glob("*.json")
    again: Result = read_result(file)
    assert again.accepted == accepted and all(each.accepted for each in again.repeats)


def test_chunks_of_a_stream_interval_are_not_taken_for_steps(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    reference.configure(ttft_us=5_000, itl_us=8_000, k=4)
    ran, accepted = measured(reference, tmp_path / "r", "--no-metrics")
    assert (accepted.mean, accepted.engine) == (4.0, None)
    assert accepted.unclear.startswith("nothing says that the engine speculates")
    assert "accepted    not known from the stream: nothing says" in ran.out
