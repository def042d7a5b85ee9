"""Responses come back from memory and file as they went there."""

from __future__ import annotations

import resource
import tempfile
import tracemalloc
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import wire_bytes as wire
from hypothesis import given, strategies as st
from spark_bench.client import clock, response_store
from spark_bench.client.response_store import Piece, RequestOutcome, ResponseStore
from spark_bench.protocol import sse
from spark_bench.protocol.dialects import RequestTerms, dialect
from spark_bench.protocol.reading import Count, read_exchange
from spark_bench.record import Ended, Exchange, Request

OFFSET = 5_000_000_000


def piece(reads: list[bytes], at: int = 1000) -> Piece:
    """Of reads at `at`, `at` + 1, … on the monotonic clock."""
    stamps, ends, data = bytearray(), array("q"), bytearray()
    for number, read in enumerate(reads):
        data += read
        ends.append(len(data))
        stamps += clock.timespec(OFFSET + at + number)
    return Piece(stamps, ends, data)


def outcome(index: int) -> RequestOutcome:
    return RequestOutcome(index, 1, 2, 3, Ended.COMPLETE, "as it is", True)


def filled(store: ResponseStore, responses: dict[int, list[list[bytes]]]) -> None:
    """One piece of each response in turn, then the next of each."""
    for turn in range(max((len(pieces) for pieces in responses.values()), default=0)):
        for index, pieces in responses.items():
            if turn < len(pieces):
                before = sum(map(len, pieces[:turn]))
                store.keep(index, piece(pieces[turn], 1000 + before))
    for index in responses:
        store.end(outcome(index))


def check(store: ResponseStore, responses: dict[int, list[list[bytes]]]) -> None:
    exchanges = list(store.exchanges())
    assert [e.index for e in exchanges] == sorted(responses)
    for exchange in exchanges:
        reads = [read for pieces in responses[exchange.index] for read in pieces]
        whole = b"".join(reads)
        assert bytes(exchange.data) == whole and len(exchange.data) == len(whole)
        for start in range(0, len(whole), 97):
            assert exchange.data[start : start + 150] == whole[start : start + 150]
        assert exchange.data[-5:] == whole[-5:]
        assert list(exchange.ends) == [len(b"".join(reads[: i + 1])) for i in range(len(reads))]
        assert list(exchange.stamps) == [1000 + i for i in range(len(reads))]
        assert (exchange.scheduled_ns, exchange.sent_ns, exchange.ended_ns) == (1, 2, 3)
        assert (exchange.ended, exchange.detail, exchange.reused) == (
            Ended.COMPLETE,
            "as it is",
            True,
        )


reads = st.lists(st.binary(min_size=1, max_size=300), max_size=5)
all_responses = st.dictionaries(st.integers(0, 50), st.lists(reads, max_size=4), max_size=8)


@given(all_responses, st.sampled_from([0, 500, 2000, response_store.BUDGET]))
def test_responses_come_back_unchanged(
    responses: dict[int, list[list[bytes]]], budget: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, closing(ResponseStore(OFFSET, budget)) as store:
        patch.setattr(response_store, "STEP", 0)
        filled(store, responses)
        check(store, responses)
        pieces = [p for pieces in responses.values() for p in pieces]
        assert store.reads == sum(map(len, pieces))
        if budget == 0:
            assert bool(store.spilled) == any(pieces)
        check(store, responses)  # and once more


MANY = {index: [[b"%d" % index * 500, b"x" * 500]] for index in range(40)}


def test_below_the_budget_no_file_is_written() -> None:
    with closing(ResponseStore(OFFSET)) as store:
        filled(store, MANY)
        assert store.spilled == 0
        check(store, MANY)


def test_beyond_the_budget_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_store, "STEP", 1000)
    with closing(ResponseStore(OFFSET, budget=10_000)) as store:
        for index in range(2000):
            store.keep(index, piece([b"x" * 1000]))
            store.end(outcome(index))
            assert store.held <= 10_000 + 2000
        assert store.spilled > 1_900_000
        assert not store.note


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 700, 1000, 5000])
def test_a_full_disk_loses_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_store, "STEP", 0)
    with closing(ResponseStore(OFFSET, budget=1500)) as store:
        with files_of_at_most(size):
            filled(store, MANY)
        assert "no room for responses in" in store.note
        assert store.spilled <= size
        check(store, MANY)


def test_a_missing_spill_folder_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with closing(ResponseStore(OFFSET, budget=0)) as store:
        filled(store, MANY)
        assert (
            store.note == f"no room for responses in {tmp_path}/missing: No such file or directory"
        )
        check(store, MANY)


def by_letters(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def test_a_stored_answer_is_read_as_in_memory_with_a_part_of_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "SHORT", 100_000)

    def read(exchange: Exchange, count: Count | None) -> Request:
        asked = wire.job(), dialect("chat"), RequestTerms("")
        return read_exchange(exchange, *asked, count=count, usage_expected=False)

    sizes = [number % 5 + 1 for number in range(3000)]
    long = {"logprobs": "p" * 400}
    events = [wire.event(wire.delta(content="x" * size) | long) for size in sizes]
    reads = wire.chunked([*events, wire.DONE])
    with closing(ResponseStore(OFFSET, budget=0)) as store:
        for at in range(0, len(reads), 700):
            store.keep(0, piece(reads[at : at + 700], 1000 + at))
        store.end(outcome(0))
        tracemalloc.start()
        (exchange,) = store.exchanges()
        read(exchange, None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        requests = [read(exchange, by_letters)]
        exchange.data = bytes(exchange.data)
        requests.append(read(exchange, by_letters))
    for request in requests:  # the texts are read from the file again
        assert request.token_counts.tolist() == sizes
        assert request.token_ns.tolist() == [1001 + number for number in range(3000)]
    assert peak < sum(map(len, reads)) / 2


def test_the_spill_file_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(ResponseStore(OFFSET, budget=0)) as store:
        filled(store, MANY)
        assert store.spilled
        assert not list(tmp_path.iterdir())
