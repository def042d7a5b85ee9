"""After which time came what woke the client: by what the kernel counts, and never by a guess."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from spark_bench.client import wakeups
from spark_bench.client.wakeups import RETURN_NS, Wakeups

MS = 1_000_000
NEVER = (0, 0)


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's count for the thread: 5 ms of waiting so far."""
    file = tmp_path / "schedstat"
    file.write_text(f"1000 {5 * MS} 7\n")
    monkeypatch.setattr(wakeups, "SCHEDSTAT", str(file))
    return file


def test_what_ended_a_wait_came_when_it_ended_less_the_waiting_for_a_cpu(counted: Path) -> None:
    with Wakeups() as waking:
        counted.write_text(f"1000 {8 * MS} 8\n")
        assert waking.came_after((MS, 50 * MS), NEVER) == 47 * MS - RETURN_NS
        counted.write_text(f"1000 {9 * MS} 9\n")
        assert waking.came_after((MS, 50 * MS), NEVER) == 47 * MS - RETURN_NS, "the same look"
        # The next look did not wait: what it reports came after the first event of the last one.
        assert waking.came_after((60 * MS, 60 * MS), (MS, 50 * MS)) == 47 * MS - RETURN_NS


def test_a_wait_that_may_not_have_been_one_proves_nothing(counted: Path) -> None:
    with Wakeups() as waking:
        counted.write_text(f"1000 {15 * MS} 8\n")
        assert waking.came_after((40 * MS, 50 * MS), NEVER) == 0


def test_a_wait_in_which_the_process_was_stopped_proves_nothing(counted: Path) -> None:
    with Wakeups() as waking:
        entered = time.perf_counter_ns()
        os.kill(os.getpid(), signal.SIGCONT)
        time.sleep(0.001)
        assert waking.came_after((entered, time.perf_counter_ns() + MS), NEVER) == 0
        entered = time.perf_counter_ns()
        assert waking.came_after((entered, entered + 9 * MS), NEVER) > entered


@pytest.mark.parametrize("text", ["0 0 0\n", None])
def test_a_kernel_that_does_not_count_proves_nothing(counted: Path, text: str | None) -> None:
    counted.write_text(text) if text else counted.unlink()
    with Wakeups() as waking:
        assert waking.came_after((MS, 50 * MS), NEVER) == 0


def test_another_thread_gets_no_signals_and_proves_nothing(counted: Path) -> None:
    came: list[int] = []

    def wait() -> None:
        with Wakeups() as waking:
            came.append(waking.came_after((MS, 50 * MS), NEVER))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert came == [0]


def test_the_usual_handler_comes_back(counted: Path) -> None:
    before = signal.getsignal(signal.SIGCONT)
    with Wakeups():
        assert signal.getsignal(signal.SIGCONT) != before
    assert signal.getsignal(signal.SIGCONT) == before
