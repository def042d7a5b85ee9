"""Runs on a node, by `python3 -c`: which peers it reaches, while the peers do the same.

Takes one JSON argument: address, peers, ports, mark, mtu, seconds. It listens on the ports of its
address, connects to every peer's, pings, tells each peer on the port `mark` that it is done, and
stays until every peer has reported the same to it or its time is over. Prints one JSON line.
Nothing is accepted or sent on the other ports: a connection is proof enough, and ends by a reset,
so that no TIME_WAIT keeps a server from binding the port afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ATTEMPT = 1.0
"""Seconds that one connection attempt waits; a dropped packet is sent again by the next one."""
PAUSE = 0.1
DONE = b"done"
IP_AND_ICMP_HEADERS = 28


def listen(address: str, ports: list[int]) -> tuple[list[socket.socket], list[int]]:
    """Listeners on the free ports, and the ports that somebody holds."""
    listeners, busy = [], []
    for port in ports:
        try:
            listeners.append(socket.create_server((address, port), backlog=256))
        except OSError as e:
            if e.errno == errno.EADDRNOTAVAIL:
                raise
            busy.append(port)
    return listeners, busy


def hear(listener: socket.socket, done: set[str]) -> None:
    """Note, for ever, which peers say that they are done."""
    while True:
        try:
            connection, (peer, _port) = listener.accept()
            connection.settimeout(ATTEMPT)
            with connection:
                if connection.recv(len(DONE)) == DONE:
                    done.add(peer)
        except OSError:
            continue


def try_port(address: str, peer: str, port: int, message: bytes = b"") -> str:
    """One attempt: "open", "refused", "timeout" or "unreachable"."""
    with socket.socket() as s:
        try:
            s.settimeout(ATTEMPT)
            s.bind((address, 0))
            s.connect((peer, port))
            if message:
                s.sendall(message)
            else:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "open"
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "timeout"
        except OSError as e:
            return "timeout" if isinstance(e, socket.timeout) else "unreachable"


def ping(address: str, peer: str, *options: str) -> str:
    """One ping: "ok", "lost", "too big" for the path, or "unknown" where ping can't be used."""
    words = ["ping", "-n", "-c", "1", "-W", "1", "-I", address, *options, peer]
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=3)
    except subprocess.TimeoutExpired:
        return "lost"
    except OSError:
        return "unknown"
    output = (run.stdout + run.stderr).lower()
    if run.returncode == 0:
        return "ok"
    if "too long" in output or "frag needed" in output or "fragmentation needed" in output:
        return "too big"
    # 100 % loss exits with 1; 2 is an option or a right that it lacks.
    return "lost" if run.returncode == 1 and "permitted" not in output else "unknown"


def until(end: float, wanted: str, attempt: Callable[[], str]) -> str:
    """The attempt's answer once it is `wanted` (or can't change), else its last one."""
    while True:
        answer = attempt()
        if answer in (wanted, "unknown", "too big") or time.monotonic() + PAUSE > end:
            return answer
        time.sleep(PAUSE)


def probe_peer(task: dict[str, Any], peer: str, end: float) -> dict[str, Any]:
    """Everything about one peer, all at once."""
    address: str = task["address"]
    states: dict[str, str] = {}
    answers: dict[int, str] = {}
    big = ("-M", "do", "-s", str(task["mtu"] - IP_AND_ICMP_HEADERS))

    def note(into: dict[Any, str], key: Any, wanted: str, attempt: Callable[[], str]) -> None:
        into[key] = until(end, wanted, attempt)

    def port_attempt(port: int) -> Callable[[], str]:
        return lambda: try_port(address, peer, port)

    work = [
        (states, "ping", "ok", lambda: ping(address, peer)),
        (states, "full_ping", "ok", lambda: ping(address, peer, *big)),
        *((answers, port, "open", port_attempt(port)) for port in task["ports"]),
    ]
    together([threading.Thread(target=note, args=args, daemon=True) for args in work])
    return {"peer": peer, **states, "ports": answers}


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(task: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    # Two thirds to find a peer that starts late; the rest to be there for one that does.
    last, end = start + task["seconds"] * 2 / 3, start + task["seconds"]
    address, mark, done = task["address"], task["mark"], set[str]()
    try:
        listeners, busy = listen(address, task["ports"])
    except OSError as e:
        return {"error": f"{address}: {os.strerror(e.errno or 0)}"}
    for listener in listeners:
        if listener.getsockname()[1] == mark:
            threading.Thread(target=hear, args=(listener, done), daemon=True).start()
    reached: list[dict[str, Any]] = []
    together(
        [
            threading.Thread(
                target=lambda p=p: reached.append(probe_peer(task, p, last)), daemon=True
            )
            for p in task["peers"]
        ]
    )
    for peer in task["peers"]:
        try_port(address, peer, mark, DONE)
    while not done.issuperset(task["peers"]) and time.monotonic() < end:
        time.sleep(PAUSE / 2)
    reached.sort(key=lambda r: str(r["peer"]))
    return {"address": address, "busy": busy, "peers": reached}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
