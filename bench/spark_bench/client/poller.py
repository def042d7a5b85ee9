"""Which sockets have events: epoll, or whatever the platform has."""

import select
import selectors
import socket
from typing import Protocol

READABLE = 1
WRITABLE = 4

# What an event for a running response looks like: bytes have come, and one could write.
DATA = READABLE | WRITABLE

# select() knows no descriptors from here on.
SELECTABLE = 1024


class Poller(Protocol):
    """Reports each socket's changes as (fd, mask); a bit beyond DATA: the peer has gone."""

    def poll(self, seconds: float, most: int, /) -> list[tuple[int, int]]:
        """Changes, waiting so long for the first; a part of a millisecond may count as a whole."""

    def wait(self, seconds: float) -> None:
        """Until there is a change to poll, or for so long, as exactly as the platform can."""

    def add(self, sock: socket.socket) -> None:
        """Watch it from now on."""

    def writing(self, sock: socket.socket) -> None:
        """Not everything could be written: report when more can be."""

    def remove(self, sock: socket.socket) -> None:
        """Watch it no more."""

    def close(self) -> None:
        """Give the poller itself back."""


def poller() -> Poller:
    """The best that this platform has."""
    return Epoll() if hasattr(select, "epoll") else Portable()


class Epoll:
    """Edge-triggered: a change is reported once, so each socket is read until it is empty."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.poll = self._epoll.poll
        self.close = self._epoll.close

    def wait(self, seconds: float) -> None:
        # epoll_wait counts whole milliseconds; select doesn't, and an epoll can be watched itself.
        if self._epoll.fileno() < SELECTABLE:
            select.select([self._epoll], (), (), seconds)

    def add(self, sock: socket.socket) -> None:
        mask = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        self._epoll.register(sock.fileno(), mask)

    def writing(self, sock: socket.socket) -> None:
        """Reported anyway: edges need no arming."""

    def remove(self, sock: socket.socket) -> None:
        self._epoll.unregister(sock.fileno())


class Portable:
    """Level-triggered, over `selectors`: being writable is watched only where it matters."""

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
