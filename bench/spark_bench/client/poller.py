"""Find out which sockets have events, with epoll or what else the platform has."""

import select
import selectors
import socket
from typing import Protocol

READABLE = 1
WRITABLE = 4

# The mask of an ordinary event of a running response: there are bytes to read, and room to write.
DATA = READABLE | WRITABLE

# select() can't take descriptors from this number on.
SELECTABLE = 1024


class Poller(Protocol):
    """Reports changes of sockets as (fd, mask). A bit that is not in DATA: the peer has gone."""

    def poll(self, seconds: float, most: int, /) -> list[tuple[int, int]]:
        """Up to `most` changes. Waits up to `seconds` for the first, perhaps rounded up to ms."""

    def wait(self, seconds: float) -> None:
        """Wait until there is a change or the time is up, as precisely as the platform can."""

    def add(self, sock: socket.socket) -> None:
        """Start watching a socket."""

    def writing(self, sock: socket.socket) -> None:
        """Report when a socket can be written again, since not everything could be written."""

    def remove(self, sock: socket.socket) -> None:
        """Stop watching a socket."""

    def close(self) -> None:
        """Close the poller itself."""


def poller() -> Poller:
    """The best poller that this platform has."""
    return Epoll() if hasattr(select, "epoll") else Portable()


class Epoll:
    """Edge-triggered: a change is reported once, so each socket is read until it is empty."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.poll = self._epoll.poll
        self.close = self._epoll.close

    def wait(self, seconds: float) -> None:
        # epoll_wait counts in milliseconds. select is finer, and can watch the epoll's descriptor.
        if self._epoll.fileno() < SELECTABLE:
            select.select([self._epoll], (), (), seconds)

    def add(self, sock: socket.socket) -> None:
        mask = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        self._epoll.register(sock.fileno(), mask)

    def writing(self, sock: socket.socket) -> None:
        """Nothing to do: an edge-triggered epoll reports this anyway."""

    def remove(self, sock: socket.socket) -> None:
        self._epoll.unregister(sock.fileno())


class Portable:
    """Level-triggered, over `selectors`: watches for writability only where that is needed."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def poll(self, seconds: float, most: int, /) -> list[tuple[int, int]]:
        return [self._event(key, mask) for key, mask in self._selector.select(seconds)[:most]]

    def wait(self, seconds: float) -> None:
        self._selector.select(seconds)

    def add(self, sock: socket.socket) -> None:
        self._selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def writing(self, sock: socket.socket) -> None:
        self._selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def remove(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)

    def close(self) -> None:
        self._selector.close()

    def _event(self, key: selectors.SelectorKey, mask: int) -> tuple[int, int]:
        if mask & selectors.EVENT_WRITE:
            self._selector.modify(key.fileobj, selectors.EVENT_READ)
        readable = READABLE if mask & selectors.EVENT_READ else 0
        return key.fd, readable | WRITABLE
