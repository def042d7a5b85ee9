"""What makes a recording approximate, each reason on its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from made_requests import MS, START, answer
from msgspec import UNSET
from spark_bench.client.audit import Audit, Spread
from spark_bench.client.judge import audit, idle_slots_note, measure_spread, wide_times
from spark_bench.client.recorder import Recording
from spark_bench.client.response_store import ResponseStore
from spark_bench.client.tally import MOST_DURATIONS, MOST_LOOKS, Durations, Looks, Tally
from spark_bench.metrics.bounds import bound_figures
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request


def durations(*ns: int) -> Durations:
    durations = Durations()
    for each in ns:
        durations.add(each)
    return durations


def requests(*spans: tuple[float, float]) -> list[Request]:
    """Ten answers of 11 tokens, 10 ms apart, the first 100 ms after its send.

    spans: tokens of the first answer that may have come earlier: (its ms, how many ms earlier)
    """
    answers = [answer(index, ttft=100, gaps=[10] * 10) for index in range(10)]
    answers = [replace(each, sent_by_ns=each.sent_ns) for each in answers]
    if spans:
        since = answers[0].token_ns.copy()
        for at, earlier in spans:
            since[round(at / 10) - 10] -= round(earlier * MS)
        answers[0].token_since_ns = since
    return answers


def judged(**changes: Any) -> Audit:
    """Of a good recording of 1000 reads with these changes, in the units of the tally."""
    tally = Tally(10)
    tally.unstamped = changes.pop("unstamped", 0)
    tally.step_ns = changes.pop("step_ns", 20_000)
    tally.lags = durations(*changes.pop("lags", [50_000] * 100))
    tally.lates = durations(*(lates := changes.pop("lates", [30_000] * 100)))
    tally.idle_ns = sum(lates)
    for begin, end in changes.pop("stood", []):
        tally.record_pause(round((end - begin) * MS), START + round(end * MS))
    answers = changes.pop("requests", requests())
    source = changes.pop("itl_source", {})
    timed = TimedRequests(answers)
    summary = msgspec.structs.replace(summarize(timed), itl_source=source)
    with closing(ResponseStore(0)) as store:
        store.reads = changes.pop("reads", 1000)
        return audit(
            Recording(store, tally, 10**9, 3 * 10**9, 0.25, False),
            tls=changes.pop("tls", False),
            requests=answers,
            summary=summary,
            bounds=bound_figures(timed, summary, clock_error_ns=tally.step_ns),
            parse_seconds=0.5,
            **changes,
        )


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
    assert verdict.idle_slots is UNSET, "it has no slots"


WIDE = requests((100, 90), (110, 100))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            {"requests": WIDE},
            "p99 ITL is 10.0 to 100 ms, p99 TPOT is 10.0 to 18.2 ms, mean TTFT is 91.0 to 100 ms "
            "and 2 more figures: 2 of 110 tokens came together with others, within 100 ms",
            id="together",
        ),
        pytest.param(
            {"requests": WIDE, "stood": [(50, 105)]},
            "the client stood still while 2 of 110 tokens came, within 100 ms",
            id="stood still",
        ),
        pytest.param(
            {"requests": WIDE, "stood": [(50, 53), (104, 106)]},
            "the client was late to read 2 of 110 tokens, within 100 ms",
            id="late",
        ),
        pytest.param(
            {"requests": WIDE, "stood": [(0, 9), (111, 200)]},
            "2 of 110 tokens came together with others",
            id="stood still at other times",
        ),
        pytest.param(
            {"requests": WIDE, "unstamped": 1000},
            "the kernel gave no receive times, so the time of 2 of 110 tokens is that of a read",
            id="no stamps",
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
            {"itl_source": {"none": 1.0}},
            "the number of tokens is unknown for 100% of the events",
            id="no count",
        ),
        pytest.param(
            {"itl_source": {"even": 0.2}},
            "20% of tokens came in events of several tokens",
            id="spread evenly",
        ),
    ],
)
def test_reasons(changes: dict[str, Any], reason: str) -> None:
    verdict = judged(**changes)
    assert verdict.verdict == "approximate"
    (only,) = verdict.reasons
    assert reason in only


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"unstamped": 1000}, id="no stamps, but read at once"),
        pytest.param({"stood": [(0, 300)]}, id="it stood still while nothing came"),
        pytest.param({"requests": requests((150, 5))}, id="one token of many"),
        pytest.param({"requests": requests((100, 0.9))}, id="less than one percent of a mean"),
        pytest.param({"lates": [1_500_000] * 100}, id="late, but hardly"),
        pytest.param({"lates": [3_500_000] * 40 + [0] * 60}, id="some late, but little"),
        pytest.param({"closed": True, "lates": [25_000_000] * 10}, id="slots idle"),
        pytest.param({"reads": 0, "lags": [], "requests": []}, id="nothing came"),
    ],
)
def test_no_reasons(changes: dict[str, Any]) -> None:
    assert judged(**changes).reasons == ()


def test_the_cause_that_widened_the_figures_most_comes_first() -> None:
    answers = requests((100, 90), (150, 3), (200, 4))
    spans = wide_times(answers, Tally(10))
    assert (spans.tokens, spans.of, spans.by_cause) == (3, 110, {"together": (3, 90.0)})
    tally = Tally(10)
    tally.record_pause(2 * MS, START + 149 * MS)
    tally.record_pause(20 * MS, START + 199 * MS)
    assert wide_times(answers, tally).by_cause == {
        "together": (1, 90.0),
        "paused": (1, 4.0),
        "late": (1, 3.0),
    }


def test_idle_slots_are_noted_and_leave_the_figures_exact() -> None:
    """A limit on the verdict would be met by luck: the share differs from run to run."""
    # Ten responses of 200 ms, and 1 or 5 ms before each.
    hardly = judged(closed=True, lates=[1_000_000] * 10)
    assert hardly.idle_slots == pytest.approx(1 / 201, abs=1e-6)
    idle = judged(closed=True, lates=[5_000_000] * 10)
    assert idle.idle_slots == pytest.approx(5 / 205, abs=1e-6)
    assert (idle.verdict, idle.bounded) == ("exact", True)
    summary = summarize(TimedRequests(requests()))
    assert not list(idle_slots_note([hardly], [summary]))
    assert not list(idle_slots_note([judged()], [summary])), "an open loop has no slots"
    assert not list(idle_slots_note([], []))
    (note,) = idle_slots_note([hardly, idle], [summary, summary])
    assert note.startswith(
        "slots stood idle for 2.4% of the time, 5.00 ms (median) before each request: the figures "
        "are those of 10.0 requests in flight"
    )


def test_reasons_add_up() -> None:
    clock, width = judged(step_ns=5_000_000).reasons
    assert clock == "the wall clock was changed by 5.0 ms during the run"
    assert width == (
        "concurrency is 9.51 to 10.5, mean TTFT is 95.0 to 105 ms, median TTFT is 95.0 to 105 ms "
        "and 9 more figures"
    )


def test_clock_and_transport_are_reported() -> None:
    assert judged(unstamped=1000).clock == "process"
    assert judged(tls=True).transport == "tls"
    assert judged(step_ns=5_000_000).clock_step_us == 5000


def test_the_spread_of_no_durations() -> None:
    assert measure_spread(Durations()) == Spread()


def test_every_second_look_is_kept_once_there_are_too_many() -> None:
    looks = Looks()
    looks.moments.extend(range(MOST_LOOKS - 1))
    looks.thin()
    assert (len(looks.moments), looks.spacing_ns) == (MOST_LOOKS - 1, 250_000)
    looks.moments.append(MOST_LOOKS - 1)
    looks.thin()
    assert (list(looks.moments[:3]), len(looks.moments)) == ([0, 2, 4], MOST_LOOKS // 2)
    assert looks.spacing_ns == 500_000


def test_endless_durations_take_bounded_memory() -> None:
    durations = Durations()
    durations.extend(range(10 * MOST_DURATIONS))
    durations.add(10**9)
    assert len(durations.values) < MOST_DURATIONS
    assert durations.most == 10**9
    spread = measure_spread(durations)
    assert spread.p50 == pytest.approx(5 * MOST_DURATIONS / 1000, rel=0.01)
    assert spread.p99 == pytest.approx(9.9 * MOST_DURATIONS / 1000, rel=0.01)
    assert spread.max == 10**6
