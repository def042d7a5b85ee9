"""The client's side of sampling: a separate process, started before a run and read after it.

Its output goes to a temporary file, so it costs the client nothing in between.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

import msgspec

from spark_bench.telemetry import messages, nodes, readings
from spark_bench.telemetry.messages import NoteLine, ReadyLine, SamplerJob, SamplerLine

COMMAND = (sys.executable, "-m", "spark_bench.telemetry.sampler")
# Everything responds or is given up within this time.
READY_SECONDS = nodes.CONNECT_SECONDS + messages.SCRAPE_SECONDS
END_SECONDS = 2 * messages.SCRAPE_SECONDS + 2


class Sampling:
    """A running sampler; `start` it before the run's first request, `stop` it after the last.

    process: the sampler's
    """

    def __init__(
        self, job: SamplerJob, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]
    ) -> None:
        self._job, self.process, self._out, self._err = job, process, out, err
        self._decoder = msgspec.json.Decoder(SamplerLine)
        self.started_ns = time.perf_counter_ns()

    @classmethod
    def start(cls, job: SamplerJob, patience: float = READY_SECONDS) -> Sampling:
        """Start sampling and wait until everything has been sampled once or given up, at most
        `patience` seconds."""
        # Both outlive this call: `stop` reads and closes them.
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            # Ctrl-C is for the client to handle, which still needs the last reading.
            start_new_session=True,
        )
        sampling = cls(job, process, out, err)
        sampling._say(msgspec.json.encode(job))
        sampling._await_ready(time.monotonic() + patience)
        sampling.started_ns = time.perf_counter_ns()
        return sampling

    def stop(self, begin_ns: int = 0, end_ns: int = 0) -> readings.ServerSide:
        """Stop sampling; return what was sampled, for the window of the run (by default from
        `start` until now)."""
        now = time.perf_counter_ns()
        self._say(b"stop")
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        lines = self._lines()
        if words := self._last_words():
            lines.append(NoteLine(f"sampling ended early: {words}"))
        self._close()
        names = [node.name for node in self._job.nodes]
        return readings.server_side(lines, begin_ns or self.started_ns, end_ns or now, names)

    @property
    def ended(self) -> bool:
        """Whether the process has exited."""
        return self.process.poll() is not None

    def cancel(self) -> None:
        """Kill it and drop its data."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        self._out.close()
        self._err.close()

    def _say(self, line: bytes) -> None:
        """Write a line; that a sampler has died shows in its stderr later."""
        with suppress(OSError):
            assert self.process.stdin
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()

    def _await_ready(self, deadline: float) -> None:
        while not self.ended and time.monotonic() < deadline:
            if any(isinstance(line, ReadyLine) for line in self._lines()):
                return
            time.sleep(0.02)

    def _lines(self) -> list[SamplerLine]:
        """Everything written so far, without an incomplete last line."""
        # pread: the process writes at the offset that the two share.
        text = os.pread(self._out.fileno(), os.fstat(self._out.fileno()).st_size, 0)
        return [self._decoder.decode(line) for line in text.split(b"\n")[:-1]]

    def _last_words(self) -> str:
        self._err.seek(0)
        words = self._err.read().decode(errors="replace").strip().splitlines()
        if self.process.returncode == 0:
            return ""
        return words[-1] if words else f"exit {self.process.returncode}"
