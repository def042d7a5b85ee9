from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st
from result_samples import WHEN, a_request, a_result
from spark_bench.errors import BadInput
from spark_bench.record import Request
from spark_bench.results.assemble import compare_lengths
from spark_bench.results.codec import (
    START_NS,
    encode_result,
    from_row,
    read_requests,
    read_result,
    read_rows,
    to_row,
)
from spark_bench.results.files import (
    NotSaved,
    default_path,
    new_id,
    requests_path,
    write_requests,
    write_result,
)


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet.json"
    write_result(a_result(), path)
    assert read_result(path) == a_result()


def test_the_file_begins_with_its_kind_and_version() -> None:
    assert list(json.loads(encode_result(a_result())))[:4] == [
        "schema_version",
        "kind",
        "id",
        "created",
    ]


def test_a_file_that_is_there_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("before")
    write_result(a_result(), path)
    assert read_result(path) == a_result()
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to(tmp_path / "result.json")
    write_result(a_result(), tmp_path / "latest.json")
    assert (tmp_path / "latest.json").is_symlink()
    assert read_result(tmp_path / "result.json") == a_result()


def test_a_pipe_is_written_to_directly() -> None:
    code = (
        "from pathlib import Path; from result_samples import a_result;"
        "from spark_bench.results.files import write_result;"
        "write_result(a_result(), Path('/dev/stdout'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout == encode_result(a_result())


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_result(a_result(), tmp_path / "result.json")
    finally:
        os.umask(before)
    assert (tmp_path / "result.json").stat().st_mode & 0o777 == 0o644


def test_default_names_are_the_profiles_and_never_taken_twice(tmp_path: Path) -> None:
    names = [default_path("quick", WHEN, tmp_path / "benchmark_results").name for _ in range(3)]
    assert names == [
        "bench_quick_20261123_133805.json",
        "bench_quick_20261123_133805_2.json",
        "bench_quick_20261123_133805_3.json",
    ]


def test_a_profile_of_the_users_own_makes_no_folders(tmp_path: Path) -> None:
    path = default_path("../my load", WHEN, tmp_path)
    assert path == tmp_path / "bench_..-my-load_20261123_133805.json"


def test_the_requests_lie_beside_the_result() -> None:
    assert requests_path(Path("a/bench_x.json")) == Path("a/bench_x.requests.jsonl")


def test_ids_sort_as_the_runs_did() -> None:
    later = datetime(2026, 11, 23, 13, 38, 5, 251_000, tzinfo=UTC)
    assert new_id(WHEN) < new_id(later)
    assert new_id(WHEN) != new_id(WHEN)
    assert re.fullmatch(r"20261123T133805250Z-[0-9a-f]{8}", new_id(WHEN))


def changed(path: str, value: object) -> bytes:
    """The sample with what is at `path` replaced; ... removes it."""
    whole = json.loads(encode_result(a_result()))
    *way, last = path.split(".")
    at = whole
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            changed("schema_version", 2),
            "its schema version is 2, this spark-bench reads 1; install a newer spark-bench",
            id="newer",
        ),
        pytest.param(
            changed("schema_version", 0),
            "its schema version is 0, this spark-bench reads 1; read it with the spark-bench that "
            "its provenance.client.version names",
            id="older",
        ),
        pytest.param(changed("schema_version", ...), "missing required field", id="no version"),
        pytest.param(
            changed("kind", "x"), "its kind is 'x', expected 'spark-bench run'", id="kind"
        ),
        pytest.param(
            changed("config.num_prompts", "ten"),
            "Expected `int`, got `str` - at `$.config.num_prompts`",
            id="wrong type",
        ),
        pytest.param(
            changed("summary.output_throughput", ...),
            "key `output_throughput` is missing - at `$.summary`",
            id="missing figure",
        ),
        pytest.param(
            changed("summary.output_througput", 1.0),
            "unknown key `output_througput` - at `$.summary`",
            id="misspelled figure",
        ),
        pytest.param(changed("more", 1), "unknown field `more`", id="unknown field"),
        pytest.param(b"", "truncated", id="empty"),
        pytest.param(encode_result(a_result())[:-200], "truncated", id="cut"),
        pytest.param(b"[1]", "Expected `object`", id="no object"),
        pytest.param(b"\xff\xfe", "malformed", id="no text"),
    ],
)
def test_an_invalid_result_is_refused_with_its_position(
    tmp_path: Path, data: bytes, expected: str
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read_result(path)
    assert str(path) in caught.value.message
    assert expected in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json can't be read: No such file"):
        read_result(tmp_path / "none.json")


def test_a_result_that_breaks_the_schema_is_not_lost(tmp_path: Path) -> None:
    broken = msgspec.structs.replace(a_result(), reason=7)
    with pytest.raises(NotSaved, match=r"schema.*reason") as caught:
        write_result(broken, tmp_path / "result.json")
    assert json.loads(caught.value.data)["reason"] == 7
    assert not os.listdir(tmp_path)


times = st.integers(START_NS, START_NS + 10**13) | st.just(0)


@st.composite
def any_request(draw: st.DrawFn) -> Request:
    """Any times, in any order: a broken clock must not change what is kept."""
    tokens = draw(st.lists(st.integers(START_NS, START_NS + 10**13), max_size=6))
    return Request(
        index=draw(st.integers(0, 10**6)),
        scheduled_ns=draw(times),
        sent_ns=draw(times),
        first_event_ns=draw(times),
        text_ns=draw(times),
        done_ns=draw(times),
        token_ns=np.array(tokens, np.int64),
        token_counts=np.ones(len(tokens), np.int32),
        failure=draw(st.sampled_from(["", "http_500", "cut"])),
        detail=draw(st.text(max_size=9)),
        text=draw(st.text(max_size=9)),
        cached_tokens=draw(st.none() | st.integers(0, 9)),
        asked_output=5,
        output_tokens=draw(st.integers(0, 5)),
    )


def same(one: Request, other: Request) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(Request)
    )


