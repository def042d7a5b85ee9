"""What a watchdog reads on its node, and what it does there: end a rank, stop it, or start it.

Runs on nodes: the standard library alone. Docker is queried over its socket: a `docker` command
every few seconds would take more of a core than the watchdog may.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster.watchdog.duties import OwnRank

DOCKER = "/var/run/docker.sock"
# A rank's label, and where its API key lies in it: as cluster.rank has them, which nodes lack.
LABEL = "spark-serving.spec"
KEYS = "/run/secrets/spark-serving-api"
LEASES = ("/run/lock/spark-serving", "/tmp/spark-serving")
# Seconds until a lease is stale, as cluster.lease has it.
STALE_SECONDS = 60
DOCKER_SECONDS = 10
# Bytes of an answer that are read.
MOST = 4_000_000
# A socket's state in /proc/net/tcp, as include/net/tcp_states.h numbers it.
_LISTEN = "0A"


class Unreadable(Exception):
    """Docker did not answer, or not what Docker answers."""


@dataclass(frozen=True)
class RankContainer:
    """The node's own rank.

    + pid: of its first process, as the node has it; 0 where there is none
    + started: when that started, in clock ticks since the node's boot
    + port, host, model: where its API listens, and the id that it serves
    + metrics: it serves /metrics; key: file with the API's key, "" where none is required
    """

    id: str
    own: OwnRank
    pid: int = 0
    started: int = 0
    host: str = "0.0.0.0"
    port: int = 0
    model: str = ""
    metrics: bool = False
    key: str = field(default="", repr=False)


class _DockerConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=DOCKER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DOCKER_SECONDS)
        self.sock.connect(self.path)


@dataclass(frozen=True)
class Docker:
    """The node's Docker.

    + path: its socket; pid: the file that dockerd writes when it starts; proc: where the kernel
      shows processes
    """

    path: str = DOCKER
    proc: str = "/proc"
    pid: str = "/run/docker.pid"

    def call(self, method: str, path: str) -> Any:
        """The JSON that Docker answers; None for an empty answer. Raises Unreadable."""
        connection = _DockerConnection(self.path)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read(MOST)
            # 304: a container is stopped, or started, already.
            if response.status >= 300 and response.status != 304:
                raise Unreadable(f"Docker: {response.status} {body[:200]!r}")
            return json.loads(body) if body else None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as e:
            raise Unreadable(f"Docker: {type(e).__name__}: {e}") from None
        finally:
            connection.close()

    def find_rank(self, group: str, rank: int) -> RankContainer | None:
        """The group's rank on this node, one that runs before one that is kept; None: there is
        none. Raises Unreadable."""
        filters = quote(json.dumps({"label": [LABEL]}))
        try:
            containers = self.call("GET", f"/containers/json?all=true&filters={filters}")
            ours = [c for c in containers if _is_ours(c["Labels"].get(LABEL), group, rank)]
            ours.sort(key=lambda c: c["State"] not in ("running", "restarting"))
            return self.inspect(ours[0]["Id"]) if ours else None
        except (LookupError, TypeError, AttributeError) as e:
            raise Unreadable(f"Docker's list: {type(e).__name__}: {e}") from None

    def inspect(self, id: str) -> RankContainer:
        """A container of a rank. Raises Unreadable."""
        answer = self.call("GET", f"/containers/{quote(id, safe='')}/json")
        try:
            state, spec = answer["State"], json.loads(answer["Config"]["Labels"][LABEL])
            pid = int(state["Pid"])
            starts = bool(state["Restarting"]) or pid == 0
            started = 0 if starts else self.start_of(pid)
            running = bool(state["Running"] or state["Restarting"])
            own = OwnRank(
                life="" if starts else f"{answer['Id']}{state['StartedAt']}",
                age=0.0 if starts else seconds_since(started),
                armed=(answer["HostConfig"]["RestartPolicy"]["Name"] or "no") != "no",
                running=running and not state["Paused"],
                fallen=not running and self.fell(state["StartedAt"], state["FinishedAt"]),
            )
            launch = spec["launch"]
            sources = [v.split(":") for v in spec["volumes"]]
            keys = [f"{v[0]}/api_key" for v in sources if v[1:2] == [KEYS]]
            return RankContainer(
                id=str(answer["Id"]),
                own=own,
                pid=0 if starts else pid,
                started=started,
                host=str(launch["host"]),
                port=int(launch["port"]),
                model=str(launch["served_model_name"]),
                metrics=launch["enable_metrics"] is True,
                key=keys[0] if keys else "",
            )
        except (LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError) as e:
            raise Unreadable(f"Docker's answer: {type(e).__name__}: {e}") from None

    def fell(self, started: str, finished: str) -> bool:
        """Whether a rank that is down went down with a dockerd that was killed: the dockerd that
        runs now found it running, ended it, and has never started it. Raises Unreadable,
        OSError."""
        # By the clock as it was then, which both of Docker's times follow too.
        since = os.stat(self.pid).st_mtime
        if not seconds_of(started) < since < seconds_of(finished):
            return False
        # With it a rank outlives its dockerd, and the next one may have been told to stop it.
        return self.call("GET", "/info")["LiveRestoreEnabled"] is False

    def start_of(self, pid: int) -> int:
        """When a process started, in clock ticks since the node's boot. Raises OSError."""
        return int(Path(self.proc, str(pid), "stat").read_text().rpartition(")")[2].split()[19])

    def end(self, container: RankContainer, *, armed: bool) -> str:
        """Kill a rank's first process, if it is still that one. Returns why not, "" if it was.

        + armed: only where Docker still has it with its restart policy. Else Docker is not queried:
          where memory runs out, it may take too long
        """
        if not container.pid:
            return "it does not run"
        try:
            process = os.pidfd_open(container.pid)
        except OSError as e:
            return f"its process: {e.strerror}"
        try:
            # From here on the number can't become another process's.
            if self.start_of(container.pid) != container.started:
                return "it was started or stopped meanwhile"
            if armed:
                now = self.inspect(container.id).own
                if now.life != container.own.life or not now.on_duty:
                    return "it was started or stopped meanwhile"
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except (Unreadable, OSError, ValueError, LookupError) as e:
            return str(e)
        finally:
            os.close(process)
        return ""

    def stop(self, container: RankContainer) -> str:
        """Stop a rank, so that it stays down. Returns why not, "" if it was."""
        try:
            self.call("POST", f"/containers/{container.id}/stop?t=1")
        except Unreadable as e:
            return str(e)
        return ""

    def start(self, container: RankContainer) -> str:
        """Start a rank that has fallen, and has not been removed or disarmed meanwhile. Returns why
        not, "" if it was."""
        try:
            now = self.inspect(container.id).own
            if not (now.armed and now.fallen):
                return "it was started or stopped meanwhile"
            self.call("POST", f"/containers/{container.id}/start")
        except Unreadable as e:
            return str(e)
        return ""


