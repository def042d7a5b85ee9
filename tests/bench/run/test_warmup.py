"""The uncounted warm-up before a load: as much as needed, and no more."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from faulty_call import CHAT, Call
from faulty_server import FaultyServer
from run_here import run, short
from spark_bench.load import warmup
from spark_bench.load.arrivals import steps
from spark_bench.metrics.figures import Summary
from spark_bench.record import Job, Load, Prompt, Timing
from spark_bench.run.save import first_apart

QUIET = ["--quiet", "--no-metrics"]


def load(
    count: int = 160,
    *,
    tokens: tuple[int, int] = (256, 256),
    slots: int | None = None,
    rate: float | None = None,
    turns: int = 1,
) -> Load:
    """So many requests, all alike; `turns` of them make a conversation."""
    jobs = [
        Job(
            index,
            b"",
            Timing((index + 1) / rate if rate else 0.0, index - 1 if index % turns else None),
            Prompt((), *tokens, turn=index % turns),
        )
        for index in range(count)
    ]
    return Load(jobs, steps(slots))


@pytest.mark.parametrize(
    ("shape", "seconds", "expected"),
    [
        pytest.param({"slots": 32}, None, 32, id="closed-loop"),
        pytest.param({}, None, 160, id="all-at-once"),
        pytest.param({"turns": 4}, None, 40, id="conversations-at-once"),
        pytest.param({"count": 10, "slots": 32}, None, 10, id="fewer-than-slots"),
        pytest.param({"rate": 2.0}, 3.0, 6, id="as-many-as-come-in-an-answers-time"),
        pytest.param({"rate": 2.0, "slots": 4}, 3.0, 4, id="rate-and-limit"),
        pytest.param({"rate": 2.0}, 0.0, 1, id="answered-at-once"),
    ],
)
def test_a_warm_up_has_as_many_in_flight_as_the_load(
    shape: dict[str, Any], seconds: float | None, expected: int
) -> None:
    assert warmup.in_flight(load(**shape), seconds) == expected


def test_warmup_rounds_use_the_prompts_with_shorter_answers() -> None:
    whole = load(slots=32)
    prompts = warmup.round_of(whole, 32)
    assert len(prompts) == 64
    assert {(p.input_tokens, p.output_tokens) for p in prompts} == {(256, 64)}
    mixed = Load([Job(n, b"", Timing(), Prompt((), 10 + n, 8)) for n in range(10)])
    assert [p.input_tokens for p in warmup.sample_warm_up(mixed, 5)] == [10, 12, 14, 16, 18]


@pytest.mark.parametrize(
    ("shape", "rounds"),
    [
        pytest.param({"slots": 32}, 2, id="half-the-loads-tokens"),
        pytest.param({"count": 10, "tokens": (128, 128)}, 1, id="quick"),
        pytest.param({"count": 1}, 1, id="one-at-least"),
        pytest.param({"count": 1000, "slots": 8}, 50, id="many"),
    ],
)
def test_the_cost_is_bounded_by_the_load(shape: dict[str, Any], rounds: int) -> None:
    whole = load(**shape)
    prompts = warmup.round_of(whole, warmup.in_flight(whole))
    assert warmup.most_rounds(whole, prompts) == rounds


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        pytest.param([4.0], 5, False, id="one-proves-nothing"),
        pytest.param([4.0, 2.0], 5, False, id="still-faster"),
        pytest.param([4.0, 2.0, 1.96], 5, True, id="steady"),
        pytest.param([2.0, 2.5], 5, True, id="slower"),
        pytest.param([4.0, 2.0], 2, True, id="no-more-rounds"),
        pytest.param([35.0], 5, True, id="another-would-take-too-long"),
    ],
)
def test_rounds_end_when_they_are_no_faster(
    seconds: list[float], most: int, expected: bool
) -> None:
    assert warmup.is_warm(seconds, most) is expected


class FakeColdServer(FaultyServer):
    """Answers its first requests late when several are in flight, as an engine that compiles for a
    batch of this size; one by one they are answered at once."""

    def __init__(self, cold: int, delay: float = 0.3) -> None:
        super().__init__()
        self.cold, self.delay = cold, delay
        self.most_in_flight = self._in_flight = 0
        self._lock = threading.Lock()

    def prompts(self) -> list[Call]:
        return [call for call in self.calls if call.path == CHAT]

    def _answer(self, call: Call) -> bool:
        if call.path != CHAT:
            return super()._answer(call)
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            late = self._in_flight > 1 and self.cold > 0
            self.cold -= late
        time.sleep(self.delay * late)
        try:
            return super()._answer(call)
        finally:
            with self._lock:
                self._in_flight -= 1


def first_and_others(server: FakeColdServer, here: Path, *words: str) -> tuple[float, float, Any]:
    """Mean E2E of the first repeat and the largest of the others, and the result."""
    shape = [*short(n=48, c=4, o=4), "--repeat", "3", *QUIET]
    with server:
        ran = run(server.url, *shape, *(words or ["--warmup", "auto"]), here=here)
    assert ran.code == 0, ran.err
    means = [repeat.summary.mean_e2e_latency_ms or 0.0 for repeat in ran.result.repeats]
    return means[0], max(means[1:]), ran.result


def test_the_first_repeat_meets_a_warm_server(tmp_path: Path) -> None:
    server = FakeColdServer(cold=8)
    first, others, result = first_and_others(server, tmp_path)
    assert first < others + 30
    # A round of twice four cold ones, one of warm ones, one that is no faster.
    assert result.config.warmup == 3 * 8
    assert result.summary.completed == 3 * 48
    assert len(server.prompts()) == 2 + 24 + 3 * 48
    assert server.most_in_flight == 4


def test_a_cold_first_repeat_is_noted(tmp_path: Path) -> None:
    first, others, result = first_and_others(FakeColdServer(cold=8), tmp_path, "--warmup", "0")
    assert first > others + 30
    assert result.config.warmup == 0
    assert any("the first of 3 repeats differs from the others" in n for n in result.notes)


def test_a_number_of_requests_goes_before_each_repeat(tmp_path: Path) -> None:
    server = FakeColdServer(cold=0)
    _, _, result = first_and_others(server, tmp_path, "--warmup", "5")
    assert result.config.warmup == 5
    assert len(server.prompts()) == 2 + 3 * (5 + 48)


def test_no_prompt_of_the_warm_up_is_measured(tmp_path: Path) -> None:
    server = FakeColdServer(cold=0)
    _, _, result = first_and_others(server, tmp_path)
    texts = [call.json["messages"][0]["content"] for call in server.prompts()[2:]]
    before, measured = texts[: result.config.warmup], texts[result.config.warmup :]
    assert before and len(set(texts)) == len(texts)
    assert {len(text.split()) for text in before} == {len(text.split()) for text in measured}
    # None begins like another, so that no block of a prefix cache is common.
    assert not {text[:20] for text in before} & {text[:20] for text in measured}


def test_a_server_that_only_fails_is_not_warmed_up_for_long(tmp_path: Path) -> None:
    with FaultyServer("server_error") as server:
        ran = run(server.url, *short(n=64, c=4), *QUIET, "--warmup", "auto", here=tmp_path)
    assert ran.result.summary.failures == {"http_500": 64}
    assert ran.result.config.warmup == 8


def notes_on(*throughputs: float, e2e: tuple[float, ...] = ()) -> list[str]:
    rows = [(t, e2e[n] if e2e else 1000.0) for n, t in enumerate(throughputs)]
    return list(
        first_apart([Summary(output_throughput=rate, mean_e2e_latency_ms=ms) for rate, ms in rows])
    )


@pytest.mark.parametrize(
    ("throughputs", "differs"),
    [
        pytest.param((5726, 6372, 6308, 6439, 6402), True, id="10-%-slower"),
        pytest.param((620, 1000, 1010), True, id="38-%-slower"),
        pytest.param((5916, 6137, 6232, 5850, 6208), False, id="within-the-others"),
        pytest.param((6106, 6070, 6274, 6059, 6080), False, id="as-the-others"),
        pytest.param((980, 1000, 1001), False, id="2-%"),
        pytest.param((900, 1000, 1150), False, id="the-others-lie-farther-apart"),
        pytest.param((1200, 1000, 1010), True, id="faster"),
        pytest.param((850, 1000), True, id="of-two"),
        pytest.param((950, 1000), False, id="of-two-close"),
        pytest.param((1000,), False, id="only-one"),
    ],
)
def test_the_first_repeat_is_compared_with_the_others(
    throughputs: tuple[float, ...], differs: bool
) -> None:
    assert bool(notes_on(*throughputs)) == differs


def test_at_a_given_rate_latency_shows_a_cold_repeat() -> None:
    (note,) = notes_on(100, 100, 100, e2e=(1500.0, 1000.0, 1010.0))
    assert "1,500 ms of mean E2E latency against 1,000 to 1,010 (+49%)" in note


TRACE = [{"at": n / 20, "input_len": 20 + n, "output_len": 4 + n % 3} for n in range(12)]
SHAREGPT = [
    {
        "conversations": [
            {"from": "human", "value": "what is it " * n},
            {"from": "gpt", "value": "it " * n},
        ]
    }
    for n in range(8, 24)
]


@pytest.mark.parametrize(
    ("words", "least"),
    [
        pytest.param(["-n", "12", "-r", "40"], 2, id="rate"),
        pytest.param(["-n", "12", "-r", "40", "-c", "2"], 2, id="rate-and-limit"),
        pytest.param(["-n", "12", "--ramp", "20:60"], 2, id="ramp"),
        pytest.param(["-n", "12", "-c", "4", "--ramp-slots", "0.2"], 8, id="slots-that-open"),
        pytest.param(["-n", "12", "-c", "4", "--turns", "3"], 8, id="conversations"),
        pytest.param(["-n", "12", "-c", "4", "--shared-prefix", "6"], 8, id="shared-prefix"),
        pytest.param(["-n", "12", "-c", "4", "--cache", "hit"], 8, id="hit"),
        pytest.param(["-n", "12", "-c", "4", "--duration", "5"], 8, id="duration"),
        pytest.param(["--trace", "trace.jsonl"], 2, id="trace"),
        pytest.param(["--sharegpt", "shared.json", "-n", "8", "-c", "4"], 8, id="sharegpt"),
    ],
)
def test_every_kind_of_load_has_its_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], least: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trace.jsonl").write_text("".join(json.dumps(each) + "\n" for each in TRACE))
    Path("shared.json").write_text(json.dumps(SHAREGPT))
    lengths = [] if {"--trace", "--sharegpt"} & {*words} else ["-i", "16", "-o", "4"]
    server = FakeColdServer(cold=0)
    with server:
        ran = run(server.url, *words, *lengths, *QUIET, "--warmup", "auto", here=tmp_path / "out")
    assert ran.code == 0, ran.err
    assert ran.result.config.warmup >= least
    probes = 4 if "--turns" in words else 2
    assert len(server.prompts()) == probes + ran.result.config.warmup + len(ran.requests)


def test_each_point_of_a_sweep_is_warmed_up_at_its_own_concurrency(tmp_path: Path) -> None:
    with FakeColdServer(cold=0) as server:
        words = ["-n", "16", "-i", "16", "-o", "4", "--sweep", "concurrency=2,4"]
        ran = run(server.url, *words, *QUIET, "--warmup", "auto", here=tmp_path)
    assert ran.code == 0, ran.err
    assert [r.config.concurrency for r in ran.results] == [2, 4]
    for result in ran.results:
        assert result.config.warmup >= 2 * (result.config.concurrency or 0)
