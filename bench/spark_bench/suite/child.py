"""Run a child process line by line, and show its lines as progress.

The child ends at its time limit, or with this process.
"""

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
POLL = 0.2  # seconds between two checks of the time limit
# Seconds that a terminated run is given to write what it has measured.
GRACE = 20.0
# Without a terminal, a line of what is under way is printed after this many seconds of silence.
EVERY = 15.0


class ChildExit(NamedTuple):
    """How a command ended.

    code: its exit status; None: it reached its time limit
    lines: its output, stdout and stderr together
    seconds: how long it ran
    """

    code: int | None
    lines: list[str]
    seconds: float


@dataclass
class Deadline:
    """When a command's time is up, by the monotonic clock in seconds; it can be extended."""

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
    """Run a command for at most `seconds`, write its output to `log`, and report each line.

    restarts_clock: called with each line; returns whether the time limit starts over

    The command runs in its own session, so Ctrl-C is not sent to it. An exception here ends it, but
    not what it started in yet another session, such as a server.
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
    """Terminate a process, then kill its whole process group.

    grace: seconds that the process has to end by itself
    """
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_lines(
    process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: Deadline
) -> Iterator[str]:
    """Yield lines until the process ends or its time is up.

    Does not wait for other processes that inherited the pipe.
    """
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
    # Of a progress bar that rewrites its line, keep the last state.
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]


def _die_with_parent() -> Callable[[], None]:
    """A function to call between fork and exec: has the kernel kill the child when we end."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def request_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has already ended
            os.kill(os.getpid(), signal.SIGKILL)

    return request_signal


class SuiteProgress:
    """Prints a line per step, with the time since the start, and below it what is under way.

    Writes to `stream`, and ignores one that was closed.
    """

    def __init__(self, stream: TextIO, began: float | None = None) -> None:
        self.stream = stream
        self.began = time.monotonic() if began is None else began
        self._terminal = stream.isatty()
        self._below, self._last = False, self.began

    def step(self, text: str) -> None:
        """Print a line that stays."""
        self._last = time.monotonic()
        since = duration(self._last - self.began)
        self._write(f"{self._clear()}[{since:>11}] {printable(text, lines=True)}\n")

    def below(self, text: str) -> None:
        """Print a line that the next one replaces; without a terminal, only after some silence."""
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
