"""What `verify` decides, by cases; and one load against the reference server."""

from __future__ import annotations

import io
import os
import time
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console
from spark_bench.client.audit import Audit, Spread
from spark_bench.client.recorder import Recorder
from spark_bench.display.progress import Silent
from spark_bench.errors import BadInput
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Flags, ReferenceApi, Stream
from spark_bench.results.provenance import read_machine
from spark_bench.selftest import accuracy, selftest, verdict
from spark_bench.selftest.accuracy import Deviation, StreamLevel
from spark_bench.selftest.bench import LoadShape, Observation, connect_bench
from spark_bench.selftest.selftest import (
    Cores,
    LineProgress,
    MachineUsage,
    SelftestReport,
    choose_cores,
    parse_stat,
    pick_two,
    pin_thread,
    read_usage,
    usage_shares,
)
from spark_bench.selftest.selftest_tables import render_selftest
from spark_bench.selftest.verdict import ClientCapacity, Surroundings

EXACT = {
    "mean": Deviation(100.002, 100.0, 2.0, 0.002),
    "p50": Deviation(100.002, 100.0, 2.0, 0.002),
    "p99": Deviation(100.004, 100.0, 4.0, 0.004),
}
FAR = EXACT | {"p99": Deviation(104.0, 100.0, 4000.0, 4.0)}


def make_level(streams: int = 64, **changes: Any) -> StreamLevel:
    """A good one, but for the changes."""
    good = StreamLevel(
        streams=streams,
        itl_ms=10.0,
        requests=4 * streams,
        tokens=164 * streams,
        chunks_per_s=streams * 100.0,
        paced=1.0,
        miscounted=0,
        failures={},
        stamp_us=Spread(4.0, 20.0, 200.0),
        stamp_min_us=2.0,
        ttft=EXACT,
        itl=EXACT,
        accept_us=Spread(40.0, 700.0, 900.0),
        cpu_us=13.5,
        read_us=5.2,
        core=0.3,
        audit=Audit(clock="kernel", peak_rss_bytes=90_000_000),
    )
    return replace(good, **changes)


def make_capacity(**changes: Any) -> ClientCapacity:
    good = ClientCapacity(
        paced=50_000.0,
        limit="client",
        tried={20_000: True, 50_000: True, 60_000: False},
        unpaced=160_000.0,
        requests=20_000.0,
        slots=64,
        request_us=50.0,
    )
    return replace(good, **changes)


def make_surroundings(
    machine_changes: dict[str, Any] | None = None, **changes: Any
) -> Surroundings:
    usual = replace(
        read_machine(), usable_cores=4, governor="performance", load_average=(0.2, 0.2, 0.2)
    )
    quiet = Surroundings(
        machine=replace(usual, **machine_changes or {}),
        client_core=1,
        ruler_core=0,
        others=0.1,
        stolen=0.0,
        throttled=0,
    )
    return replace(quiet, **changes)


# ---- what is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "itl_ms", "seconds", "expected"),
    [
        pytest.param(64, 10.0, 2.0, LoadShape(64, 4, 41, 100.0, 10.0), id="default"),
        pytest.param(1, 1.0, 2.0, LoadShape(1, 4, 401, 100.0, 1.0), id="fast"),
        pytest.param(1, 500.0, 1.0, LoadShape(1, 4, 3, 50.0, 500.0), id="two-gaps-at-least"),
    ],
)
def test_a_level_lasts_about_as_long_as_requested(
    streams: int, itl_ms: float, seconds: float, expected: LoadShape
) -> None:
    assert LoadShape.lasting(seconds, streams, itl_ms) == expected


def test_a_paced_load_has_its_rate() -> None:
    load = LoadShape.at_rate(40_000, 1.0)
    assert load.chunks_per_s == 40_000
    assert load.requests == load.slots == 400
    assert load.server_settings == {"ttft_us": 300_000, "itl_us": 10_000}


