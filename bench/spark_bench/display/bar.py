"""A progress bar on a terminal, drawn by a separate process: drawing takes milliseconds, during
which responses would wait to be read."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from typing import Self, TextIO

import msgspec
from msgspec import Struct

from spark_bench.client.tally import Progress

# Seconds. The process takes 0.3 s to start on a slow machine; a paused terminal (Ctrl-S) must not
# block the run.
READY, END = 5.0, 2.0
SHOW_CURSOR = "\x1b[?25h"


class Bar:
    """Draws on `stream`. If the drawing process dies, the run continues without a bar.

    process: the one that draws, while there is one
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.process: subprocess.Popen[bytes] | None = None
        self._unsent = b""
        self._under_way = False

    def step(self, text: str) -> None:
        self._send(DrawMessage(step=text))

    def start(self, total: int, label: str, thing: str = "request") -> None:
        # Otherwise its imports would compete with the client for the CPU.
        self._wait_until_ready()
        self._under_way = True
        self._send(DrawMessage(label=label, total=total, thing=thing))

    def update(self, progress: Progress) -> None:
        if self._under_way:
            self._send(DrawMessage(look=progress))

    def end(self) -> None:
        self._under_way = False

    def say(self, text: str) -> None:
        self._send(DrawMessage(say=text))

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self.process = process = subprocess.Popen(
                [sys.executable, "-m", "spark_bench.display.bar_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stream,
                bufsize=0,
                # Ctrl-C goes to the client, which stops this process when it is done.
                start_new_session=True,
            )
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
        return self

    def __exit__(self, *_: object) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode:
            with contextlib.suppress(OSError):
                self.stream.write(SHOW_CURSOR)
                self.stream.flush()

    def _wait_until_ready(self) -> None:
        """Wait for its first line ("ready"), or for its end."""
        if self.process is not None and self.process.stdout is not None:
            select.select([self.process.stdout], [], [], READY)

    def _send(self, line: DrawMessage) -> None:
        """Send a message, or drop it while the previous one is not written: never half a line."""
        if self._unsent:
            self._flush()
        if not self._unsent:
            self._unsent = msgspec.json.encode(line) + b"\n"
            self._flush()

    def _flush(self) -> None:
        if self.process is None or self.process.stdin is None:
            self._unsent = b""
            return
        with contextlib.suppress(OSError):
            written = os.write(self.process.stdin.fileno(), self._unsent)
            self._unsent = self._unsent[written:]


class DrawMessage(Struct, frozen=True, omit_defaults=True):
    """One JSON line to the drawing process; one of:

    label, total, thing: a load of `total` requests starts, or of what they are called
    look: its progress
    step: what is happening before it starts
    say: a line to print
    """

    label: str | None = None
    total: int = 0
    thing: str = "request"
    look: Progress | None = None
    say: str | None = None
    step: str | None = None