@given(any_request())
def test_a_line_is_the_whole_request(request: Request) -> None:
    assert same(from_row(to_row(request, START_NS)), request)


def test_a_line_has_ttft_first_and_then_the_gaps() -> None:
    row = to_row(a_request(), START_NS, repeat=2)
    assert row.sent_ns == 5_000_000
    assert row.token_gaps_ns == [200_000_000, 10_000_000, 10_000_000, 12_000_000]
    assert row.repeat == 2
    assert row.stopped_early


def test_times_that_never_happened_are_null() -> None:
    row = to_row(Request(index=3, failure="unsent"), START_NS)
    assert (row.scheduled_ns, row.sent_ns, row.done_ns, row.token_gaps_ns) == (None,) * 3 + ([],)


def test_requests_are_written_a_line_each_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.requests.jsonl"
    requests = [a_request(index=i) for i in range(3)]
    assert write_requests((to_row(r, START_NS) for r in requests), path) == 3
    assert path.read_text().count("\n") == 3
    assert all(map(same, read_requests(path), requests))


def test_many_requests_need_little_memory(tmp_path: Path) -> None:
    """64 MB of lines, written and read with 8 MB: they are streamed."""
    import tracemalloc

    row = msgspec.structs.replace(to_row(a_request(), START_NS), text="x" * 64_000)
    path = tmp_path / "r.jsonl"
    tracemalloc.start()
    try:
        write_requests((row for _ in range(1000)), path)
        assert sum(1 for _ in read_rows(path)) == 1000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 64_000_000
    assert peak < 8_000_000


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_requests([to_row(a_request(), START_NS)], path)
    path.write_bytes(path.read_bytes() + b'{"index": 1}\n')
    with pytest.raises(BadInput, match=r"r\.jsonl, line 2: .*missing required field"):
        list(read_rows(path))


def test_length_differences_are_counted() -> None:
    requests = [
        a_request(asked_input=10, prompt_tokens=10),
        a_request(asked_input=10, prompt_tokens=7),
        a_request(asked_input=10, prompt_tokens=12),
        a_request(asked_input=None, prompt_tokens=99),
        a_request(asked_input=10, prompt_tokens=99, failure="cut"),
    ]
    lengths = compare_lengths(requests, "/models/x/tokenizer.json")
    assert (lengths.checked, lengths.differing, lengths.largest_difference) == (3, 2, -3)
    assert (lengths.asked_input, lengths.seen_input) == (30, 29)
    assert (lengths.asked_output, lengths.seen_output, lengths.stopped_early) == (4 * 8, 4 * 4, 4)