# ---- cores and what else runs on them ----------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "capacity", "sibling", "expected"),
    [
        pytest.param({3}, {}, {}, None, id="one"),
        pytest.param({0, 1}, {}, {}, Cores(1, 0), id="two"),
        pytest.param({0, 1, 2, 3}, {0: 718, 1: 718, 2: 1024, 3: 1024}, {}, Cores(3, 2), id="fast"),
        pytest.param({0, 1, 2, 3}, {}, {0: 0, 1: 1, 2: 0, 3: 1}, Cores(3, 2), id="not-siblings"),
        pytest.param({1, 3}, {}, {1: 1, 3: 1}, Cores(3, 1), id="siblings-alone"),
    ],
)
def test_two_cores_are_picked_for_client_and_server(
    allowed: set[int], capacity: dict[int, int], sibling: dict[int, int], expected: Cores | None
) -> None:
    assert pick_two(allowed, capacity, sibling) == expected


def test_this_machines_cores_are_among_those_allowed() -> None:
    allowed = os.sched_getaffinity(0)
    cores = choose_cores()
    assert (
        cores is None if len(allowed) == 1 else cores and {cores.client, cores.reference} <= allowed
    )


def test_a_pin_is_taken_back() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), pin_thread(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "cpu  100 20 30 800 50 5 7 8 3 2\ncpu0 1 2\n", MachineUsage(1.5, 0.08, 10.2), id="all"
        ),
        pytest.param("cpu  100 0 0 100\n", MachineUsage(1.0, 0.0, 2.0), id="old-kernel"),
        pytest.param("", MachineUsage(0.0, 0.0, 0.0), id="no-proc"),
    ],
)
def test_proc_stat(text: str, expected: MachineUsage) -> None:
    assert parse_stat(text, 100) == expected


def test_usage_by_others_is_the_remaining_load() -> None:
    before, after = MachineUsage(100.0, 10.0, 1000.0, 3), MachineUsage(112.0, 11.0, 1020.0, 5)
    assert usage_shares(before, after, ours=7.0, seconds=10.0) == (0.5, 0.05, 2)
    assert usage_shares(before, before, ours=0.1, seconds=10.0) == (0.0, 0.0, 0)


def test_work_shows_in_the_usage() -> None:
    before, until = read_usage(), time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    after = read_usage()
    assert 0.05 < after.busy - before.busy <= after.total - before.total + 0.02


# ---- reported beside true ----------------------------------------------------------------------


def make_observation(late_ns: list[int]) -> Observation:
    """A stream of three chunks, observation so much later; sent at 1 s, asked at 1.001."""
    sent = np.array([1_100_000_000, 1_110_000_000, 1_120_000_000], np.int64)
    request = Request(
        index=0,
        sent_ns=1_000_000_000,
        token_ns=sent[: len(late_ns)] + np.array(late_ns, np.int64),
        token_counts=np.ones(len(late_ns), np.int32),
        output_tokens=3,
        asked_output=3,
        counted_by="chunk",
        usage=True,
    )
    times = dict.fromkeys(("received_ns", "asked_ns", "started_ns"), 1_001_000_000)
    times["accepted_ns"] = 900_000_000
    counts = dict.fromkeys(("hidden", "reasoning", "prompt_tokens", "earlier", "blocked"), 0)
    stream = Stream(
        id=17,
        api=ReferenceApi.CHAT,
        flags=Flags.FINISHED,
        chunks=3,
        per_chunk=1,
        tokens=3,
        role_ns=int(sent[0]),
        done_ns=int(sent[-1]),
        sent_ns=sent,
        left_ns=sent,
        **times,
        **counts,
    )
    audit = Audit(clock="kernel", cpu_seconds=0.003, wall_seconds=0.1, parse_seconds=0.0015)
    return Observation([request], {0: 17}, [stream], audit, summarize(TimedRequests([request])), {})


def test_a_level_is_the_difference_from_the_truth() -> None:
    level = accuracy.compare_with_truth(
        LoadShape(1, 1, 3, 100.0, 10.0), make_observation([5_000, 10_000, 6_000])
    )
    assert level.stamp_us.p50 == 6.0
    assert level.stamp_us.max == 10.0
    assert level.stamp_min_us == 5.0
    assert level.ttft["mean"] == Deviation(100.005, 100.0, 5.0, 0.005)
    assert level.itl["mean"] == Deviation(10.0005, 10.0, 0.5, 0.005)
    assert level.accept_us.p50 == 1000.0
    assert (level.chunks_per_s, level.paced) == (100.0, 1.0)
    assert (level.cpu_us, level.read_us, level.core) == (1000.0, 500.0, 0.03)
    assert (level.tokens, level.miscounted, level.failures) == (3, 0, {})