def seconds_since(ticks: int) -> float:
    """Seconds since a moment in clock ticks after boot; setting the clock does not change it."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, now - ticks / os.sysconf("SC_CLK_TCK"))


def seconds_of(text: str) -> float:
    """Docker's time of day as seconds since 1970. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def _is_ours(label: object, group: str, rank: int) -> bool:
    try:
        spec = json.loads(str(label))
        return bool(spec["group"] == group and spec["rank"] == rank)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def lease_held(group: str, folders: tuple[str, ...] = LEASES) -> bool:
    """Whether a lease on the group is live; only its age is read, never its content."""
    for folder in folders:
        try:
            file = os.lstat(f"{folder}/{group}.lease")
        except OSError:
            continue
        # A time in the future is no live lease's, beyond what clocks are corrected by.
        if stat.S_ISREG(file.st_mode) and abs(time.time() - file.st_mtime) < STALE_SECONDS:
            return True
    return False


def memory_available(path: str = "/proc/meminfo") -> int | None:
    """MemAvailable in bytes; None where it can't be read."""
    try:
        with open(path) as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name == "MemAvailable":
                    return int(rest.split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        pass
    return None


def stay_in_memory() -> None:
    """Keep this process's pages in memory as they are used, so that it works where memory runs
    out; without effect where the node does not allow it."""
    now_and_later_on_use = 1 | 2 | 4
    ctypes.CDLL(None).mlockall(now_and_later_on_use)


def has_address(address: str) -> bool:
    """Whether an address is on this node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def fetch(
    url: tuple[str, int], path: str, seconds: float, body: Mapping[str, object] | None, key: str
) -> tuple[int, str]:
    """Status and text of a response; (0, "") if none came in this time, or too much.

    A server that drips bytes is cut off.
    """
    connection = http.client.HTTPConnection(*url, timeout=seconds)
    late = threading.Event()
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    end = time.monotonic() + seconds
    timer: threading.Timer | None = None
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.connect()
        # The connection forgets its socket where an answer ends with it.
        peer: socket.socket = connection.sock

        def cut() -> None:
            late.set()
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(end - time.monotonic(), cut)
        timer.daemon = True
        timer.start()
        connection.request("GET" if data is None else "POST", path, data, headers)
        response = connection.getresponse()
        parts, size = [], 0
        while part := response.read1(65536):
            parts.append(part)
            size += len(part)
            if size > MOST:
                return 0, ""
        # A socket that was shut down reads as an answer that has ended.
        if late.is_set():
            return 0, ""
        return response.status, b"".join(parts).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError):
        return 0, ""
    finally:
        if timer:
            timer.cancel()
        connection.close()


def listening_users(text: str, addresses: Sequence[bytes], port: int) -> set[int]:
    """Who listens on a port of one of the addresses, as /proc/net/tcp or tcp6 has it. Raises
    ValueError, LookupError."""
    # The kernel shows words of the processor's byte order.
    wanted = {
        "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", each)) + f":{port:04X}"
        for each in addresses
    }
    rows = [line.split() for line in text.splitlines()[1:]]
    return {int(row[7]) for row in rows if row[1] in wanted and row[3] == _LISTEN}


def distrust(host: str, port: int, folder: str = "/proc/net") -> str:
    """Why no key may be sent to a port of this node; "" where root alone listens there, as a rank
    does.

    + host: an IPv4 address
    """
    try:
        own = socket.inet_aton(host)
        users = listening_users(Path(folder, "tcp").read_text(), (own, bytes(4)), port)
        if not users:
            mapped = bytes(10) + b"\xff\xff" + own
            users = listening_users(Path(folder, "tcp6").read_text(), (mapped, bytes(16)), port)
    except (OSError, ValueError, LookupError) as e:
        return f"{folder}: {type(e).__name__}: {e}"
    if not users:
        return f"nobody listens on {host}:{port}"
    others = sorted(users - {0})
    return f"user {others[0]} listens on {host}:{port}, not root" if others else ""


def read_key(path: str) -> str:
    """The API's key; "" where none is required, or its file can't be read."""
    if not path:
        return ""
    try:
        with open(path) as file:
            return file.read(4096).strip()
    except (OSError, ValueError):
        return ""
