"""The pool of connections to one server: open them, lend them to requests, drop them."""

import time

from spark_bench.client.connection import UNTRUSTED, Broken, Connection, State
from spark_bench.client.poller import poller
from spark_bench.client.tally import files_allowed
from spark_bench.client.target import ServerTarget, SocketAddress
from spark_bench.errors import Unreachable

MOST_EVENTS = 8192
CONNECT_SECONDS = 10.0
# Connections to open at the same time; more could overflow a server's backlog.
OPENING = 64

# Open files that the process needs for other purposes.
OTHER_FILES = 64
# Limit of open files to ask for: an open loop may need any number, but hardly more than this.
FILES = 65536


class Pool:
    """Non-blocking connections, watched by one poller.

    connections: all connections, by file descriptor
    idle: those that are free for a request, by file descriptor; the last used is taken first
    stopping: whoever waits for these sockets should give up
    """

    def __init__(self, target: ServerTarget) -> None:
        self.target = target
        self.stopping = False
        self.poller = poller()
        self.connections: dict[int, Connection] = {}
        self.idle: dict[int, Connection] = {}
        self._address: SocketAddress | None = None
        self._why = Broken("")

    def open(self, count: int) -> int:
        """Open connections until `count` are idle, or as many as open files and the server allow.

        Returns how many are idle. Raises Unreachable if the server has not been reached before and
        can't be reached now.
        """
        files = files_allowed(max(count + OTHER_FILES, FILES))
        allowed = min(count, max(1, files - OTHER_FILES))
        while len(self.idle) < allowed:
            before = len(self.idle)
            self._open(min(OPENING, allowed - before))
            if len(self.idle) <= before:
                break
        return len(self.idle)

    def take(self, *, fresh: bool = False) -> Connection:
        """An idle connection, or a new one that is being opened. Raises Broken.

        fresh: always open a new one
        """
        if self.idle and not fresh:
            return self.idle.popitem()[1]
        return self._connect()

    def advance(self, connection: Connection, mask: int) -> None:
        """Let a connection handle an event. Raises Broken."""
        connection.ready(mask)
        if connection.unsent:
            self.poller.writing(connection.sock)

    def drop(self, connection: Connection) -> None:
        """Close a connection, whatever it was doing."""
        if connection.state is State.CLOSED:
            return
        self.poller.remove(connection.sock)
        del self.connections[connection.fd]
        self.idle.pop(connection.fd, None)
        connection.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self.connections.values()):
            self.drop(connection)
        self.poller.close()

    def _connect(self) -> Connection:
        connection = Connection(self.target, self._address or self.target.addresses[0])
        self.connections[connection.fd] = connection
        self.poller.add(connection.sock)
        return connection

    def _open(self, count: int) -> None:
        """Open `count` connections to the first address that answers."""
        if self._address is None:
            self._address = self._first_address()
            count -= 1
        opening = [c for _ in range(count) if (c := self._try()) is not None]
        self._wait(opening)
        self.idle |= {c.fd: c for c in opening if c.state is State.OPEN}

    def _first_address(self) -> SocketAddress:
        for address in self.target.addresses:
            self._address = address
            if (connection := self._try()) is None:
                continue
            self._wait([connection])
            if connection.state is State.OPEN:
                self.idle[connection.fd] = connection
                return address
        self._address = None
        raise self._unreachable()

    def _unreachable(self) -> Unreachable:
        place = f" through the proxy {self.target.proxy}" if self.target.proxy else ""
        cure = "is the server running? check --url"
        if UNTRUSTED in self._why.args:
            cure = "check --url, or name the authority that signed its certificate in SSL_CERT_FILE"
        return Unreachable(f"{self.target.url}{place}: {self._why.args[0]}; {cure}")

    def _try(self) -> Connection | None:
        try:
            return self._connect()
        except Broken as e:
            self._why = e
            return None

    def _wait(self, opening: list[Connection]) -> None:
        """Wait until each is open or has failed."""
        waiting = {c.fd: c for c in opening}
        deadline = time.monotonic() + CONNECT_SECONDS
        while waiting and not self.stopping and time.monotonic() < deadline:
            for fd, mask in self.poller.poll(0.1, MOST_EVENTS):
                self._advance(fd, mask)
                if fd in waiting and waiting[fd].state in (State.OPEN, State.CLOSED):
                    del waiting[fd]
        if waiting:
            self._why = Broken(f"no connection within {CONNECT_SECONDS:g} s")
        for connection in waiting.values():
            self.drop(connection)

    def _advance(self, fd: int, mask: int) -> None:
        connection = self.connections.get(fd)
        if connection is None:
            return
        try:
            self.advance(connection, mask)
        except Broken as e:
            self._why = e
            self.drop(connection)
        else:
            if connection.eof or connection.failure:
                self._why = connection.failure or Broken("the server closes the connection at once")
                self.drop(connection)
            elif connection.data and connection.state is State.OPEN:
                self._why = Broken("the server sends data before any request")
                self.drop(connection)
