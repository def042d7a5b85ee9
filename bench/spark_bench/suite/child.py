"""A command of ours: followed line by line, ended when its time is over, gone when we are gone."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

# linux/prctl.h
PR_SET_PDEATHSIG = 1
LOOK = 0.2  # seconds between two looks at the clock
# What a run needs to write down what it has.
GRACE = 20.0

Tell = Callable[[str], None]


class Ended(NamedTuple):
    """code: the exit status; None: its time was over. lines: all that it printed, both streams."""

    code: int | None
    lines: list[str]
    seconds: float


@dataclass
class Deadline:
    """When a command's time is over, by the monotonic clock; it can be put off meanwhile."""

    at: float


def follow(
    words: Sequence[str],
    cwd: Path | None,
    log: BinaryIO,
    seconds: float,
    tell: Tell,
    environ: Mapping[str, str],
    anew: Callable[[str], bool] = lambda line: False,
) -> Ended:
    """Run a command, write what it prints to `log`, tell each line, for so many seconds at most.

    anew: whether the seconds count anew from a line on

    It has a session of its own, so that a Ctrl-C is not sent to it; what it leaves behind by
    intent (a server in a session of its own) is left alone. An exception ends it, too.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(words),
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
        for line in _lines(process, process.stdout, deadline):
            if anew(line):
                deadline.at = time.monotonic() + seconds
            log.write(line.encode() + b"\n")
            log.flush()
            lines.append(line)
            tell(line)
        in_time = process.poll() is not None
    finally:
        if process.poll() is None:
            end(process)
        process.stdout.close()
    return Ended(process.returncode if in_time else None, lines, time.monotonic() - began)


def end(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """Ask it to end, then end its whole process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines(process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: Deadline) -> Iterator[str]:
    """What comes until it ends, or its time does: whoever inherited the pipe is not waited for."""
    os.set_blocking(pipe.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while time.monotonic() < deadline.at:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else LOOK)
            data = pipe.read() if ready else None
            if data == b"" or (ended and not ready):
                if data == b"":
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline.at - time.monotonic()))
                break
            *whole, rest = (rest + (data or b"")).split(b"\n")
            yield from (_text(line) for line in whole)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    # A bar that rewrites its line counts as what it says last.
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]


def _die_with_parent() -> Callable[[], None]:
    """Between fork and exec: the kernel ends it with us, even where we are killed outright."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone already
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