def test_a_chunk_that_was_not_seen_is_a_miscount() -> None:
    level = accuracy.compare_with_truth(LoadShape(1, 1, 3, 100.0, 10.0), make_observation([0, 0]))
    assert (level.tokens, level.miscounted) == (2, 1)


def test_failed_requests_have_no_times() -> None:
    observation = make_observation([0, 0, 0])
    observation.requests[0].failure = "cut"
    level = accuracy.compare_with_truth(
        LoadShape(1, 1, 3, 100.0, 10.0),
        Observation(
            observation.requests,
            observation.ids,
            observation.streams,
            observation.audit,
            summarize(TimedRequests(observation.requests)),
            {},
        ),
    )
    assert level.failures == {"cut": 1}
    assert (level.ttft, level.itl, level.stamp_us) == ({}, {}, Spread())


# ---- the search for the capacity ---------------------------------------------------------------


@pytest.mark.parametrize("limit", [1_250, 3_000, 19_999, 20_000, 26_000, 47_000, 90_000, 155_000])
def test_the_search_comes_close_to_the_limit(limit: int) -> None:
    tried: dict[int, bool] = {}
    while rate := selftest.next_rate(tried):
        tried[rate] = rate <= limit
    best = max(rate for rate, sufficient in tried.items() if sufficient)
    assert best <= limit < best * (1 + 2 * selftest.CLOSE)
    assert len(tried) <= 8


@pytest.mark.parametrize(
    ("tried", "most", "expected"),
    [
        pytest.param({20_000: True}, 30_000, None, id="no-more-connections"),
        pytest.param({160_000: True, 80_000: True}, selftest.MOST, None, id="enough"),
        pytest.param({1_250: False, 2_500: False}, selftest.MOST, None, id="hopeless"),
        pytest.param({20_000: False, 40_000: True}, selftest.MOST, 80_000, id="a-hiccup-before"),
    ],
)
def test_the_search_ends(tried: dict[int, bool], most: int, expected: int | None) -> None:
    assert selftest.next_rate(tried, most) == expected


def test_one_pause_is_not_the_limit() -> None:
    paused, good = make_level(miscounted=1), make_level()
    assert selftest.best_of(2, iter([paused, good]).__next__) is good
    assert selftest.best_of(2, iter([good]).__next__) is good
    assert selftest.best_of(2, iter([good, paused]).__next__) is good
    assert selftest.best_of(2, iter([paused, paused]).__next__) is paused


@pytest.mark.parametrize(
    ("paced", "followed", "expected"),
    [
        pytest.param(1.0, {20_000: True, 40_000: False}, "client", id="client"),
        pytest.param(0.7, {20_000: True, 40_000: False}, "ruler", id="ruler"),
        pytest.param(1.0, {20_000: True, 40_000: True}, "search", id="search"),
    ],
)
def test_the_search_reports_why_it_ended(
    paced: float, followed: dict[int, bool], expected: str
) -> None:
    levels = {rate: make_level(paced=paced) for rate in followed}
    assert selftest.search_limit(levels, followed) == expected


# ---- good enough? ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("true_ms", "error_us", "good"),
    [
        pytest.param(200.0, 1999.0, True, id="one-per-cent"),
        pytest.param(200.0, -2001.0, False, id="more"),
        pytest.param(1.0, 99.0, True, id="small-but-below-a-network"),
        pytest.param(1.0, 101.0, False, id="small-and-above"),
    ],
)
def test_a_figure_is_close(true_ms: float, error_us: float, good: bool) -> None:
    deviation = Deviation(true_ms + error_us / 1e3, true_ms, error_us, error_us / true_ms / 10)
    assert accuracy.is_close(deviation) is good


BAD = [
    pytest.param({"failures": {"reset": 3}}, "3 reset of 256 requests failed", id="failures"),
    pytest.param({"miscounted": 2}, "2 of 256 answers were miscounted", id="miscounts"),
    pytest.param({"paced": 0.9}, "the reference server held 90% of the pace", id="ruler"),
    pytest.param(
        {"stamp_us": Spread(9.0, 1500.0, 9e3)}, "time stamps are off by 1.50 ms at p99", id="stamps"
    ),
    pytest.param(
        {"stamp_min_us": -40.0}, "chunks arrive 40.0 µs before they were sent", id="clock"
    ),
    pytest.param(
        {"audit": Audit(clock="kernel", merged_reads=0.024)},
        "2.4% of chunks shared a read",
        id="merged",
    ),
    pytest.param({"ttft": FAR}, "TTFT p99 is 4.00 ms (4.00%) off", id="ttft"),
    pytest.param({"itl": FAR}, "ITL p99 is 4.00 ms (4.00%) off", id="itl"),
]


