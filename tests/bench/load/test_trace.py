"""Traces: both formats, their times, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from spark_bench.errors import BadInput
from spark_bench.load import trace
from spark_bench.load.trace import TraceEntry
from spark_bench.record import Message, Timing

MOONCAKE = {"timestamp": 27000, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
PLAIN = {"at": 1.5, "input_len": 10, "output_len": 20}


def written(folder: Path, *lines: object) -> Path:
    file = folder / "trace.jsonl"
    file.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return file


def test_mooncake(tmp_path: Path) -> None:
    later = MOONCAKE | {"timestamp": 30500, "hash_ids": [46, 48]}
    assert trace.read_trace(written(tmp_path, MOONCAKE, later)) == [
        TraceEntry(0.0, 6955, 52, (46, 47)),
        TraceEntry(3.5, 6955, 52, (46, 48)),
    ]


def test_mooncake_without_hash_ids(tmp_path: Path) -> None:
    line = {"timestamp": 0, "input_length": 3, "output_length": 4}
    assert trace.read_trace(written(tmp_path, line)) == [TraceEntry(0.0, 3, 4)]


def test_plain(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    file = written(
        tmp_path,
        PLAIN,
        {"at": 2, "output_len": 5, "prompt": "Hello"},
        "",
        {"at": 4, "input_len": 9, "output_len": 5, "messages": talk},
    )
    assert trace.read_trace(file) == [
        TraceEntry(0.0, 10, 20),
        TraceEntry(0.5, None, 5, messages=(Message("user", "Hello"),)),
        TraceEntry(2.5, 9, 5, messages=(Message("system", "Be brief."), Message("user", "Hi"))),
    ]


def test_a_trace_is_sorted_by_time(tmp_path: Path) -> None:
    file = written(
        tmp_path, PLAIN | {"at": 9}, PLAIN | {"at": 3, "output_len": 1}, PLAIN | {"at": 3}
    )
    assert [(entry.at, entry.output_len) for entry in trace.read_trace(file)] == [
        (0, 1),
        (0, 20),
        (6, 20),
    ]
    assert [entry.at for entry in trace.read_trace(file, limit=2)] == [0, 0]


def test_speed_and_limit(tmp_path: Path) -> None:
    file = written(tmp_path, *({**MOONCAKE, "timestamp": ms} for ms in (1000, 3000, 7000)))
    start = 1e-9  # not 0.0, which would be "whenever there is a slot"
    assert trace.trace_timings(trace.read_trace(file)) == [Timing(start), Timing(2.0), Timing(6.0)]
    assert trace.trace_timings(trace.read_trace(file, speed=4.0)) == [
        Timing(start),
        Timing(0.5),
        Timing(1.5),
    ]
    assert trace.trace_timings(trace.read_trace(file, limit=2)) == [Timing(start), Timing(2.0)]
    assert len(trace.read_trace(file, limit=9)) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("{", ["truncated"], id="cut"),
        pytest.param("[1]", ["not a request with a time", "timestamp", "at"], id="not an object"),
        pytest.param({"time": 1}, ["not a request with a time"], id="no time"),
        pytest.param(
            MOONCAKE | {"chat_id": 7}, ["`chat_id`", "MILLISECONDS"], id="a trace in seconds"
        ),
        pytest.param(MOONCAKE | {"output_length": 0}, ["output_length", ">= 1"], id="no output"),
        pytest.param(MOONCAKE | {"timestamp": -1}, ["timestamp", ">= 0.0"], id="before the start"),
        pytest.param(MOONCAKE | {"input_length": "9"}, ["input_length", "`int`"], id="text"),
        pytest.param({"timestamp": 1, "input_length": 9}, ["`output_length`"], id="missing"),
        pytest.param(PLAIN | {"outputlen": 9}, ["`outputlen`", "SECONDS"], id="typo"),
        pytest.param({"at": 1, "output_len": 9}, ["has no prompt"], id="no prompt"),
        pytest.param(
            PLAIN | {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
            ["both a prompt and messages"],
            id="two prompts",
        ),
        pytest.param(
            PLAIN | {"messages": [{"role": "tool", "content": "b"}]}, ["'tool'"], id="role"
        ),
    ],
)
def test_a_line_that_is_refused(tmp_path: Path, line: object, words: list[str]) -> None:
    file = written(tmp_path, PLAIN, "", line)
    with pytest.raises(BadInput) as caught:
        trace.read_trace(file)
    message = caught.value.message
    assert message.startswith(f"{file}, line 3: ")
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


def test_a_long_line_is_not_shown_whole(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        trace.read_trace(written(tmp_path, {"prompt": "x" * 10_000}))
    assert len(caught.value.message) < 500


def test_a_line_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(b'{"at": 1, "output_len": 1, "prompt": "\xff"}\n')
    with pytest.raises(BadInput, match="line 1: "):
        trace.read_trace(file)


def test_an_empty_trace(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no requests"):
        trace.read_trace(written(tmp_path, ""))


def test_a_missing_trace(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        trace.read_trace(tmp_path / "none.jsonl")


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_that_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(BadInput, match=f"--trace-speed: {speed} is not allowed"):
        trace.read_trace(written(tmp_path, PLAIN), speed=speed)


def test_a_limit_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="trace limit 0 is not allowed"):
        trace.read_trace(written(tmp_path, PLAIN), limit=0)
