"""The ranks' logs: one connection per node streams its rank's log, and the lines are merged in the
order of their time stamps."""

import heapq
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

CONNECT_SECONDS = 5
AGAIN_SECONDS = 2.0
END_SECONDS = 2.0
LINE_BYTES = 2**20
STDERR_LINES = 100
# What precedes this mark was printed by the node's shell (its ~/.bashrc). The node's clock follows:
# Unix time, ns.
CLOCK = "spark-serving clock "
CURE = "put this first in the login's ~/.bashrc: [[ $- == *i* ]] || return"

# Docker's --timestamps: RFC 3339 with up to nine digits of a second, UTC.
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z ?")
NS = 10**9
# A smaller difference may come from the connection's delay; a larger one is a wrong clock.
SKEW_NS = NS

SCRIPT = Path(__file__).with_name("feed.sh").read_text()


# ---- lines


@dataclass(frozen=True, order=True)
class LogLine:
    """One line. `at`: its time, Unix ns by the reader's clock; `serial`: keeps the order of lines
    of the same time."""

    at: int
    rank: int
    serial: int
    text: str = field(compare=False)
    arrived: float = field(compare=False, default=0.0)


def split_stamp(line: str) -> tuple[int | None, str]:
    """(Docker's time stamp in Unix ns, the rest); (None, the line) for Docker's own messages."""
    match = _STAMP.match(line)
    if match is None:
        return None, line
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        return None, line
    return int(whole.timestamp()) * NS + int((match[2] or "").ljust(9, "0")), line[match.end() :]


def clock_skew(node_ns: int, here_ns: int) -> int:
    """How far a node's clock is ahead, ns; 0 for a difference that the connection may explain."""
    ahead = node_ns - here_ns
    return ahead if abs(ahead) > SKEW_NS else 0


class LogMerge:
    """Holds each line back for a moment, so that an earlier one can still be put before it.

    + hold: seconds; a line that arrives later than that is not moved
    """

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self._heap: list[LogLine] = []

    def add(self, line: LogLine) -> None:
        heapq.heappush(self._heap, line)

    def due(self, now: float) -> Iterator[LogLine]:
        """The lines that have waited long enough, in order."""
        while self._heap and self._heap[0].arrived + self.hold <= now:
            yield heapq.heappop(self._heap)

    def rest(self) -> Iterator[LogLine]:
        while self._heap:
            yield heapq.heappop(self._heap)


# ---- connections


Report = Callable[[LogLine], None]
Note = Callable[[str], None]


@dataclass
class LogFeed(threading.Thread):
    """Reads one rank's log.

    + rank, node: which one, with its entry in the listing
    + tail: how many of the existing lines to read, or "all"
    + spoke: set once the node has answered, or failed to
    + failed: why it could not be read, "" if it could
    """

    rank: int
    node: Mapping[str, Any]
    tail: str
    follow: bool
    report: Report
    note: Note
    spoke: threading.Event = field(default_factory=threading.Event)
    failed: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._since, self._last, self._serial, self._skew = "", 0, 0, 0
        self._clocked, self._printed = False, ""

    # A thread is compared by identity, not by its fields.
    __hash__ = threading.Thread.__hash__
    __eq__ = threading.Thread.__eq__

    def run(self) -> None:
        while not self._ending.is_set():
            self._once()
            self.spoke.set()
            if not self.follow:
                return
            if not self._ending.is_set():
                self.note(f"{self.node['name']}: {self.failed or 'the connection ended'}")
            self._ending.wait(AGAIN_SECONDS)

    def end(self) -> None:
        """End the log command on the node, and the connection; nothing is left running."""
        self._ending.set()
        process = self._process
        if process is None:
            return
        with suppress(OSError, ValueError):
            if process.stdin:
                process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _once(self) -> None:
        """One connection, from start to end."""
        self._clocked, self._printed = False, ""
        arguments = [self.node["runtime"], self.node["rank"], self.tail]
        argv = remote_argv(self.node, SCRIPT, [*arguments, "follow" * self.follow, self._since])
        if argv is None:
            self.failed = "there is no way to it by SSH"
            return
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as self._process:
            assert self._process.stdout and self._process.stderr
            errors = deque[str](maxlen=STDERR_LINES)
            words = (line.decode(errors="replace").strip() for line in _lines(self._process.stderr))
            other = threading.Thread(target=errors.extend, args=(words,), daemon=True)
            other.start()
            # Read as bytes: in text mode, a progress bar's \r would end a line.
            for line in _lines(self._process.stdout):
                self._take(line.decode(errors="replace").rstrip("\n"))
            other.join()
            code = self._process.wait()
        why = " ".join(errors)[-300:].strip() or self.failed
        if self._clocked:
            self.failed = why if code else ""
        else:
            printed = f", and printed: {self._printed} ({CURE})" if self._printed else ""
            self.failed = why or f"its shell did not run the command{printed}"

    def _take(self, line: str) -> None:
        now = time.time_ns()
        docker = self.node["runtime"] == "docker"
        if not self._clocked:
            before, clock, rest = line.partition(CLOCK)
            self._printed = before.strip()[:200] or self._printed
            if clock:
                self._clocked = True
                clock = rest.strip()
                # macOS' date knows no nanoseconds.
                self._skew = clock_skew(int(clock), now) if re.fullmatch("[0-9]{19}", clock) else 0
                self.spoke.set()
            return
        kind, _, rest = line.partition(" ")
        if kind == "!" and docker:
            self.note(f"{self.node['name']}: {rest}")
            return
        at, text = split_stamp(line) if docker else (None, line)
        if at is None and docker:
            # Docker's own message: no such container, or the daemon is gone.
            self.failed = text
            if self.follow:
                self.note(f"{self.node['name']}: {text}")
            return
        if at is not None and self._since and at <= self._last:
            return
        self._remember(line, at)
        self._serial += 1
        at = now if at is None else at - self._skew
        self.report(LogLine(at, self.rank, self._serial, text, time.monotonic()))

    def _remember(self, line: str, at: int | None) -> None:
        """Note where to resume after a lost connection."""
        if at is not None and self.follow:
            self._since, self._last = line.partition(" ")[0], at


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """A stream's lines, each cut to its first LINE_BYTES."""
    while line := stream.readline(LINE_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(LINE_BYTES)
        yield line


def remote_argv(node: Mapping[str, Any], script: str, arguments: Sequence[str]) -> list[str] | None:
    """The command line that runs a POSIX sh script there; None if there is no way to it."""
    here = ["sh", "-c", script.strip(), "sh", *arguments]
    if node["here"]:
        return here
    if not (to := node["ssh"]):
        return None
    # A connection of our own: not shared, no prompts, no forwarding, ended when the node is silent.
    options = {
        "BatchMode": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    if to["strict_host_key_checking"]:
        options["StrictHostKeyChecking"] = to["strict_host_key_checking"]
    if to["known_hosts_file"]:
        options["UserKnownHostsFile"] = f'"{to["known_hosts_file"]}"'
    flags = {"-F": to["config_file"], "-i": to["key_file"], "-l": to["user"]}
    flags["-p"] = str(to["port"] or "")
    return [
        *("ssh", "-T"),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        *(word for flag, value in flags.items() if value for word in (flag, value)),
        *("--", to["hostname"], shlex.join(["exec", *here])),
    ]
