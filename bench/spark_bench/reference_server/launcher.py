"""The reference server's process: compile it into the user's cache when it is first needed; start
it, configure it, read its log."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from spark_bench.errors import BadInput, BenchError
from spark_bench.reference_server.streams import Stream, read_dump

SOURCE = Path(__file__).parent / "source"
FLAGS = ("-O2", "-Wall", "-Wextra")
COMPILERS = ("cc", "gcc", "clang")

# Loopback is never behind a proxy, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

FAVOR = -12
"""The nice level of a favored reference server: its stamps must not wait until the client yields
the CPU."""


def compiler() -> list[str]:
    """$CC (which may contain options), else the first of COMPILERS on the PATH.

    BenchError if there is none.
    """
    chosen = shlex.split(os.environ.get("CC", ""))
    candidates = [chosen] if chosen else [[name] for name in COMPILERS]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    missing = chosen[0] if chosen else ", ".join(COMPILERS)
    raise BenchError(
        f"The built-in reference server needs a C compiler, and there is none of: {missing}. "
        "Install one (apt-get install gcc) or name it in $CC."
    )


def binary_folder() -> Path:
    """Where compiled reference servers are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "spark-bench"


def fingerprint(command: list[str]) -> str:
    """A hash of the sources, the compiler and its flags, so that a change of any makes a new
    binary."""
    digest = hashlib.sha256(shlex.join([*command, *FLAGS]).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build_reference_server() -> Path:
    """The compiled reference server's path; compiles it unless that has been done.

    BenchError if there is no compiler, it fails, or the binary can't be written.
    """
    command = compiler()
    binary = binary_folder() / f"reference-{fingerprint(command)}"
    if binary.exists():
        return binary
    sources = [str(path) for path in sorted(SOURCE.glob("*.c"))]
    try:
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Into a temporary file first: another process may be building the same.
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            compiled = Path(scratch) / "reference"
            argv = [*command, *FLAGS, "-o", str(compiled), *sources]
            done = subprocess.run(argv, capture_output=True, text=True)
            if done.returncode:
                raise BenchError(
                    f"{shlex.join(command)} can't compile the reference server:\n{done.stderr}"
                )
            compiled.rename(binary)
    except OSError as error:
        raise BenchError(
            f"The reference server can't be written to {binary}: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that can be written."
        ) from error
    return binary


class Stats(msgspec.Struct, frozen=True):
    """The reference server's counters since its reset; cpu_*: seconds since its start."""

    accepted: int
    requests: int
    chunks: int
    eagain: int
    client_gone: int
    running: int
    queued: int
    cpu_user_s: float
    cpu_sys_s: float


class ReferenceServer:
    """A private reference server on a free loopback port, which runs as long as the context.

    core: the CPU core to pin it to
    favor: ask the scheduler to prefer it (`favored` tells whether that was allowed)
    ipv6: listen on ::1 instead of 127.0.0.1

    The thread that enters the context must outlive it: the reference server dies with that thread.
    Entering raises BenchError if it can't be compiled or doesn't start.

    >>> with ReferenceServer() as reference:
    ...     reference.configure(ttft_us=50_000, itl_us=5_000)
    ...     # a client at work against reference.url
    ...     streams = reference.dump()
    """

    def __init__(self, core: int | None = None, favor: bool = False, ipv6: bool = False) -> None:
        self.core = core
        self.favor = favor
        self.ipv6 = ipv6
        self.favored = False
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The id of its process; 0 while there is none."""
        return self._process.pid if self._process else 0

    def __enter__(self) -> ReferenceServer:
        argv = [str(build_reference_server()), "--parent", str(os.getpid())]
        if self.ipv6:
            argv.append("--ipv6")
        # A session of its own: Ctrl-C is the client's, and the scheduler's group can be favored.
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            status = self._process.wait()
            raise BenchError(f"The reference server did not start: it ended with status {status}.")
        if self.core is not None:
            os.sched_setaffinity(self.pid, {self.core})
        if self.favor:
            # Favor the process within its scheduling group, then the group among the others.
            try:
                os.setpriority(os.PRIO_PROCESS, self.pid, FAVOR)
            except PermissionError:
                return self
            self.favored = True
            # Kernels without autogroups have no such file.
            with suppress(OSError), open(f"/proc/{self.pid}/autogroup", "w") as group:
                group.write(str(FAVOR))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def configure(self, **keys: int) -> dict[str, int]:
        """Set these keys, and all others to their defaults; return all of them.

        The keys are the fields of Config in source/reference_server.h, where each is described.
        BadInput if the server refuses a value.
        """
        query = urllib.parse.urlencode({"defaults": 1, **{k: int(v) for k, v in keys.items()}})
        return msgspec.json.decode(self._get(f"config?{query}"), type=dict[str, int])

    def reset(self) -> None:
        """Forget finished requests, counters and histograms."""
        self._get("reset")

    def stats(self) -> Stats:
        """Its counters since the last reset."""
        return msgspec.json.decode(self._get("stats"), type=Stats)

    def dump(self) -> list[Stream]:
        """Every request since the last reset, in order of arrival."""
        return read_dump(self._get("dump"))

    def _get(self, what: str) -> bytes:
        try:
            with _OPENER.open(f"{self.url}/_reference/{what}", timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                answered: Any = msgspec.json.decode(error.read())
            raise BadInput(
                f"The reference server refuses a setting: {answered['error']}."
            ) from None
