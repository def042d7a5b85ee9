"""Figures against the truth: who is right, by which definition, and what is not to be judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from peers.actual import actual, steady_rate
from peers.reported import Reported, from_aiperf, from_ours, from_sglang
from peers.scoring import errors, wrong
from spark_bench.reference_server.streams import Flags, ReferenceApi, Stream

MS = 1_000_000
BEGAN = 1_000 * MS


def stream(
    number: int = 0,
    *,
    tokens: int = 128,
    per_chunk: int = 1,
    hidden: int = 0,
    gap_ms: float = 10.0,
    asked_ms: float = 0.0,
    flags: Flags = Flags.FINISHED,
) -> Stream:
    """An answer that was given exactly as set: first token after 200 ms."""
    chunks = -(-(tokens - hidden) // per_chunk)
    requested_ns = BEGAN + round(asked_ms * MS)
    sent = requested_ns + np.array([(200 + gap_ms * n) * MS for n in range(chunks)], np.int64)
    return Stream(
        id=number,
        api=ReferenceApi.CHAT,
        flags=flags,
        chunks=chunks,
        per_chunk=per_chunk,
        tokens=tokens,
        hidden=hidden,
        reasoning=0,
        prompt_tokens=128,
        earlier=0,
        blocked=0,
        accepted_ns=requested_ns,
        received_ns=requested_ns,
        asked_ns=requested_ns,
        started_ns=requested_ns,
        role_ns=requested_ns,
        done_ns=int(sent[-1]),
        sent_ns=sent,
        left_ns=sent,
    )


def reported(**changes: object) -> Reported:
    """By a client that makes no mistake with one `stream()`."""
    figures = {"mean": 10.0, "p50": 10.0, "p99": 10.0}
    first = dict.fromkeys(figures, 200.0)
    right = Reported(1, 128, 128 / 1.47, first, figures, 10.0)
    return replace(right, **changes)  # type: ignore[arg-type]


def test_a_correct_client_has_no_wrong_figures() -> None:
    true = actual([stream()])
    assert wrong(reported(), true) == []
    assert max(map(abs, errors(reported(), true).values())) < 1e-6


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        pytest.param({"completed": 2}, "successes", id="one success too many"),
        pytest.param({"tokens": 129}, "tokens", id="one token too many"),
        pytest.param({"throughput": 90.0}, "tok/s", id="throughput 3 % high"),
        pytest.param({"ttft": {"mean": 205.0}}, "TTFT", id="TTFT 2.5 % high"),
        pytest.param({"itl": {"mean": 40.0}}, "ITL", id="ITL of chunks"),
        pytest.param({"tpot": 5.0}, "TPOT", id="TPOT of twice the tokens"),
    ],
)
def test_each_wrong_figure_is_named(changes: dict[str, object], figure: str) -> None:
    figures = wrong(reported(**changes), actual([stream()]))
    assert len(figures) == 1
    assert figures[0].startswith(f"{figure} ")


def test_a_figure_that_is_not_reported_is_not_wrong() -> None:
    assert wrong(reported(ttft={}, itl={}, tpot=None), actual([stream()])) == []


def test_broken_answers_are_not_successes() -> None:
    streams = [stream(0), stream(1, flags=Flags.ERROR_EVENT), stream(2, flags=Flags.CUT)]
    true = actual(streams)
    assert (true.completed, true.tokens, true.sent) == (1, 128, 3 * 128)


def test_gaps_of_several_tokens_are_shared_out_unless_reported_by_chunk() -> None:
    true = actual([stream(per_chunk=4, gap_ms=40.0)])
    assert true.itl["mean"] == pytest.approx(10.0)
    assert true.icl["mean"] == pytest.approx(40.0)
    by_chunk = reported(itl={"mean": 40.0}, by_chunk=True, throughput=true.throughput)
    assert wrong(by_chunk, true) == []


@pytest.mark.parametrize("tpot", [31 * 40 / 127, 31 * 40 / 124], ids=["n - 1", "after the first"])
def test_both_definitions_of_tpot_are_right(tpot: float) -> None:
    true = actual([stream(per_chunk=4, gap_ms=40.0)])
    assert wrong(reported(tpot=tpot, throughput=true.throughput), true) == []


def test_hidden_tokens_count_as_tokens_but_not_in_tpot() -> None:
    true = actual([stream(hidden=3)])
    assert true.tokens == 128
    assert true.tpot == pytest.approx(10.0)
    assert wrong(reported(tpot=124 * 10 / 127, throughput=true.throughput), true)


def test_latencies_count_from_the_clients_send_where_that_is_given() -> None:
    true = actual([stream(7)], {7: BEGAN - 5 * MS})
    assert true.ttft["mean"] == pytest.approx(205.0)
    assert true.accept["mean"] == pytest.approx(5.0)


def test_data_in_buffers_does_not_count_as_read() -> None:
    """Two slots, two answers each; only those before the last question are surely read."""
    streams = [stream(0), stream(1), stream(2, asked_ms=2000), stream(3, asked_ms=2000)]
    assert steady_rate(streams) == pytest.approx(2 * 128 / 2.0)


def test_the_keys_of_sglang() -> None:
    result = {
        "completed": 3,
        "total_output_tokens": 384,
        "output_throughput": 10.5,
        "mean_ttft_ms": 1.0,
        "median_ttft_ms": 2.0,
        "p99_ttft_ms": 3.0,
        "mean_tpot_ms": None,
    }
    parsed = from_sglang(result)
    assert parsed.ttft == {"mean": 1.0, "p50": 2.0, "p99": 3.0}
    assert (parsed.itl, parsed.tpot, parsed.completed, parsed.tokens) == ({}, None, 3, 384)


def test_the_keys_of_aiperf() -> None:
    result = {
        "request_count": {"avg": 6.0},
        "total_output_tokens": {"avg": 768.0},
        "output_token_throughput": {"avg": 260.0},
        "time_to_first_token": {"avg": 201.0, "p50": 200.0, "p99": 210.0},
        "inter_chunk_latency": {"avg": 40.0, "p50": 40.0, "p99": 41.0},
        "inter_token_latency": {"avg": 9.8},
    }
    parsed = from_aiperf(result)
    assert (parsed.completed, parsed.tokens, parsed.tpot, parsed.by_chunk) == (6, 768, 9.8, True)
    assert parsed.itl["mean"] == 40.0
    assert from_aiperf({}).completed == 0


def test_each_client_states_how_it_counts_event_tokens() -> None:
    summary = {"completed": 1, "total_output_tokens": 10, "output_throughput": 1.0}
    assert from_sglang(summary).counting == from_aiperf({}).counting == "one an event"
    assert from_ours(summary | {"itl_source": {"usage": 1.0}}).counting == "usage"
    mixed = from_ours(summary | {"itl_source": {"even": 0.1, "chunk": 0.9}})
    assert mixed.counting == "90% chunk, 10% even"
