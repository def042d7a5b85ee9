"""Sends a load and keeps what comes back, in one thread, understanding nothing.

Everything that matters is stamped by the kernel, or taken right before a send. So the loop may nap
between looks (fewer wake-ups), be late with a read, or draw a bar: no figure moves. What can't be
made good afterwards is a request that was sent late, and two chunks of one stream that lay unread
together, since they share a stamp. Both are measured; see Audit.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import Unreachable
from ..record import Ended, Exchange, Job, Load, Prompt, Timing
from . import clock
from .connection import BUFFERS, READ, Broken, Connection, State
from .framing import HEAD_END, Body, NotHttp
from .poller import DATA, poller
from .progress import Progress
from .schedule import SECOND, Schedule, Turn
from .store import BUDGET, Fate, Piece, Store
from .tally import Tally, cpu_seconds, files_allowed, undisturbed
from .target import Address, Target

# Naps between looks, with many streams: below any engine's step, above the cost of a wake-up.
NAP = 0.001
# Fewer streams than this are read at once: there is little to gather in a nap.
CROWD = 16
# Behind by this much, the loop does not nap.
BEHIND_NS = 3_000_000

# How often time-outs are looked for, and progress is told.
LOOK_NS = 100_000_000
TELL_NS = 500_000_000

MOST_EVENTS = 8192
CONNECT_SECONDS = 10.0
# Connections that are opened at once; more would overflow a server's backlog.
OPENING = 64

# A response in flight gives up its bytes to the store from here on, where memory gets scarce.
SHED = 256 * 1024

GONE = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)

Tell = Callable[[Progress], None]


@dataclass
class Recording:
    """What one load left.

    started_ns: when the load began; every Timing counts from here
    ended_ns: when the last request was over
    interrupted: stopped before it was done
    """

    store: Store
    tally: Tally
    started_ns: int
    ended_ns: int
    cpu_seconds: float
    interrupted: bool

    def exchanges(self) -> Iterator[Exchange]:
        """Every request that was taken up, by index."""
        return self.store.exchanges()


class Recorder:
    """Connections to one server, and the loop over them. Not for use from several threads."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.stopping = False
        self.poller = poller()
        self.connections: dict[int, Connection] = {}
        self.idle: list[Connection] = []
        self._address: Address | None = None

    def open(self, count: int) -> int:
        """Open connections before a clock runs, as many as files allow; how many are open now.

        Raises Unreachable if there is none.
        """
        allowed = min(count, files_allowed(count + 64) - 64)
        while len(self.idle) < allowed:
            before = len(self.idle)
            self._open(min(OPENING, allowed - before))
            if len(self.idle) == before:
                break
        return len(self.idle)

    def exchange(self, wire: bytes, timeout: float = 30.0) -> Exchange:
        """One request on its own, outside a load."""
        job = Job(0, wire, Timing(), Prompt((), None, 0))
        return next(_Run(self, Load([job], timeout=timeout)).record().exchanges())

    def record(self, load: Load, tell: Tell | None = None) -> Recording:
        """Send a load; returns once everything is answered, timed out, or `stop` was called.

        tell: is told twice a second how it goes
        """
        with undisturbed():
            return _Run(self, load, tell).record()

    def stop(self) -> None:
        """End the load that is under way; safe from a signal handler."""
        self.stopping = True

    def connect(self) -> Connection:
        """A connection that is being opened. Raises Broken."""
        address = self._address or self.target.addresses[0]
        connection = Connection(self.target, address)
        self.connections[connection.fd] = connection
        self.poller.add(connection.sock)
        return connection

    def drop(self, connection: Connection) -> None:
        """Close a connection, whatever it was doing."""
        if connection.state is State.CLOSED:
            return
        self.poller.remove(connection.sock)
        del self.connections[connection.fd]
        if connection in self.idle:
            self.idle.remove(connection)
        connection.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self.connections.values()):
            self.drop(connection)
        self.poller.close()

    def _open(self, count: int) -> None:
        """Open a few, over the first address that answers."""
        if self._address is None:
            self._address = self._first_address()
        opening = [c for _ in range(count) if (c := self._try()) is not None]
        self._wait(opening)
        self.idle += [c for c in opening if c.state is State.OPEN]

    def _first_address(self) -> Address:
        why = ""
        for address in self.target.addresses:
            self._address = address
            try:
                connection = self.connect()
                self._wait([connection])
            except Broken as e:
                why = str(e.args[0])
                continue
            if connection.state is State.OPEN:
                self.idle.append(connection)
                return address
            why = self._why
        self._address = None
        place = self.target.proxy and f" through {self.target.proxy}"
        raise Unreachable(f"{self.target.url}{place}: {why}; is the server running? check --url")

    def _try(self) -> Connection | None:
        try:
            return self.connect()
        except Broken:
            return None

    def _wait(self, opening: list[Connection]) -> None:
        """Until each is open or given up."""
        self._why = f"no connection within {CONNECT_SECONDS:g} s"
        waiting = {c.fd: c for c in opening}
        deadline = time.monotonic() + CONNECT_SECONDS
        while waiting and time.monotonic() < deadline:
            for fd, mask in self.poller.poll(0.1, MOST_EVENTS):
                self._advance(self.connections.get(fd), mask)
                if fd in waiting and waiting[fd].state in (State.OPEN, State.CLOSED):
                    del waiting[fd]
        for connection in waiting.values():
            self.drop(connection)

    def _advance(self, connection: Connection | None, mask: int) -> None:
        if connection is None:
            return
        try:
            connection.ready(mask)
        except Broken as e:
            self._why = str(e.args[0])
            self.drop(connection)
        else:
            if connection.eof:
                self.drop(connection)


