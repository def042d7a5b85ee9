"""A child process, followed line by line and ended at its time limit or with this process; and the
progress display that shows its lines."""

import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, TextIO

from spark_bench.formats import duration
from spark_bench.printable import printable

# linux/prctl.h
PR_SET_PDEATHSIG = 1
POLL = 0.2  # seconds between two looks at the clock
# Seconds that a run needs to write what it has measured.
GRACE = 20.0
# Seconds of silence, where no terminal shows what is under way, until a line of it is kept.
EVERY = 15.0


class ChildExit(NamedTuple):
    """code: the exit status; None: it reached its time limit. lines: its output, both streams."""

    code: int | None
    lines: list[str]
    seconds: float


@dataclass
class Deadline:
    """When a command's time is over, by the monotonic clock; it can be extended."""

    at: float


def follow_command(
    argv: Sequence[str],
    cwd: Path | None,
    log: BinaryIO,
    seconds: float,
    report: Callable[[str], None],
    environ: Mapping[str, str],
    restarts_clock: Callable[[str], bool] = lambda line: False,
) -> ChildExit:
    """Run a command for at most `seconds`, write what it prints to `log`, report each line.

    restarts_clock: called with each line; whether the time limit starts over

    It has a session of its own, so a Ctrl-C is not sent to it; what it leaves behind on purpose (a
    server in a session of its own) is left alone. An exception ends it, too.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
    )
    lines: list[str] = []
    assert process.stdout
    try:
        deadline = Deadline(began + seconds)
        for line in _read_lines(process, process.stdout, deadline):
            if restarts_clock(line):
                deadline.at = time.monotonic() + seconds
            log.write(line.encode() + b"\n")
            log.flush()
            lines.append(line)
            report(line)
        in_time = process.poll() is not None
    finally:
        if process.poll() is None:
            end_group(process)
        process.stdout.close()
    return ChildExit(process.returncode if in_time else None, lines, time.monotonic() - began)


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """Terminate a process, then kill its whole process group. grace: seconds between the two."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_lines(
    process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: Deadline
) -> Iterator[str]:
    """The lines until it or its time ends; a process that inherited the pipe is not waited for."""
    os.set_blocking(pipe.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while time.monotonic() < deadline.at:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else POLL)
            data = pipe.read() if ready else None
            if data == b"" or (ended and not ready):
                if data == b"":
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline.at - time.monotonic()))
                break
            *whole, rest = (rest + (data or b"")).split(b"\n")
            yield from (_decode(line) for line in whole)
    if rest:
        yield _decode(rest)


def _decode(line: bytes) -> str:
    # A bar that rewrites its line counts as what it says last.
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]


def _die_with_parent() -> Callable[[], None]:
    """Between fork and exec: the kernel ends the child with us, even where we are killed."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def request_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone already
            os.kill(os.getpid(), signal.SIGKILL)

    return request_signal


class SuiteProgress:
    """A line a step with the time since the start, and below it what is under way.

    Writes to `stream`; a stream that is gone is ignored.
    """

    def __init__(self, stream: TextIO, began: float | None = None) -> None:
        self.stream = stream
        self.began = time.monotonic() if began is None else began
        self._terminal = stream.isatty()
        self._below, self._last = False, self.began

    def step(self, text: str) -> None:
        """A line that stays."""
        self._last = time.monotonic()
        since = duration(self._last - self.began)
        self._write(f"{self._clear()}[{since:>11}] {printable(text, lines=True)}\n")

    def below(self, text: str) -> None:
        """A line that the next one replaces; without a terminal one now and then."""
        if not (text := printable(text).strip()):
            return
        if not self._terminal and time.monotonic() - self._last >= EVERY:
            self.step(f"  {text}")
        elif self._terminal:
            width = shutil.get_terminal_size().columns - 16
            self._write(f"{self._clear()}              {text[:width]}")
            self._below = True

    def _clear(self) -> str:
        below, self._below = self._below, False
        return "\r\x1b[K" if below else ""

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()
