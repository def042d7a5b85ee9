"""The reference server's process: start it, set it, read its log."""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from types import TracebackType
from typing import Any

import msgspec

from spark_bench.errors import BadInput, BenchError
from spark_bench.reference_server.build import build_reference_server
from spark_bench.reference_server.streams import Stream, read_dump

# Loopback is never behind a proxy, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

FAVOUR = -12
"""The nice level of a favored reference server: its stamps must not wait for the client's work."""


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
    """A reference server of its own on a free loopback port, as long as the context lasts.

    core: pin it there
    favor: ask the scheduler to prefer it (`favored` tells whether that was allowed)
    ipv6: listen on ::1 instead of 127.0.0.1

    The thread that enters the context must outlive it: the reference server dies with that thread.

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
        """Of its process; 0 while there is none."""
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
            self.favored = _favor(self.pid)
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
        """Sets these keys and all others to their defaults; returns all of them.

        The keys are the fields of Config in source/reference_server.h, where each is described.
        """
        query = urllib.parse.urlencode({"defaults": 1, **{k: int(v) for k, v in keys.items()}})
        return msgspec.json.decode(self._get(f"config?{query}"), type=dict[str, int])

    def reset(self) -> None:
        """Forgets finished requests, counters and histograms."""
        self._get("reset")

    def stats(self) -> Stats:
        """The counters."""
        return msgspec.json.decode(self._get("stats"), type=Stats)

    def dump(self) -> list[Stream]:
        """Every request since the last reset, in the order of their coming."""
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


def _favor(pid: int) -> bool:
    """Of the process in its scheduling group, and of that group among the others."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, FAVOUR)
    except PermissionError:
        return False
    # Kernels without autogroups have no such file.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as group:
        group.write(str(FAVOUR))
    return True
