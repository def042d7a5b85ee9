"""Connections to nodes: SSH without Nagle's algorithm, with keep-alives; output of any bytes."""

import logging
import socket
from collections.abc import Iterator
from typing import Any

import paramiko
from pyinfra.connectors import util

# A pull sends no byte for minutes; routers drop silent connections sooner than that.
KEEPALIVE_SECONDS = 30

# Without a handler, Python prints paramiko's traceback for each node that does not answer, besides
# the error that it raises.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def nodelay(sock: Any, **kwargs: Any) -> paramiko.Transport:
    """Open a transport whose packets leave at once: paramiko leaves Nagle on, ~40 ms a command.

    Through a jump host `sock` is a paramiko channel, which has no such option.
    """
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(sock, **kwargs)
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport


_read_buffer = util.read_buffer


def read_any_bytes() -> None:
    """From now on a byte that is not UTF-8 becomes a replacement character.

    pyinfra's own reader raises at it, and the rest of the output is lost: a log, or a banner in
    Latin-1, is enough.
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
