"""The kernel's stamps on the clock of everything else."""

from __future__ import annotations

import socket
import sys
import time

import pytest
from hypothesis import given, strategies as st
from spark_bench.client import clock

# Until the year 2262, as nanoseconds in 64 bits go.
moments = st.integers(0, 2**63 - 1)


def test_the_offset_converts_one_clock_to_the_other() -> None:
    offset = clock.offset_ns()
    before = time.perf_counter_ns()
    wall = time.time_ns()
    after = time.perf_counter_ns()
    assert before - 1_000_000 <= wall - offset <= after + 1_000_000


def test_the_narrowest_reading_counts() -> None:
    readings = iter([(900, 1), (70, 2), (800, 3)] + [(1000, 4)] * 17)
    assert clock.offset_ns(lambda: next(readings)) == 2


@given(st.lists(moments, min_size=1, max_size=20))
def test_stamps_become_nanoseconds(times: list[int]) -> None:
    offset = min(times)
    raw = b"".join(map(clock.timespec, times))
    assert list(clock.monotonic(raw, offset)) == [ns - offset for ns in times]
    assert clock.last(raw, offset) == times[-1] - offset


def test_without_stamps_there_are_no_times() -> None:
    assert len(clock.monotonic(b"", 1)) == 0


def test_a_kernel_without_time_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        monkeypatch.setattr(clock, "SO_TIMESTAMPNS", 9999)
        assert not clock.enable_stamps(sock)


def test_a_platform_without_time_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.socket() as sock:
        assert not clock.enable_stamps(sock)


def test_a_byte_is_stamped_on_arrival_not_on_read() -> None:
    """The whole point: the reader may be late."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    with sender, receiver:
        assert clock.enable_stamps(receiver)
        time.sleep(0.05)  # the kernel turns stamping on with some delay
        before = time.perf_counter_ns()
        sender.send(b"x")
        after = time.perf_counter_ns()
        time.sleep(0.1)
        _, ancillary, _, _ = receiver.recvmsg(10, clock.ANCILLARY)
        stamp = clock.last(ancillary[0][2], clock.offset_ns())
        assert before - 1_000_000 < stamp < after + 10_000_000
