"""What a run reports besides its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_requests import answer, failed
from msgspec.structs import replace
from result_samples import a_repeat
from spark_bench.cli import main
from spark_bench.client import response_store
from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.stalls import Stall, Stalls
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.run.save import cached_note, lengthened_note, own_pause_note, server_messages


def test_a_full_disk_for_responses_is_noted_and_loses_nothing(
    reference: ReferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_store.tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(response_store, "BUDGET", 1000)
    reference.configure(ttft_us=1000, itl_us=200)
    path = tmp_path / "run.json"
    shape = ("-n", "4", "-i", "8", "-o", "32", "--no-metrics", "--no-history")
    done = CliRunner().invoke(main, ["run", "--url", reference.url, *shape, "--output", str(path)])
    assert done.exit_code == 0, done.output
    result = json.loads(path.read_text())
    assert result["summary"]["total_output_tokens"] == 4 * 32
    assert [note for note in result["notes"] if "stayed in memory" in note]


@pytest.mark.parametrize(
    ("cached", "expected"),
    [
        pytest.param(24, False, id="the template alone"),
        pytest.param(28, False, id="a page further"),
        pytest.param(63, True, id="the content too"),
        pytest.param(None, False, id="not told"),
    ],
)
def test_a_prefix_cache_that_knew_the_prompts(cached: int | None, expected: bool) -> None:
    requests = [answer(i, prompt_tokens=64, cached_tokens=cached) for i in range(3)]
    assert any("--seed" in note for note in cached_note(requests, 24)) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        pytest.param(24 / 64, False, id="the template alone"),
        pytest.param(63 / 64, True, id="the content too"),
    ],
)
def test_a_prefix_cache_that_the_servers_metrics_tell_of(rate: float, expected: bool) -> None:
    requests = [answer(i, prompt_tokens=64, cached_tokens=None) for i in range(3)]
    assert any("--seed" in note for note in cached_note(requests, 24, [0.0, rate])) == expected
    # What each answer tells counts more: others may have used the server meanwhile.
    requests = [answer(i, prompt_tokens=64, cached_tokens=0) for i in range(3)]
    assert not list(cached_note(requests, 24, [rate]))


def test_server_messages_are_noted_once_per_kind() -> None:
    failures = [
        ("http_400", "HTTP 400: long"),
        ("http_400", "HTTP 400: long"),
        ("http_400", "HTTP 400: odd"),
        ("cut", "before any token"),
        ("stream_error", "boom"),
    ]
    requests = [failed(number, kind) for number, (kind, _) in enumerate(failures)]
    for request, (_, detail) in zip(requests, failures, strict=True):
        request.detail = detail
    messages = ["failed: HTTP 400: long (and 1 other text)", "failed: stream_error: boom"]
    assert list(server_messages(requests)) == messages
    assert not list(server_messages([failed(0, "http_502")]))


def test_impossible_trace_lengths_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    lines = [{"at": at, "input_len": size, "output_len": 4} for at, size in enumerate((4, 31, 90))]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    sent = [answer(i, asked_input=size) for i, size in enumerate((31, 31, 90))]
    (note,) = lengthened_note(path, 3, 31, sent)
    assert note.startswith("1 of 3 input lengths of the trace are below 31 tokens")
    assert not list(lengthened_note(path, 3, 4, sent))


@pytest.mark.parametrize(
    ("lag_us", "expected"),
    [
        pytest.param(4_000.0, False, id="prompt"),
        pytest.param(80_000.0, True, id="it stood still"),
    ],
)
def test_a_stall_that_may_be_the_clients_own(lag_us: float, expected: bool) -> None:
    top = (Stall(at=1.0, ms=80.0, streams=4, running=4, whose="engine"),)
    parts = replace(
        a_repeat(0),
        stalls=Stalls(median_ms=10.0, threshold_ms=30.0, top=top),
        audit=Audit("kernel", lag_us=Spread(max=lag_us)),
    )
    assert bool(own_pause_note(parts)) == expected
