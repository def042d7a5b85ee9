"""What makes a recording approximate, each reason on its own."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from spark_bench.client.audit import Audit, Spread
from spark_bench.client.judge import audit, measure_spread
from spark_bench.client.recorder import Recording
from spark_bench.client.response_store import ResponseStore
from spark_bench.client.tally import MOST_DURATIONS, Durations, Tally


def durations(*ns: int) -> Durations:
    durations = Durations()
    for each in ns:
        durations.add(each)
    return durations


def judged(**changes: Any) -> Audit:
    """Of a good recording of 1000 reads with these changes, in the units of the tally."""
    tally = Tally(10)
    tally.unstamped = changes.pop("unstamped", 0)
    tally.step_ns = changes.pop("step_ns", 20_000)
    tally.lags = durations(*changes.pop("lags", [50_000] * 100))
    tally.lates = durations(*changes.pop("lates", [30_000] * 100))
    for ns in changes.pop("stood", []):
        tally.record_pause(ns)
    with closing(ResponseStore(0)) as store:
        store.reads = changes.pop("reads", 1000)
        recording = Recording(store, tally, 10**9, 3 * 10**9, 0.25, False)
        figures = {
            "tls": False,
            "merged": 0.0,
            "parse_seconds": 0.5,
            "e2e_ms": 1000.0,
            "gap_ms": 10.0,
        }
        return audit(recording, **(figures | changes))


def test_a_good_recording() -> None:
    verdict = judged()
    assert (verdict.verdict, verdict.reasons, verdict.clock, verdict.transport) == (
        "exact",
        (),
        "kernel",
        "plain",
    )
    assert verdict.lag_us == Spread(50, 50, 50)
    assert verdict.late_us == Spread(30, 30, 30)
    assert (verdict.reads, verdict.cpu_seconds, verdict.wall_seconds) == (1000, 0.25, 2.0)
    assert verdict.clock_step_us == 0, "the noise of measuring it is no step"
    assert verdict.peak_rss_bytes > 10_000_000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"unstamped": 1000}, "the kernel gave no receive times", id="no stamps"),
        pytest.param({"unstamped": 2}, "the kernel gave no receive times", id="some stamps"),
        pytest.param(
            {"merged": 0.2, "lags": [8_000_000] * 100},
            "20.0% of tokens were read together with the one before, 8.0 ms late",
            id="did not keep up",
        ),
        pytest.param(
            {"lates": [25_000_000] * 100}, "half of the requests were sent 25.0 ms late", id="late"
        ),
        pytest.param(
            {"lates": [300_000_000] * 40 + [0] * 60},
            "one request in a hundred was sent 300.0 ms late",
            id="some late",
        ),
        pytest.param(
            {"step_ns": 5_000_000}, "the wall clock was changed by 5.0 ms", id="clock step"
        ),
        pytest.param(
            {"uncounted": 1.0},
            "the number of tokens is unknown for 100% of the events",
            id="no count",
        ),
        pytest.param(
            {"stood": [300_000_000]}, "the client paused for 0.3 s, up to 300 ms", id="pause"
        ),
    ],
)
def test_reasons(changes: dict[str, Any], reason: str) -> None:
    verdict = judged(**changes)
    assert verdict.verdict == "approximate"
    (only,) = verdict.reasons
    assert only.startswith(reason)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"unstamped": 1}, id="one read as stamping began"),
        pytest.param({"merged": 0.2}, id="the server sent them together"),
        pytest.param({"stood": [15_000_000]}, id="a short pause"),
        pytest.param({"stood": [4_900_000] * 1000}, id="pauses within half a gap"),
        pytest.param({"merged": 0.005, "lags": [8_000_000] * 100}, id="few together"),
        pytest.param({"merged": 0.2, "lags": [4_000_000] * 100}, id="read within half a gap"),
        pytest.param({"merged": 0.2, "gap_ms": None}, id="no gaps to judge by"),
        pytest.param({"lates": [15_000_000] * 100}, id="late, but little of the whole"),
        pytest.param({"lates": [1_500_000] * 100, "e2e_ms": 1.0}, id="late, but hardly"),
        pytest.param({"lates": [25_000_000] * 40 + [0] * 60}, id="less than half late"),
        pytest.param({"lates": [90_000_000] * 40 + [0] * 60}, id="some late, but little"),
        pytest.param({"reads": 0, "lags": [], "e2e_ms": None, "gap_ms": None}, id="nothing came"),
    ],
)
def test_no_reasons(changes: dict[str, Any]) -> None:
    assert judged(**changes).reasons == ()


def test_reasons_add_up() -> None:
    assert len(judged(unstamped=1000, step_ns=5_000_000).reasons) == 2


def test_clock_and_transport_are_reported() -> None:
    assert judged(unstamped=1000).clock == "process"
    assert judged(tls=True).transport == "tls"
    assert judged(step_ns=5_000_000).clock_step_us == 5000


def test_the_spread_of_no_durations() -> None:
    assert measure_spread(Durations()) == Spread()


def test_endless_durations_take_bounded_memory() -> None:
    durations = Durations()
    for ns in range(10 * MOST_DURATIONS):
        durations.add(ns)
    durations.add(10**9)
    assert len(durations.values) < MOST_DURATIONS
    assert durations.most == 10**9
    spread = measure_spread(durations)
    assert spread.p50 == pytest.approx(5 * MOST_DURATIONS / 1000, rel=0.01)
    assert spread.p99 == pytest.approx(9.9 * MOST_DURATIONS / 1000, rel=0.01)
    assert spread.max == 10**6