@pytest.mark.parametrize(("changes", "problem"), BAD)
def test_an_insufficient_level_has_its_problem_named(changes: dict[str, Any], problem: str) -> None:
    assert list(accuracy.level_problems(make_level())) == []
    assert list(accuracy.level_problems(make_level(**changes))) == [problem]


def test_a_good_machine_reports_its_limit() -> None:
    levels = [make_level(1), make_level(64, stamp_us=Spread(5.0, 31.0, 90.0)), make_level(256)]
    judgment = verdict.judge_levels(levels, make_capacity(), make_surroundings())
    assert judgment.good
    assert (judgment.streams, judgment.chunks_per_s, judgment.causes) == (256, 25_600.0, ())
    assert judgment.sentence == (
        "This machine can measure up to 256 streams at 25,600 tokens/s with time stamps good to "
        "31.0 µs (p99)."
    )
    assert all(aspect.good for aspect in judgment.aspects)


def test_a_machine_is_good_up_to_its_first_problem() -> None:
    levels = [make_level(1), make_level(64, miscounted=1), make_level(256)]
    judgment = verdict.judge_levels(levels, make_capacity(), make_surroundings())
    assert not judgment.good
    assert (judgment.streams, judgment.chunks_per_s) == (1, 100.0)
    assert judgment.sentence.endswith(", but not 64 streams: 1 of 256 answers were miscounted.")


def test_a_machine_that_follows_no_stream_is_not_good() -> None:
    levels = [make_level(1, ttft=FAR)]
    judgment = verdict.judge_levels(levels, make_capacity(), make_surroundings())
    assert (judgment.good, judgment.streams) == (False, 0)
    assert judgment.sentence == (
        "This machine is not good enough to measure from: at 1 stream: "
        "TTFT p99 is 4.00 ms (4.00%) off."
    )


@pytest.mark.parametrize(
    ("levels", "around", "reason"),
    [
        pytest.param(
            {"audit": Audit(clock="process")},
            make_surroundings(),
            "the kernel gave none",
            id="clock",
        ),
        pytest.param({}, make_surroundings(ruler_core=None), "there is one core", id="one-core"),
        pytest.param({}, make_surroundings(throttled=4), "quota stopped the client 4", id="quota"),
        pytest.param({}, make_surroundings(stolen=0.1), "gave 10% of the CPU time", id="steal"),
        pytest.param(
            {},
            make_surroundings({"usable_cores": 2, "load_average": (3.0, 2.0, 1.0)}, others=1.2),
            "other processes used 1.2 of 2 cores (load average 3.0)",
            id="busy",
        ),
        pytest.param(
            {}, make_surroundings({"governor": "powersave"}), "governor is powersave", id="governor"
        ),
        pytest.param(
            {"paced": 0.5}, make_surroundings(), "the reference server itself", id="ruler"
        ),
    ],
)
def test_likely_causes(levels: dict[str, Any], around: Surroundings, reason: str) -> None:
    assert list(verdict.disturbances([make_level()], make_surroundings())) == []
    (cause,) = verdict.disturbances([make_level(**levels)], around)
    assert reason in cause.reason
    assert cause.cure


def test_many_cores_tolerate_other_work() -> None:
    around = make_surroundings({"usable_cores": 20}, others=6.0)
    assert list(verdict.disturbances([make_level()], around)) == []


def test_a_load_beyond_the_client_is_explained() -> None:
    levels = [make_level(64), make_level(1024, miscounted=1)]
    (cause,) = verdict.likely_causes(levels, make_capacity(), make_surroundings())
    assert cause.reason == "102,400 chunks/s are more than this client can follow here"


