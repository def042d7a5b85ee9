"""How the nodes and the server are sampled during a run, from the client's side.

A process of its own (sampler.py) is started before the run and read after it; its output goes to a
temporary file, so it costs the client nothing in between. A node is read by one loop over one
connection, which ends when its stdin does: with the run, or with the sampler.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO

import msgspec

from spark_bench.project import ProjectNode
from spark_bench.telemetry import messages, readings

QUERY = "power.draw,temperature.gpu,clocks.sm,utilization.gpu,memory.used"
CONNECT_SECONDS = 5
# port_rcv_data and port_xmit_data count in 4-byte words (InfiniBand architecture, PortCounters).
WORD_BYTES = 4
KIB = 1024  # /proc/meminfo's kB
MIB = 1024**2  # nvidia-smi's memory.used

# The GPU is read last, so that its power is stamped right after it was read. `timeout` keeps an
# nvidia-smi that hangs (a lost GPU) from silencing the rest.
_LOOP = f"""
bound=; command -v timeout >/dev/null && bound='timeout 5'
sample() {{
  total= free=
  [ ! -r /proc/meminfo ] || while read -r key value unit; do
    case $key in MemTotal:) total=$value;; MemAvailable:) free=$value; break;; esac
  done </proc/meminfo
  [ -z "$free" ] || echo "mem $total $free"
  for at in /sys/class/infiniband/*/ports/1/counters; do
    {{ read -r in <"$at/port_rcv_data" && read -r out <"$at/port_xmit_data" && echo "net $in $out"
    }} 2>/dev/null
  done
  if ! command -v nvidia-smi >/dev/null; then echo 'nogpu it has no nvidia-smi'
  elif told=$($bound nvidia-smi --query-gpu={QUERY} --format=csv,noheader,nounits 2>&1)
  then printf '%s\\n' "$told" | while read -r line; do echo "gpu $line"; done
  else echo "nogpu ${{told:-nvidia-smi does not answer}}" | head -n 1; fi
  echo end
}}
while :; do sample; sleep "$1"; done &
loop=$!
trap 'kill $loop 2>/dev/null' EXIT
trap 'exit 0' HUP INT TERM
cat >/dev/null
"""


def sampling_argv(node: ProjectNode, interval: float) -> list[str] | None:
    """The command that samples a node until its stdin ends; None if the node can't be reached."""
    here = ["sh", "-c", _LOOP.strip(), "sh", f"{interval:g}"]
    if node.here:
        return here
    to = node.ssh
    if to is None:
        return None
    # A connection of its own, no prompts, no forwarding, dropped when dead.
    options = {
        "BatchMode": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    if to.strict_host_key_checking:
        options["StrictHostKeyChecking"] = to.strict_host_key_checking
    if to.known_hosts_file:
        options["UserKnownHostsFile"] = f'"{to.known_hosts_file}"'
    flags = {"-F": to.config_file, "-i": to.key_file, "-l": to.user, "-p": str(to.port or "")}
    return [
        *("ssh", "-T"),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        *(word for flag, value in flags.items() if value for word in (flag, value)),
        *("--", to.hostname, shlex.join(["exec", *here])),
    ]


def parse_sample(lines: Iterable[str], at_ns: int) -> tuple[messages.NodeSample, str]:
    """Parse one round's lines; also return why its GPU could not be read ("" if it was)."""
    by_kind: dict[str, list[str]] = {"mem": [], "net": [], "gpu": [], "nogpu": []}
    for line in lines:
        kind, _, rest = line.strip().partition(" ")
        by_kind.setdefault(kind, []).append(rest)
    gpus = [[parse_figure(field) for field in gpu.split(",")] for gpu in by_kind["gpu"]]
    memory = [int(word) * KIB for line in by_kind["mem"] for word in line.split()]
    ports = [[int(word) * WORD_BYTES for word in port.split()] for port in by_kind["net"]]
    used = _column(gpus, 4)
    sample = messages.NodeSample(
        at_ns=at_ns,
        power_w=sum(watts) if (watts := _column(gpus, 0)) else None,
        temperature_c=max(_column(gpus, 1), default=None),
        clock_mhz=max(_column(gpus, 2), default=None),
        utilization=max(_column(gpus, 3), default=None),
        gpu_memory_bytes=sum(used) * MIB if used else None,
        memory_total_bytes=memory[0] if memory else None,
        memory_available_bytes=memory[1] if memory else None,
        received_bytes=sum(port[0] for port in ports) if ports else None,
        sent_bytes=sum(port[1] for port in ports) if ports else None,
    )
    return sample, " ".join(by_kind["nogpu"])


def parse_figure(field: str) -> float | None:
    """Parse a figure of nvidia-smi, with or without its unit; None for "N/A", "[N/A]" and such."""
    word = field.split()[0] if field.split() else ""
    try:
        return float(word)
    except ValueError:
        return None


def _column(gpus: Sequence[Sequence[float | None]], number: int) -> list[float]:
    """One field of all GPUs that report it."""
    column = (row[number] for row in gpus if len(row) > number)
    return [value for value in column if value is not None]


COMMAND = (sys.executable, "-m", "spark_bench.telemetry.sampler")
# Everything responds or is given up within this time.
READY_SECONDS = CONNECT_SECONDS + messages.SCRAPE_SECONDS
END_SECONDS = 2 * messages.SCRAPE_SECONDS + 2


class Sampling:
    """A running sampler; `start` it before the run's first request, `stop` it after the last.

    process: the sampler's
    """

    def __init__(
        self,
        job: messages.SamplerJob,
        process: subprocess.Popen[bytes],
        out: IO[bytes],
        err: IO[bytes],
    ) -> None:
        self._job, self.process, self._out, self._err = job, process, out, err
        self._decoder = msgspec.json.Decoder(messages.SamplerLine)
        self.started_ns = time.perf_counter_ns()

    @classmethod
    def start(cls, job: messages.SamplerJob, patience: float = READY_SECONDS) -> Sampling:
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
            lines.append(messages.NoteLine(f"sampling ended early: {words}"))
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
            if any(isinstance(line, messages.ReadyLine) for line in self._lines()):
                return
            time.sleep(0.02)

    def _lines(self) -> list[messages.SamplerLine]:
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
