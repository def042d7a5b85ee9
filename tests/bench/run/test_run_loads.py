"""When a run's requests are sent, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from faulty_call import CHAT
from faulty_server import FaultyServer
from run_here import Ran, run, short
from spark_bench.display.tables import sweep_point
from spark_bench.load.sweep import knee
from spark_bench.reference_server.launcher import ReferenceServer

pytestmark = pytest.mark.alone

FAST = {"ttft_us": 5_000, "itl_us": 1_000}
PLAIN = ["--warmup", "0", "--no-metrics", "--quiet"]
MS = 1e6


def loaded(
    reference: ReferenceServer, here: Path, *words: str, config: dict[str, int] | None = None
) -> Ran:
    reference.configure(**(FAST | (config or {})))
    ran = run(reference.url, *words, *PLAIN, here=here)
    assert ran.code == 0, ran.err
    return ran


def starts_ms(ran: Ran, what: str = "sent_ns") -> Any:
    """Of each request, from the first of them on."""
    starts = np.sort([getattr(request, what) for request in ran.requests])
    return (starts - starts[0]) / MS


def in_turn(starts: Any, due: Sequence[float]) -> bool:
    """Whether each was sent when it was due, ms, and before the next: a busy machine sends late,
    but never early (the first, which the times count from, may itself have been late)."""
    late = np.asarray(starts) - due
    return bool(np.all(late > -25) and np.all(late < 95))


def texts(sent: Sequence[bytes]) -> list[str]:
    return [json.loads(body)["messages"][0]["content"] for body in sent]


def test_a_closed_loop_keeps_its_slots_full(reference: ReferenceServer, tmp_path: Path) -> None:
    ran = loaded(reference, tmp_path, *short(n=12, c=3))
    assert ran.result.summary.peak_concurrency == 3
    assert ran.result.config.request_rate is None
    ended = sorted(r.done_ns for r in ran.requests)
    later = sorted(r.sent_ns for r in ran.requests)[3:]
    # A slot is refilled as soon as it comes free.
    waits = [sent - end for sent, end in zip(later, ended, strict=False)]
    assert min(waits) >= 0 and np.median(waits) < 5 * MS


def test_a_constant_rate(reference: ReferenceServer, tmp_path: Path) -> None:
    ran = loaded(reference, tmp_path, *short(n=10, c="none"), "-r", "50", "--burstiness", "inf")
    assert np.diff(starts_ms(ran, "scheduled_ns")) == pytest.approx(20, abs=0.01)
    assert np.median(np.diff(starts_ms(ran))) == pytest.approx(20, abs=3)
    assert ran.result.config.burstiness is None


def test_a_poisson_rate_is_uneven_and_the_same_again(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    words = [*short(n=20, c="none"), "-r", "100"]
    due = [
        starts_ms(loaded(reference, tmp_path / name, *words, "--seed", seed), "scheduled_ns")
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    ]
    assert np.diff(due[0]).std() > 2
    assert due[0] == pytest.approx(due[1], abs=0.001)
    assert due[0] != pytest.approx(due[2], abs=1)


def test_a_wait_for_a_slot_is_not_omitted(reference: ReferenceServer, tmp_path: Path) -> None:
    """One slot of 12 ms each at 200 a second: the plain TTFT says all is well."""
    summary = loaded(reference, tmp_path, *short(n=20, c=1), "-r", "200").result.summary
    assert summary.mean_ttft_ms and summary.mean_scheduled_ttft_ms
    assert summary.mean_ttft_ms < 15
    assert summary.max_scheduled_ttft_ms and summary.max_scheduled_ttft_ms > 80
    assert summary.mean_scheduled_ttft_ms > summary.mean_ttft_ms + 30


def test_a_server_queue_counts_in_both_latencies(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    words = [*short(n=20, c="none"), "-r", "200"]
    summary = loaded(reference, tmp_path, *words, config={"max_running": 1}).result.summary
    assert summary.max_ttft_ms and summary.max_ttft_ms > 80
    assert summary.mean_scheduled_ttft_ms == pytest.approx(summary.mean_ttft_ms, abs=5)


def test_a_rate_that_grows(reference: ReferenceServer, tmp_path: Path) -> None:
    ran = loaded(
        reference, tmp_path, *short(n=40, c="none"), "--ramp", "20:200", "--burstiness", "inf"
    )
    gaps = np.diff(starts_ms(ran, "scheduled_ns"))
    assert (np.diff(gaps) < 0).all() and gaps[0] > 30 and gaps[-1] < 8
    ramp = ran.result.config.rate_ramp
    assert ramp and (ramp.start, ramp.end, ramp.shape) == (20, 200, "linear")
    assert ran.result.config.request_rate is None


def test_slots_that_open_one_by_one(reference: ReferenceServer, tmp_path: Path) -> None:
    config = {"itl_us": 50_000}
    ran = loaded(reference, tmp_path, *short(n=4, c=4), "--ramp-slots", "0.3", config=config)
    assert in_turn(starts_ms(ran), [0, 100, 200, 300])


def test_a_sweep_ends_past_the_knee(reference: ReferenceServer, tmp_path: Path) -> None:
    words = [*short(n=24), "--sweep", "concurrency=1..16"]
    del words[words.index("-c") : words.index("-c") + 2]
    ran = loaded(reference, tmp_path, *words, config={"max_running": 4, "itl_us": 3_000})
    files = sorted(file.name for file in tmp_path.glob("*.json"))
    assert files == ["run_c1.json", "run_c2.json", "run_c4.json", "run_c8.json"]
    knee_point = knee([sweep_point(result, "concurrency") for result in ran.results])
    assert knee_point and knee_point.value == 4


def test_turns_follow_their_answers(reference: ReferenceServer, tmp_path: Path) -> None:
    words = [*short(n=6, c="none"), "--turns", "3", "--think-time", "0.05"]
    ran = loaded(reference, tmp_path, *words)
    turns = sorted(ran.requests, key=lambda r: (r.conversation, r.turn))
    assert [(r.conversation, r.turn) for r in turns] == [(c, t) for c in (0, 1) for t in (0, 1, 2)]
    for before, after in pairwise(turns):
        if before.conversation == after.conversation:
            assert 50 * MS <= after.sent_ns - before.done_ns < 500 * MS
            assert after.prompt_tokens == before.prompt_tokens + 16 + 8
    assert all(r.prompt_tokens == r.asked_input for r in turns)
    assert ran.result.lengths.differing == 0


def test_a_duration_ends_a_load(reference: ReferenceServer, tmp_path: Path) -> None:
    ran = loaded(reference, tmp_path, *short(n=1000, c=2), "--duration", "0.2")
    summary = ran.result.summary
    assert ran.result.status == "complete" and not summary.failed
    assert 10 < summary.completed < 60
    assert starts_ms(ran)[-1] < 200
    unsent = 1000 - summary.completed
    assert f"{unsent} prompts were not sent within --duration 0.2" in ran.result.notes


def test_a_duration_longer_than_the_prompts_is_noted(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    ran = loaded(reference, tmp_path, *short(n=2, c=2), "--duration", "60")
    assert any(note.startswith("all prompts were answered before") for note in ran.result.notes)


# ---- what is sent ------------------------------------------------------------------------------


def sent(faulty: FaultyServer, here: Path, *words: str, last: int = 6) -> list[bytes]:
    """The measured bodies of a run, sorted."""
    ran = run(faulty.url, *short(n=6, o=2, c=2), *words, *PLAIN, here=here)
    assert ran.code == 0, ran.err
    came = [call.body for call in faulty.calls if call.path == CHAT]
    return sorted(came[-last:])


def test_the_seed_decides_every_byte(faulty: FaultyServer, tmp_path: Path) -> None:
    runs = [sent(faulty, tmp_path / str(n), "--seed", s) for n, s in enumerate(["7", "7", "8"])]
    assert runs[0] == runs[1]
    assert not set(texts(runs[0])) & set(texts(runs[2]))
    openings = {text.split()[0] for text in texts(runs[0])}
    assert len(openings) == 6  # no two begin alike, so no prefix cache helps


def test_repeats_differ_from_each_other(faulty: FaultyServer, tmp_path: Path) -> None:
    both = sent(faulty, tmp_path, "--repeat", "2", last=12)
    assert len(set(both)) == 12


def test_points_of_a_sweep_share_no_prompt(faulty: FaultyServer, tmp_path: Path) -> None:
    sweep = ["--sweep", "rate=200,300"]
    both = [sent(faulty, tmp_path / str(n), *sweep, last=12) for n in range(2)]
    assert len(set(both[0])) == 12
    assert both[0] == both[1]  # and are the same again in another sweep


def test_a_cache_hit_is_one_prompt_for_all(faulty: FaultyServer, tmp_path: Path) -> None:
    both = sent(faulty, tmp_path, "--cache", "hit", "--repeat", "2", last=12)
    assert len(set(both)) == 1


def test_groups_share_their_prefix(faulty: FaultyServer, tmp_path: Path) -> None:
    words = ["-i", "40", "--shared-prefix", "20", "--prefix-groups", "2"]
    heads = [tuple(text.split()[:15]) for text in texts(sent(faulty, tmp_path, *words))]
    assert sorted(map(heads.count, set(heads))) == [3, 3]


def mooncake(at: float, tokens: int, *blocks: int) -> dict[str, Any]:
    return {"timestamp": at, "input_length": tokens, "output_length": 2, "hash_ids": blocks}


def written(file: Path, *lines: object) -> str:
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    return str(file)


def test_a_mooncake_trace_is_replayed(reference: ReferenceServer, tmp_path: Path) -> None:
    trace = written(
        tmp_path / "trace.jsonl",
        mooncake(1000, 600, 1, 2),
        mooncake(1200, 700, 1, 3),
        mooncake(1400, 30, 4),
    )
    ran = loaded(reference, tmp_path / "run", "--trace", trace, "--trace-speed", "2")
    assert in_turn(starts_ms(ran), [0, 100, 200])
    assert [r.prompt_tokens for r in ran.requests] == [600, 700, 30]
    config = ran.result.config
    assert (config.num_prompts, config.input_len, config.request_rate) == (3, None, None)
    assert config.dataset and (config.dataset.format, config.dataset.speed) == ("trace", 2.0)


def test_those_at_the_start_of_a_trace_wait_for_slots_too(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    """Four at once and one slot of 12 ms: first come, first served, and none omitted."""
    lines = [{"at": at, "input_len": 20, "output_len": 8} for at in (3, 3, 3, 3, 3.005)]
    trace = written(tmp_path / "trace.jsonl", *lines)
    ran = loaded(reference, tmp_path / "run", "--trace", trace, "-c", "1")
    assert starts_ms(ran, "scheduled_ns") == pytest.approx([0, 0, 0, 0, 5], abs=0.1)
    by_turn = sorted(ran.requests, key=lambda request: request.sent_ns)
    assert [request.index for request in by_turn] == [0, 1, 2, 3, 4]


def test_a_trace_of_texts_is_sent_up_to_n(faulty: FaultyServer, tmp_path: Path) -> None:
    trace = written(
        tmp_path / "trace.jsonl",
        {"at": 0, "output_len": 3, "prompt": "the first question"},
        {"at": 0.01, "output_len": 2, "messages": [{"role": "user", "content": "a second"}]},
        {"at": 0.02, "output_len": 2, "prompt": "one too many"},
    )
    ran = run(faulty.url, "--trace", trace, "-n", "2", *PLAIN, here=tmp_path / "run")
    assert ran.code == 0, ran.err
    came = [call.body for call in faulty.calls if call.path == CHAT][-2:]
    lengths = [json.loads(body)["max_tokens"] for body in came]
    # In any order: each has a connection of its own.
    assert dict(zip(texts(came), lengths, strict=True)) == {"the first question": 3, "a second": 2}
    assert ran.result.config.num_prompts == 2


def test_sharegpt_questions_are_sent(faulty: FaultyServer, tmp_path: Path) -> None:
    questions = [f"what is the answer to question number {n} of ours" for n in range(9)]
    file = tmp_path / "sharegpt.json"
    conversations = [
        [{"from": "human", "value": text}, {"from": "gpt", "value": "one two three"}]
        for text in questions
    ]
    file.write_bytes(msgspec.json.encode([{"conversations": turns} for turns in conversations]))
    words = ["--sharegpt", str(file), "-n", "4", "-c", "2"]
    ran = run(faulty.url, *words, *PLAIN, here=tmp_path / "run")
    assert ran.code == 0, ran.err
    came = [call.body for call in faulty.calls if call.path == CHAT][-4:]
    assert len(set(texts(came))) == 4 and set(texts(came)) <= set(questions)
    assert {json.loads(body)["max_tokens"] for body in came} == {3}
    assert ran.result.config.dataset and ran.result.config.dataset.file == "sharegpt.json"
