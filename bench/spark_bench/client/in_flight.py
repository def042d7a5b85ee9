"""The requests in flight: send them, follow them to their end, retry, time out, give up."""

import errno
import time

from spark_bench.client import clock
from spark_bench.client.connection import Broken, Connection, State
from spark_bench.client.pool import Pool
from spark_bench.client.response_store import BUDGET, Piece, RequestOutcome, ResponseStore
from spark_bench.client.schedule import SECOND, Schedule, Turn
from spark_bench.client.tally import Tally
from spark_bench.client.wakeups import Wakeups
from spark_bench.protocol.http1 import BodyEnd, MalformedHttp
from spark_bench.record import Ended, Load

# Most requests sent between two looks at the sockets, since what arrives meanwhile stays unread.
BATCH = 64

# While answers of a closed loop take less than this, in ns, a nap would be more than a hundredth of
# them, by which the next request would be sent late.
HURRIED_NS = 100_000_000

# Once memory is over its budget, responses in flight larger than this move bytes to the store.
SHED = 256 * 1024

# Bytes kept of a response that is given up for its size: its head, and how its body begins.
BEGINNING = 64 * 1024

GONE = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)


class InFlight:
    """The requests of one load that are in flight.

    woke_ns: when the sockets were last looked at
    wait, wait_before: before and after waiting for events, in that look and the one before
    looked_ns: before the look at all sockets before that
    wakeups: how long this thread waits for a CPU when something comes
    hurried: slots wait for answers so short that a nap would leave them idle for long
    ended: what has ended and is not in the store yet, at most BATCH: that waits until nothing else
        is to be done
    unbroken: how many requests have ended since a look at the sockets found nothing
    """

    def __init__(
        self, pool: Pool, load: Load, schedule: Schedule, store: ResponseStore, tally: Tally
    ) -> None:
        self.woke_ns = self.looked_ns = 0
        self.wait = self.wait_before = (0, 0)
        self.wakeups = Wakeups()
        self.hurried = False
        self.unbroken = 0
        self.ended: list[tuple[RequestOutcome, Piece]] = []
        self._pool = pool
        self._load = load
        self._schedule = schedule
        self._store = store
        self._tally = tally
        self._offset_ns = store.offset_ns
        self._timeout_ns = round(load.timeout * SECOND)

    def earliest_ns(self) -> int:
        """The earliest at which something that the last look reported can have come.

        That is after the look before it, which did not report it; see also `Wakeups`.
        """
        return max(self.looked_ns, self.wakeups.came_after(self.wait, self.wait_before))

    def send_due(self, moment: int) -> None:
        """Send the requests that are due, at most BATCH of them."""
        for _ in range(BATCH):
            turn = self._schedule.take(moment)
            if turn is None:
                return
            self._dispatch(turn)

    def handle_event(self, connection: Connection, mask: int) -> None:
        """Handle any event except a read of a response's own bytes."""
        connection.looked_ns = self.earliest_ns()
        try:
            self._pool.advance(connection, mask)
        except (Broken, MalformedHttp) as e:
            self._broken(connection, e)
        else:
            self.follow(connection)

    def follow(self, connection: Connection) -> None:
        """Go on with a connection's request as far as what was read allows."""
        try:
            if connection.index < 0:
                self._check_idle(connection)
            elif connection.sent_ns:
                self._follow(connection)
            elif connection.state is State.OPEN:
                self._send(connection)
        except (Broken, MalformedHttp) as e:
            self._broken(connection, e)

    def check_all(self, moment: int) -> None:
        """Check what a single read does not show.

        These are timeouts, framing errors in the middle of a stream, and too much memory.
        """
        size = 0
        for connection in [c for c in self._pool.connections.values() if c.index >= 0]:
            if connection.deadline_ns <= moment:
                self._time_out(connection)
            elif connection.data:
                self._check(connection)
                size += len(connection.data)
        if size + self._store.held > BUDGET:
            self._shed()

    def settle(self) -> None:
        """Put what has ended into the store."""
        for outcome, piece in self.ended:
            self._store.keep(outcome.index, piece)
            self._store.end(outcome)
        self.ended.clear()

    def give_up(self) -> None:
        """End whatever is still in flight after a stop."""
        for connection in [c for c in self._pool.connections.values() if c.index >= 0]:
            if connection.sent_ns:
                self._end(connection, Ended.INTERRUPTED, "the run was stopped", reusable=False)
            else:
                self._pool.drop(connection)
        self.settle()

    def _dispatch(self, turn: Turn, retry: bool = False) -> None:
        try:
            connection = self._pool.take(fresh=retry)
        except Broken as e:
            self._lost(turn, e)
            return
        connection.index = turn.index
        connection.scheduled_ns, connection.possible_ns = turn.scheduled_ns, turn.possible_ns
        connection.sent_ns = connection.sent_by_ns = 0
        connection.deadline_ns = time.perf_counter_ns() + self._timeout_ns
        connection.room = self._load.most_bytes
        connection.retry = retry
        if connection.state is State.OPEN:
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        sent = connection.sent_ns = time.perf_counter_ns()
        self._tally.sent += 1
        late = sent - connection.possible_ns
        self._tally.lates.add(late)
        self._tally.idle_ns += late
        try:
            connection.send(self._load.jobs[connection.index].wire)
        except Broken as e:
            self._broken(connection, e)
            return
        if connection.unsent:
            connection.direct = False
            self._pool.poller.writing(connection.sock)
        else:
            connection.sent_by_ns = time.perf_counter_ns()
            connection.direct = connection.plain

    def _check_idle(self, connection: Connection) -> None:
        """Drop an idle connection if the peer closed it, or sent data without a request."""
        if connection.eof or connection.failure or connection.data:
            self._pool.drop(connection)

    def _follow(self, connection: Connection) -> None:
        """See if a response has ended, after more of it came. Raises Broken, MalformedHttp."""
        framing = connection.framing
        if framing.body_end is None and len(connection.ends) == 1:
            first = clock.last(connection.stamps, self._offset_ns)
            self._tally.first(first - connection.sent_ns)
        if len(connection.data) > connection.room:
            detail = f"more than {self._load.most_bytes} bytes"
            self._end(connection, Ended.TOO_LARGE, detail, reusable=False)
        elif framing.ended(connection.data):
            self._end(connection, Ended.COMPLETE, "", reusable=framing.keep_alive)
        elif connection.failure:
            raise connection.failure
        elif connection.eof:
            if not framing.closed():
                raise Broken("the server closed the connection before the end of the response")
            self._end(connection, Ended.COMPLETE, "", reusable=False)
        else:
            connection.slow = framing.body_end is not BodyEnd.CHUNKED or not connection.plain
            connection.direct = connection.plain and not connection.unsent

    def _check(self, connection: Connection) -> None:
        """Check a stream's framing, since a malformed chunk would never look like its end."""
        try:
            if connection.framing.ended(connection.data):
                reusable = connection.framing.keep_alive
                self._end(connection, Ended.COMPLETE, "", reusable=reusable)
        except MalformedHttp as e:
            self._broken(connection, e)

    def _broken(self, connection: Connection, error: Broken | MalformedHttp) -> None:
        """Handle a broken connection: drop it, and retry or end its request."""
        turn = Turn(connection.index, connection.scheduled_ns, connection.possible_ns)
        if turn.index < 0:
            self._pool.drop(connection)
        elif not connection.sent_ns:
            self._pool.drop(connection)
            self._lost(turn, error)
        elif connection.carried and connection.untouched and not connection.retry:
            # The server closed a kept-alive connection before it saw this request.
            self._pool.drop(connection)
            self._tally.sent -= 1
            self._tally.idle_ns -= connection.sent_ns - connection.possible_ns
            self._dispatch(turn, retry=True)
        else:
            ended = Ended.RESET if set(error.args) & set(GONE) else Ended.CUT
            self._end(connection, ended, str(error.args[0]), reusable=False)

    def _lost(self, turn: Turn, error: Exception) -> None:
        """End a request that had no connection to be sent over."""
        now = time.perf_counter_ns()
        refused = errno.ECONNREFUSED in error.args
        ended = Ended.REFUSED if refused else Ended.UNREACHABLE
        detail = str(error.args[0])
        self._store.end(RequestOutcome(turn.index, turn.scheduled_ns, 0, now, ended, detail, False))
        self._tally.failed += 1
        self._schedule.ended(turn.index, now)

    def _end(self, connection: Connection, ended: Ended, detail: str, *, reusable: bool) -> None:
        """End a request: its connection goes to the next request, its bytes to the store."""
        complete = ended is Ended.COMPLETE
        at = self._last_ns(connection) if complete else time.perf_counter_ns()
        if complete and self._load.steps:
            self.hurried = at - connection.sent_ns < HURRIED_NS
        self._tally.done += complete
        self._tally.failed += not complete
        self._tally.unstamped += connection.unstamped
        connection.count_segments()
        outcome = RequestOutcome(
            connection.index,
            connection.scheduled_ns,
            connection.sent_ns,
            at,
            ended,
            detail,
            connection.carried > 0,
            sent_by_ns=connection.sent_by_ns,
            unstamped=connection.unstamped > 0,
            segments=connection.segments,
            looked=connection.looked,
        )
        piece = Piece(connection.stamps, connection.ends, connection.data)
        reusable = reusable and not (connection.eof or connection.failure or connection.unsent)
        connection.index = -1
        connection.carried += 1
        connection.clear()
        if reusable:
            self._pool.idle[connection.fd] = connection
        else:
            self._pool.drop(connection)
        self._schedule.ended(outcome.index, at)
        self.unbroken += 1
        most = 0 if self._pool.stopping else 2 * self._schedule.in_flight + 2
        # The next request goes first, since its slot is idle until then. Not if answers come faster
        # than they are read: then it takes less time to read all and send all. And not after an
        # error: each of many connections that break would send over the next one.
        if complete and reusable and self.hurried and self.unbroken <= most:
            turn = self._schedule.take(time.perf_counter_ns())
            if turn is not None:
                self._dispatch(turn)
        self.ended.append((outcome, piece.first(BEGINNING) if ended is Ended.TOO_LARGE else piece))
        if len(self.ended) >= BATCH or len(piece) > SHED:
            self.settle()

    def _last_ns(self, connection: Connection) -> int:
        """When the last byte of a response arrived, in ns."""
        if not connection.stamps:  # all of it went to the store before
            return time.perf_counter_ns()
        at = clock.last(connection.stamps, self._offset_ns)
        if connection.kernel and at <= self.woke_ns:
            self._tally.lags.add(self.woke_ns - at)
        return at

    def _time_out(self, connection: Connection) -> None:
        detail = f"not done within {self._load.timeout:g} s"
        if connection.sent_ns:
            self._end(connection, Ended.TIMEOUT, detail, reusable=False)
            return
        turn = Turn(connection.index, connection.scheduled_ns, connection.possible_ns)
        self._pool.drop(connection)
        self._lost(turn, Broken(f"no connection: {detail}"))

    def _shed(self) -> None:
        """Move the parsed part of large responses in flight to the store."""
        for connection in list(self._pool.connections.values()):
            if len(connection.data) > SHED and (piece := connection.shed()):
                self._store.keep(connection.index, piece)
