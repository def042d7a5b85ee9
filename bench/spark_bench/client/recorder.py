"""Sends a load and stores what comes back, in one thread, without parsing it.

Everything that matters is stamped by the kernel, or taken right before a send. So the loop may nap
between looks (fewer wake-ups), be late with a read, or draw a bar: no figure moves. What can't be
corrected afterwards is a request that was sent late, and two chunks of one stream that were read
together, since they share a stamp. Both are measured; see Audit.
"""

from spark_bench.client.loop import Loop, Recording
from spark_bench.client.pool import Pool
from spark_bench.client.tally import ReportProgress, undisturbed
from spark_bench.client.target import Target
from spark_bench.record import Exchange, Job, Load, Prompt, Timing

# Of a response beside the load: a list of models, the counts of many texts.
MOST_BYTES = 16 * 1024 * 1024


class Recorder:
    """Connections to one server, and the loop over them. Not for use from several threads."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._pool = Pool(target)

    def open(self, count: int) -> int:
        """Open connections before a clock runs, as many as files and server allow; how many are
        open and idle now.

        Raises Unreachable if the server has not been reached before and can't be now.
        """
        return self._pool.open(count)

    def exchange(
        self, wire: bytes, timeout: float = 30.0, most_bytes: int = MOST_BYTES
    ) -> Exchange:
        """One request on its own, outside a load; also after a `stop`, which ends it if it comes
        meanwhile. most_bytes: that its response may have."""
        stopped, self._pool.stopping = self._pool.stopping, False
        job = Job(0, wire, Timing(), Prompt((), None, 0))
        loop = Loop(self._pool, Load([job], timeout=timeout, most_bytes=most_bytes))
        try:
            exchanges = loop.record().exchanges()
            return next(exchanges, Exchange(0, detail="the run was stopped"))
        finally:
            self._pool.stopping |= stopped
            loop.store.close()

    def record(self, load: Load, report: ReportProgress | None = None) -> Recording:
        """Send a load; returns once everything is answered, timed out, or `stop` was called.

        report: called twice a second with the progress
        """
        with undisturbed():
            return Loop(self._pool, load, report).record()

    def stop(self) -> None:
        """End the load that is under way, and let no other begin; safe from a signal handler."""
        self._pool.stopping = True

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