def test_without_a_likely_cause_it_says_how_to_go_on() -> None:
    (cause,) = verdict.likely_causes([make_level()], make_capacity(), make_surroundings())
    assert cause.cure.startswith("verify again")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, "follows 50,000 chunks/s, not 60,000; ", id="client"),
        pytest.param(
            {"limit": "ruler"}, "chunks/s (the reference server sends no more); ", id="ruler"
        ),
        pytest.param({"limit": "search"}, "chunks/s (more was not tried); ", id="search"),
    ],
)
def test_capacity_in_words(changes: dict[str, Any], words: str) -> None:
    aspects = {
        a.name: a.sentence
        for a in verdict.describe_aspects([make_level()], make_capacity(**changes))
    }
    assert words in aspects["capacity"]


@pytest.mark.parametrize(
    ("level", "paced", "good"),
    [
        pytest.param(make_level(256), 20_000.0, True, id="shown-by-the-streams"),
        pytest.param(make_level(256, miscounted=1), 50_000.0, True, id="shown-by-the-search"),
        pytest.param(make_level(256, miscounted=1), 20_000.0, False, id="not-shown"),
    ],
)
def test_capacity_is_good_where_it_covers_what_is_requested(
    level: StreamLevel, paced: float, good: bool
) -> None:
    aspects = {
        a.name: a.good for a in verdict.describe_aspects([level], make_capacity(paced=paced))
    }
    assert aspects["capacity"] is good


# ---- what is printed ---------------------------------------------------------------------------


def printed(report: SelftestReport) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80, highlight=False)
    for thing in render_selftest(report):
        console.print(thing)
    return stream.getvalue()


def make_report(levels: list[StreamLevel], around: Surroundings) -> SelftestReport:
    return SelftestReport(
        version="1",
        levels=tuple(levels),
        capacity=make_capacity(),
        peak_rss_bytes=130_000_000,
        surroundings=around,
        verdict=verdict.judge_levels(levels, make_capacity(), around),
    )


def test_everything_fits_80_columns() -> None:
    wide = {"mean": Deviation(1e3, 2e3, -12345.6, -49.12)}
    wide |= {"p50": wide["mean"], "p99": wide["mean"]}
    worst = make_level(
        1024,
        stamp_us=Spread(123_456.0, 234_567.0, 345_678.0),
        accept_us=Spread(12_345.0, 123_456.0, 1.0),
        ttft=wide,
        itl=wide,
    )
    text = printed(make_report([make_level(1), worst], make_surroundings(others=3.9)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_bad_result_says_why() -> None:
    around = make_surroundings({"governor": "powersave"}, stolen=0.2)
    text = " ".join(printed(make_report([make_level(miscounted=1)], around)).split())
    assert "NOT GOOD: 10,496 tokens, 1 answers failed or miscounted" in text
    assert "cpupower frequency-set -g performance" in text
    assert "20% of the CPU time" in text


def test_progress_without_a_terminal_is_a_line_a_load() -> None:
    stream = io.StringIO()
    with LineProgress(stream) as steps:
        steps.start(10, "64 streams")
        steps.end()
    assert stream.getvalue() == "64 streams ...\n"


# ---- against the reference server
# -------------------------------------------------------------------------


def test_every_chunk_is_matched_with_its_true_time(reference: ReferenceServer) -> None:
    shape = LoadShape(slots=8, rounds=3, tokens=12, ttft_ms=20.0, itl_ms=10.0)
    with connect_bench(reference, Silent()) as client:
        level = accuracy.compare_with_truth(shape, client.observe(shape, "a test"))
    assert (level.requests, level.tokens) == (24, 288)
    assert (level.failures, level.miscounted) == ({}, 0)
    # The two clocks are one, compared to within a few µs; a busy machine makes it late, not early.
    assert -50 < level.stamp_min_us <= level.stamp_us.p50 < 5_000
    assert level.ttft["mean"].true_ms >= 20
    assert level.itl["p50"].reported_ms == pytest.approx(10, rel=0.5)
    assert 0 < level.accept_us.p50 < 1e6
    assert level.cpu_us > 0 and level.read_us > 0 and 0 < level.core < 2


def test_more_streams_than_files_are_refused(
    reference: ReferenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "open", lambda recorder, count: 6)
    shape = LoadShape(slots=20, rounds=1, tokens=2)
    with (
        connect_bench(reference, Silent()) as client,
        pytest.raises(BadInput, match=r"20 streams.*ulimit -n"),
    ):
        client.observe(shape, "a test")
