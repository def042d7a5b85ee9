"""Sends a load and stores what comes back, in one thread, without parsing it.

Receive times are the kernel's, and send times are taken right before each send. So the loop may nap
between looks at the sockets (fewer wake-ups), read late, or draw a progress bar, without changing
any figure. Two things can't be corrected afterwards: a request that was sent late, and two chunks
of one stream in one read, which share a stamp. Both are measured; see Audit.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from spark_bench.client import clock
from spark_bench.client.connection import BUFFERS, READ, SEVERAL
from spark_bench.client.in_flight import InFlight
from spark_bench.client.poller import DATA
from spark_bench.client.pool import MOST_EVENTS, Pool
from spark_bench.client.response_store import ResponseStore
from spark_bench.client.schedule import SECOND, Schedule
from spark_bench.client.tally import (
    LATE_NS,
    SAMPLES,
    ReportProgress,
    Tally,
    cpu_seconds,
    undisturbed,
)
from spark_bench.client.target import ServerTarget
from spark_bench.protocol.http1 import HEAD_END
from spark_bench.record import QUEUED_NS, Exchange, Job, Load, Prompt, Timing

# Most bytes of a response outside the load, such as a list of models or the counts of many texts.
MOST_BYTES = 16 * 1024 * 1024

# How long to nap between looks if there are many streams, in ns: less than any engine's step, but
# enough to be worth a wake-up. An engine steps all its streams together, so that none is expected
# between the last read of a step and the next step: the loop waits for that instead.
NAP_NS = 1_000_000
# With fewer streams than this, don't nap, since little arrives during a nap.
CROWD = 16
# The loop does not nap while its reads are later than this, in ns.
BEHIND_NS = 3_000_000

# The longest wait for events, in ns: what came between two looks at the sockets came at an unknown
# time, if the kernel stamped only the last of it.
PATIENCE_NS = 20_000_000
# In place of a time that does not come.
NEVER_NS = 1 << 62

# How often timeouts are checked, and progress is reported, in ns.
CHECK_NS = 100_000_000
REPORT_NS = 500_000_000

# Shorter waits than this are made with microsecond precision.
SHORT_NS = 2_000_000


class Recorder:
    """Connections to one server, and the loop over them. Not thread-safe."""

    def __init__(self, target: ServerTarget) -> None:
        self.target = target
        self._pool = Pool(target)

    def open(self, count: int) -> int:
        """Open connections before the clock runs, as many as open files and the server allow.

        Returns how many are open and idle.

        Raises Unreachable if the server has not been reached before and can't be now.
        """
        return self._pool.open(count)

    def exchange(
        self, wire: bytes, timeout: float = 30.0, most_bytes: int = MOST_BYTES
    ) -> Exchange:
        """Send a single request outside a load, even after `stop`; a new `stop` ends it.

        timeout: in seconds; most_bytes: limit on the size of its response
        """
        stopped, self._pool.stopping = self._pool.stopping, False
        job = Job(0, wire, Timing(), Prompt((), None, 0))
        loop = Loop(self._pool, Load([job], timeout=timeout, most_bytes=most_bytes))
        try:
            exchanges = loop.record().exchanges()
            exchange = next(exchanges, Exchange(0, detail="the run was stopped"))
            exchange.data = bytes(exchange.data)  # before its file is closed
            return exchange
        finally:
            self._pool.stopping |= stopped
            loop.store.close()

    def record(
        self,
        load: Load,
        report: ReportProgress | None = None,
        take: Callable[[Exchange], None] | None = None,
    ) -> Recording:
        """Send a load; returns once everything is answered, timed out, or `stop` was called.

        report: called twice a second with the progress
        take: called with each request soon after it has ended, for loads whose times don't matter;
            the recording then has none of them. What it takes delays the load.
        """
        gc.collect()
        with undisturbed():
            return Loop(self._pool, load, report, take).record()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: no other load begins."""
        return self._pool.stopping

    def stop(self) -> None:
        """End the current load, and let no other begin; safe in a signal handler."""
        self._pool.stopping = True

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class Loop:
    """One load over a pool's connections."""

    def __init__(
        self,
        pool: Pool,
        load: Load,
        report: ReportProgress | None = None,
        take: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.pool = pool
        self.report = report
        self.take = take
        self.tally = Tally(len(load.jobs))
        self.offset_ns = clock.offset_ns()
        self.store = ResponseStore(self.offset_ns)
        self.cpu_before = cpu_seconds()
        self.started_ns = time.perf_counter_ns()
        self.schedule = Schedule(load, self.started_ns)
        self.in_flight = InFlight(pool, load, self.schedule, self.store, self.tally)
        self.check_ns, self.report_ns = self.started_ns + CHECK_NS, self.started_ns + REPORT_NS
        self.behind = False
        self.lags = array("q")

    def record(self) -> Recording:
        """Run until everything is answered, timed out, or stopped."""
        closed = self.pool.poller.poll(0, MOST_EVENTS)  # connections closed since the last load
        for fd, mask in closed:
            self.in_flight.handle_event(self.pool.connections[fd], mask)
        with self.in_flight.wakeups:
            self._loop()
        interrupted = self.pool.stopping
        self.in_flight.give_up()
        self._take_lags()
        self._take_ended()
        self._report(time.perf_counter_ns())
        return Recording(
            self.store,
            self.tally,
            self.started_ns,
            time.perf_counter_ns(),
            cpu_seconds() - self.cpu_before,
            interrupted,
        )

    def _loop(self) -> None:
        """The loop itself, in one piece and with names bound once, for speed.

        A process that wakes for each chunk of a single stream finds little of itself in the CPU's
        caches, so that each line it runs costs several times as much as in a busy loop.
        """
        pool, tally, in_flight, schedule = self.pool, self.tally, self.in_flight, self.schedule
        connections, poll, handle_event = pool.connections, pool.poller.poll, in_flight.handle_event
        now, view, looks, offset_ns = time.perf_counter_ns, BUFFERS[0], tally.looks, self.offset_ns
        keep_look, keep_lag = looks.moments.append, self.lags.append
        looked, slept, complete, wait, next_look = now(), 0, 0, (0, 0), 0
        # When a request is due; when one is, or a check, or something has ended; and how many reads
        # are still expected from streams that are read once a step.
        due, turn, expected = 0, 0, 0
        while not pool.stopping:
            moment = now()
            if moment >= turn:
                if (next_ns := self._send_due(moment)) is None:
                    return
                due, turn = next_ns, min(next_ns, self.check_ns)
            in_flight.looked_ns, in_flight.wait_before = complete, wait
            entered = now()
            patience = 0 if in_flight.ended else min(due - entered, PATIENCE_NS)
            if patience >= SHORT_NS:
                # In whole ms, since epoll rounds up; the rest is waited for in the next round.
                patience = (patience // 1_000_000 - 1) * 1_000_000
                events = poll(patience / SECOND, MOST_EVENTS)
            else:
                if patience > 0:
                    pool.poller.wait(patience / SECOND)
                events = poll(0.0, MOST_EVENTS)
            woke = now()
            # A pause: other processes had the core, or we drew something. What came stayed unread.
            pause = woke - looked - slept - max(patience, 0)
            if pause > LATE_NS:
                tally.record_pause(pause, woke)
            if len(events) < MOST_EVENTS:
                complete, wait = moment - QUEUED_NS, (entered, woke)
                if moment >= next_look:
                    keep_look(moment)
                    next_look = moment + looks.spacing_ns
            if woke - entered > NAP_NS:
                expected = schedule.in_flight
            looked, slept = woke, 0
            if not events:
                in_flight.settle()
                in_flight.unbroken = 0
                continue
            in_flight.woke_ns, in_flight.wait = woke, (entered, woke)
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is None:
                    continue
                if mask != DATA or not connection.direct:
                    handle_event(connection, mask)
                    turn = 0
                    continue
                try:
                    count, ancillary, _, _ = connection.recv(BUFFERS, clock.ANCILLARY)
                except OSError as e:
                    # The kernel reports an error only once: the next read would see a normal end.
                    connection.note(e)
                    handle_event(connection, mask)
                    turn = 0
                    continue
                if count:
                    data = connection.data
                    data += view[:count]
                    stamp = ancillary[0][2] if ancillary else connection.no_stamp()
                    connection.stamps += stamp
                    size = len(data)
                    connection.ends.append(size)
                    if count > SEVERAL or connection.slow:
                        connection.looked_ns = in_flight.earliest_ns()
                        connection.note_read(large=count > SEVERAL)
                    if count < READ and size <= connection.room:
                        if connection.slow or data.endswith(HEAD_END):
                            in_flight.follow(connection)
                            turn = 0
                        continue
                handle_event(connection, mask)
                turn = 0
            tally.reads += len(events)
            # The last event was read last, so that it waited the longest.
            if connection is not None and connection.kernel and connection.stamps:
                lag = now() - clock.last(connection.stamps, offset_ns)
                self.behind = lag > BEHIND_NS
                keep_lag(lag)
            expected -= len(events)
            if not turn or schedule.in_flight < CROWD or self.behind or in_flight.hurried:
                continue
            if expected > 0:
                slept = self._nap(due)
            else:
                expected = schedule.in_flight

    def _send_due(self, moment: int) -> int | None:
        """Check and send what is due; returns when the next request is, None once the load is
        over."""
        if moment >= self.check_ns:
            self._check(moment)
        self.in_flight.send_due(moment)
        if self.schedule.finished(moment):
            return None
        due = self.schedule.next_ns(moment)
        return NEVER_NS if due is None else due

    def _nap(self, due: int) -> int:
        """Sleep NAP_NS, but not beyond the next send; returns the intended duration in ns."""
        nap = min(NAP_NS, due - time.perf_counter_ns())
        if nap <= 0:
            return 0
        time.sleep(nap / SECOND)
        return nap

    def _check(self, moment: int) -> None:
        """Do what is done now and then: timeouts, the wall clock, progress."""
        self.check_ns = moment + CHECK_NS
        self.in_flight.check_all(moment)
        self._take_lags()
        self.tally.looks.thin()
        self._take_ended()
        if moment >= self.report_ns:
            self.report_ns = moment + REPORT_NS
            moved = abs(clock.offset_ns() - self.offset_ns)
            self.tally.step_ns = max(self.tally.step_ns, moved)
            self._report(moment)

    def _take_lags(self) -> None:
        """Add the lags since the last check to the tally; below 0 they are the clocks' noise."""
        self.tally.lags.extend(lag for lag in self.lags if lag >= 0)
        del self.lags[:]

    def _take_ended(self) -> None:
        self.in_flight.settle()
        if self.take is not None:
            for exchange in self.store.take():
                self.take(exchange)

    def _report(self, moment: int) -> None:
        if self.report is None:
            return
        busy = (c for c in self.pool.connections.values() if c.index >= 0)
        gaps = (gap for c in busy if (gap := c.last_gap_ns()) is not None)
        seconds = (moment - self.started_ns) / SECOND
        sampled = islice(gaps, SAMPLES)
        self.report(self.tally.progress(seconds, self.schedule.in_flight, sampled))


@dataclass
class Recording:
    """What was recorded of one load.

    started_ns: when the load began; every Timing counts from here
    ended_ns: when the last request was over
    cpu_seconds: CPU time that the client used during the load
    interrupted: the load was stopped before it was done
    """

    store: ResponseStore
    tally: Tally
    started_ns: int
    ended_ns: int
    cpu_seconds: float
    interrupted: bool

    def exchanges(self) -> Iterator[Exchange]:
        """Every request that was started, in the order of their indices."""
        looks = np.asarray(self.tally.looks.moments)

        def with_looks(exchange: Exchange) -> Exchange:
            exchange.looks, exchange.clock_error_ns = looks, self.tally.step_ns
            return exchange

        # As a map, which keeps no exchange in memory while the next one is put together.
        return map(with_looks, self.store.exchanges())