class _Run:
    """One load over a recorder's connections."""

    def __init__(self, recorder: Recorder, load: Load, tell: Tell | None = None) -> None:
        self.recorder = recorder
        self.load = load
        self.tell = tell
        self.tally = Tally(len(load.jobs))
        self.offset_ns = clock.offset_ns()
        self.store = Store(self.offset_ns)
        self.timeouts: deque[tuple[int, int, Connection]] = deque()
        self.look_ns = self.tell_ns = 0
        self.behind = False
        recorder.stopping = False

    def record(self) -> Recording:
        before = cpu_seconds()
        started = time.perf_counter_ns()
        self.schedule = Schedule(self.load, started)
        self.look_ns, self.tell_ns = started + LOOK_NS, started + TELL_NS
        self._loop()
        interrupted = self.recorder.stopping
        self._give_up()
        self._tell(time.perf_counter_ns())
        return Recording(
            self.store,
            self.tally,
            started,
            time.perf_counter_ns(),
            cpu_seconds() - before,
            interrupted,
        )

    def _loop(self) -> None:
        recorder, tally = self.recorder, self.tally
        connections, poll = recorder.connections, recorder.poller.poll
        now, view = time.perf_counter_ns, BUFFERS[0]
        while True:
            moment = now()
            if moment >= self.look_ns:
                self._look(moment)
            self._send_due(moment)
            if recorder.stopping or self.schedule.finished(moment):
                return
            events = poll(self._patience(moment), MOST_EVENTS)
            if not events:
                continue
            seen = now()
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is None:
                    continue
                if mask != DATA or connection.slow:
                    self._attend(connection, mask)
                    continue
                try:
                    count, ancillary, _, _ = connection.recv(BUFFERS, clock.ANCILLARY)
                except OSError:
                    self._attend(connection, mask)
                    continue
                data = connection.data
                data += view[:count]
                connection.stamps += ancillary[0][2] if ancillary else self._unstamped()
                connection.ends.append(len(data))
                if not 0 < count < READ or data.endswith(HEAD_END):
                    self._attend(connection, mask)
            tally.reads += len(events)
            self._lag(connections.get(events[0][0]), seen)
            if self.schedule.in_flight >= CROWD and not self.behind:
                self._nap()

    def _patience(self, moment: int) -> float:
        """How long to wait for events, in seconds; whole milliseconds, since epoll rounds up."""
        due = self.schedule.next_ns(moment)
        until = self.look_ns if due is None else min(due, self.look_ns)
        left = until - moment
        if left >= 2_000_000:
            return (left // 1_000_000 - 1) / 1000
        if due is not None and left > 0 and not self.schedule.in_flight:
            time.sleep(left / SECOND)
        return 0.0 if due is not None else 0.001

    def _nap(self) -> None:
        moment = time.perf_counter_ns()
        due = self.schedule.next_ns(moment)
        nap = NAP if due is None else min(NAP, (due - moment) / SECOND)
        if nap > 0:
            time.sleep(nap)

    def _lag(self, connection: Connection | None, seen: int) -> None:
        """How long the first event of a look had been waiting."""
        if connection is None or not connection.kernel or not connection.stamps:
            return
        lag = seen - clock.last(connection.stamps, self.offset_ns)
        self.behind = lag > BEHIND_NS
        if lag >= 0:
            self.tally.lags.append(lag)

    def _unstamped(self) -> bytes:
        self.tally.unstamped += 1
        return clock.timespec(time.time_ns())

    def _send_due(self, moment: int) -> None:
        schedule = self.schedule
        while turn := schedule.take(moment):
            self._dispatch(turn)

    def _dispatch(self, turn: Turn, retry: bool = False) -> None:
        recorder = self.recorder
        try:
            connection = recorder.idle.pop() if recorder.idle else recorder.connect()
        except Broken as e:
            self._lost(turn, e)
            return
        connection.index = turn.index
        connection.scheduled_ns, connection.possible_ns = turn.scheduled_ns, turn.possible_ns
        connection.sent_ns = 0
        connection.retry = retry
        deadline = time.perf_counter_ns() + round(self.load.timeout * SECOND)
        self.timeouts.append((deadline, turn.index, connection))
        if connection.state is State.OPEN:
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        tally = self.tally
        sent = connection.sent_ns = time.perf_counter_ns()
        try:
            connection.send(self.load.jobs[connection.index].wire)
        except Broken as e:
            self._broken(connection, e)
            return
        if connection.unsent:
            self.recorder.poller.writing(connection.sock)
        tally.sent += 1
        tally.lates.append(sent - connection.possible_ns)

    def _attend(self, connection: Connection, mask: int) -> None:
        """Everything but a plain read in the middle of a stream."""
        try:
            connection.ready(mask)
            if connection.index < 0:
                self._unasked(connection)
            elif not connection.sent_ns:
                if connection.state is State.OPEN:
                    self._send(connection)
            else:
                self._follow(connection)
        except Broken as e:
            self._broken(connection, e)
        except NotHttp as e:
            self._end(connection, Ended.COMPLETE, str(e), reusable=False)

    def _unasked(self, connection: Connection) -> None:
        """Nothing was asked: the peer closes an idle connection, or talks out of turn."""
        if connection.eof or connection.data:
            self.recorder.drop(connection)

    def _follow(self, connection: Connection) -> None:
        framing = connection.framing
        if framing.body is None and connection.data:
            self._first(connection)
        if framing.ended(connection.data):
            self._end(connection, Ended.COMPLETE, "", reusable=framing.keep_alive)
        elif connection.eof:
            if framing.closed():
                self._end(connection, Ended.COMPLETE, "", reusable=False)
            else:
                raise Broken("the server closed the connection before the answer's end")
        else:
            connection.slow = not connection.plain or framing.body is not Body.CHUNKED

    def _first(self, connection: Connection) -> None:
        if len(connection.ends) == 1:
            first = clock.last(connection.stamps, self.offset_ns)
            self.tally.firsts.append(first - connection.sent_ns)

    def _broken(self, connection: Connection, error: Broken) -> None:
        """A connection that is no more; what that means for its request."""
        turn = Turn(connection.index, connection.scheduled_ns, connection.possible_ns)
        stale = connection.carried and not connection.data and not connection.retry
        if turn.index < 0 or (stale and connection.sent_ns):
            self.recorder.drop(connection)
            if turn.index >= 0:  # a keep-alive that the server had given up meanwhile
                self.tally.sent -= 1
                self._dispatch(turn, retry=True)
        elif not connection.sent_ns:
            self.recorder.drop(connection)
            self._lost(turn, error)
        else:
            code = error.args[1] if len(error.args) > 1 else None
            ended = Ended.RESET if code in GONE else Ended.CUT
            self._end(connection, ended, str(error.args[0]), reusable=False)

    def _lost(self, turn: Turn, error: Broken) -> None:
        """There was no connection to send over."""
        now = time.perf_counter_ns()
        refused = errno.ECONNREFUSED in error.args
        ended = Ended.REFUSED if refused else Ended.UNREACHABLE
        detail = str(error.args[0])
        self.store.end(Fate(turn.index, turn.scheduled_ns, 0, now, ended, detail, False))
        self.tally.failed += 1
        self.schedule.ended(turn.index, now)

    def _end(self, connection: Connection, ended: Ended, detail: str, *, reusable: bool) -> None:
        """A request is over: its bytes to the store, its connection to the next."""
        complete = ended is Ended.COMPLETE and connection.stamps
        at = clock.last(connection.stamps, self.offset_ns) if complete else time.perf_counter_ns()
        index = connection.index
        reused = connection.carried > 0
        self.store.keep(index, Piece(connection.stamps, connection.ends, connection.data))
        self.store.end(
            Fate(index, connection.scheduled_ns, connection.sent_ns, at, ended, detail, reused)
        )
        if ended is Ended.COMPLETE:
            self.tally.done += 1
        else:
            self.tally.failed += 1
        self.schedule.ended(index, at)
        connection.index = -1
        connection.carried += 1
        connection.clear()
        if reusable and not connection.eof:
            self.recorder.idle.append(connection)
        else:
            self.recorder.drop(connection)

    def _look(self, moment: int) -> None:
        """What is done now and then."""
        self.look_ns = moment + LOOK_NS
        while self.timeouts and self.timeouts[0][0] <= moment:
            _, index, connection = self.timeouts.popleft()
            if connection.index == index:
                self._time_out(connection)
        if moment >= self.tell_ns:
            self.tell_ns = moment + TELL_NS
            self._watch_clock()
            self._shed()
            self._tell(moment)

    def _time_out(self, connection: Connection) -> None:
        detail = f"not done within {self.load.timeout:g} s"
        if connection.sent_ns:
            self._end(connection, Ended.TIMEOUT, detail, reusable=False)
            return
        turn = Turn(connection.index, connection.scheduled_ns, connection.possible_ns)
        self.recorder.drop(connection)
        self._lost(turn, Broken(f"no connection: {detail}"))

    def _watch_clock(self) -> None:
        moved = abs(clock.offset_ns() - self.offset_ns)
        self.tally.step_ns = max(self.tally.step_ns, moved)

    def _shed(self) -> None:
        """Where responses in flight get large, let the store have what is understood of them."""
        busy = [c for c in self.recorder.connections.values() if len(c.data) > SHED]
        if sum(len(c.data) for c in busy) > BUDGET:
            for connection in busy:
                if piece := connection.shed():
                    self.store.keep(connection.index, piece)

    def _tell(self, moment: int) -> None:
        if self.tell is None:
            return
        busy = (c for c in self.recorder.connections.values() if c.index >= 0)
        gaps = [gap for c in busy if (gap := c.last_gap_ns()) is not None][:256]
        seconds = (moment - self.schedule.start_ns) / SECOND
        self.tell(self.tally.progress(seconds, self.schedule.in_flight, gaps))

    def _give_up(self) -> None:
        """Whatever is still under way, after a stop."""
        for connection in list(self.recorder.connections.values()):
            if connection.index < 0:
                continue
            if connection.sent_ns:
                self._end(connection, Ended.INTERRUPTED, "the run was stopped", reusable=False)
            else:
                self.recorder.drop(connection)
