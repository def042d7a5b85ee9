"""The way to a node: SSH without Nagle's algorithm, kept alive; and answers of any bytes."""

import logging
import socket
from collections.abc import Iterator
from typing import Any

import paramiko
from pyinfra.connectors import util

# A pull sends no byte for minutes; routers forget silent connections after less than that.
KEEPALIVE_SECONDS = 30

# Python prints what no handler takes: paramiko's traceback for each node that does not answer,
# beside the error that it also raises.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def nodelay(sock: Any, **kwargs: Any) -> paramiko.Transport:
    """Open a transport whose packets leave at once: paramiko leaves Nagle on, ~40 ms a command.

    A jump host hands over a paramiko channel instead of a socket: nothing to set there.
    """
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made = paramiko.Transport(sock, **kwargs)
    made.set_keepalive(KEEPALIVE_SECONDS)
    return made


_read_buffer = util.read_buffer


def read_any_bytes() -> None:
    """From now on a byte that is no UTF-8 costs its own character alone.

    pyinfra's reader ends at it with a traceback, and the rest of the answer is lost: a log, or a
    banner in Latin-1, is enough.
    """

    def read(name: str, io: Any, *more: Any, **options: Any) -> None:
        _read_buffer(name, _lines(io), *more, **options)

    util.read_buffer = read


def _lines(io: Any) -> Iterator[str]:
    """A stream's lines; paramiko decodes them itself, a local process's are bytes."""
    while True:
        try:
            line = io.readline()
        except UnicodeDecodeError as e:
            line = e.object
        if not line:
            return
        yield line if isinstance(line, str) else line.decode(errors="replace")
