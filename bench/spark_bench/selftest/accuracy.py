"""How accurate the client is: its figures compared with the truth, and what is good enough."""

from collections.abc import Iterator, Mapping

import numpy as np
from msgspec import Struct

from spark_bench import formats, record
from spark_bench.arrays import Floats, Ints
from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.figures import Summary
from spark_bench.reference_server.streams import Stream, ground_truth
from spark_bench.selftest.bench import LoadShape, Observation

# Largest acceptable p99 error of a time stamp, in µs: a tenth of an engine's shortest step (10 ms).
STAMP_US = 1000.0
# A chunk can't arrive before it was sent: an error below this (µs) means that the two clocks
# disagree.
EARLY_US = -5.0
# A figure may be off by the larger of these: people act on differences of several percent, and a
# switch and a network card alone add 0.1 ms.
PERCENT, ABSOLUTE_US = 1.0, 100.0
# Chunks that share a read share a time stamp. Up to this share of them, the kernel is the cause.
MERGED = 0.01
# Share of the requested pace that the reference server must reach for the level to test the client.
PACED = 0.95


class Deviation(Struct, frozen=True):
    """One figure: what the client reports, the true value, and the difference."""

    reported_ms: float
    true_ms: float
    error_us: float
    error_percent: float


Deviations = dict[str, Deviation]
"""By figure: "mean", "p50", "p99"."""


class StreamLevel(Struct, frozen=True, kw_only=True):
    """What was measured with one number of simultaneous streams.

    itl_ms: time between chunks that the reference server was told to keep
    chunks_per_s: the rate it really sent at; paced: that rate as a share of the requested one
    tokens: as the client counted them
    miscounted: answers of which the client saw more or fewer chunks than were sent, or which the
        reference server does not know
    failures: number of failed requests by kind
    stamp_us: the client's time of a chunk minus the true one; stamp_min_us: the smallest difference
    ttft, itl: reported and true latencies (TTFT: from the client's send to the server's stamp)
    accept_us: from the client's send until the server had read the request; in none of the errors
        above
    cpu_us: the client's CPU time per chunk during the load; read_us: per chunk, reading afterwards
    core: share of one core that the client used during the load
    """

    streams: int
    itl_ms: float
    requests: int
    tokens: int
    chunks_per_s: float
    paced: float
    miscounted: int
    failures: dict[str, int]
    stamp_us: Spread
    stamp_min_us: float
    ttft: Deviations
    itl: Deviations
    accept_us: Spread
    cpu_us: float
    read_us: float
    core: float
    audit: Audit

    @property
    def kept_pace(self) -> bool:
        """Whether the reference server sent as fast as it was told to (see PACED)."""
        return self.paced >= PACED

    @property
    def followed(self) -> bool:
        """Whether the full pace was sent, and the client received it chunk by chunk."""
        return (
            self.kept_pace
            and not self.failures
            and not self.miscounted
            and self.audit.merged_reads <= MERGED
            and self.stamp_us.p99 <= STAMP_US
        )


def compare_with_truth(shape: LoadShape, observation: Observation) -> StreamLevel:
    """Compare what the client reports about one load with what the reference server really sent."""
    pairs = match_streams(observation)
    true = (
        ground_truth([s for _, s in pairs], {s.id: r.sent_ns for r, s in pairs}) if pairs else None
    )
    errors = stamp_errors(pairs)
    pace = 1 / float(true.itl.mean()) if true and true.itl.size else 0.0
    tokens = sum(int(r.token_counts.sum()) for r in observation.requests if r.ok)
    summary, audit = observation.summary, observation.audit
    return StreamLevel(
        streams=shape.slots,
        itl_ms=shape.itl_ms,
        requests=len(observation.requests),
        tokens=tokens,
        chunks_per_s=round(shape.slots * pace, 1),
        paced=round(pace * shape.itl_ms / 1e3, 4),
        miscounted=count_miscounted(pairs) + summary.completed - len(pairs),
        failures=summary.failures,
        stamp_us=spread_us(errors),
        stamp_min_us=round(float(errors.min()) / 1e3, 1) if errors.size else 0.0,
        ttft=deviations(summary, "ttft", true.ttft) if true else {},
        itl=deviations(summary, "itl", true.itl) if true else {},
        accept_us=spread_us(true.accept * 1e9) if true else Spread(),
        cpu_us=round(audit.cpu_seconds * 1e6 / max(tokens, 1), 2),
        read_us=round(audit.parse_seconds * 1e6 / max(tokens, 1), 2),
        core=round(audit.cpu_seconds / audit.wall_seconds, 4) if audit.wall_seconds else 0.0,
        audit=audit,
    )


def match_streams(observation: Observation) -> list[tuple[record.Request, Stream]]:
    """Pair each complete answer with the reference server's own record of it."""
    streams = {stream.id: stream for stream in observation.streams}
    ids = [(r, observation.ids.get(r.index, -1)) for r in observation.requests if r.ok]
    return [(request, streams[id]) for request, id in ids if id in streams]


def count_miscounted(pairs: list[tuple[record.Request, Stream]]) -> int:
    """Number of answers whose chunks or token counts differ from what was sent."""
    return sum(not np.array_equal(r.token_counts, s.token_counts) for r, s in pairs)


def stamp_errors(pairs: list[tuple[record.Request, Stream]]) -> Ints:
    """The client's time of each chunk minus the true one, in ns."""
    errors = [r.token_ns - s.sent_ns for r, s in pairs if len(r.token_ns) == len(s.sent_ns)]
    return np.concatenate(errors) if errors else np.empty(0, np.int64)


def spread_us(ns: Ints | Floats) -> Spread:
    """p50, p99 and maximum in microseconds, from nanoseconds; all 0 if there are no values."""
    if not ns.size:
        return Spread()
    return Spread(*(round(float(figure) / 1e3, 1) for figure in np.percentile(ns, (50, 99, 100))))


def deviations(summary: Summary, name: str, true: Floats) -> Deviations:
    """Mean, p50 and p99 of a latency: the summary's against the true ones (true: in seconds)."""
    if not true.size:
        return {}
    p50, p99 = np.percentile(true, (50, 99))
    truths: Mapping[str, float] = {"mean": true.mean(), "p50": p50, "p99": p99}
    keys = {"mean": "mean", "p50": "median", "p99": "p99"}
    reported = {figure: getattr(summary, f"{key}_{name}_ms") for figure, key in keys.items()}
    return {figure: deviation(reported[figure], truths[figure] * 1e3) for figure in keys}


def deviation(reported_ms: float, true_ms: float) -> Deviation:
    """
    >>> deviation(101.0, 100.0)
    Deviation(reported_ms=101.0, true_ms=100.0, error_us=1000.0, error_percent=1.0)
    """
    error = reported_ms - true_ms
    return Deviation(
        round(reported_ms, 5),
        round(float(true_ms), 5),
        round(float(error * 1e3), 2),
        round(float(error / true_ms * 100), 4) if true_ms else 0.0,
    )


def is_close(figure: Deviation) -> bool:
    """Whether a reported figure is close enough to the true one to use in its place."""
    return abs(figure.error_us) <= max(ABSOLUTE_US, figure.true_ms * 10 * PERCENT)


def level_problems(level: StreamLevel) -> Iterator[str]:
    """Yield a phrase for each thing that is not good enough at this number of streams."""
    if level.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in level.failures.items())
        yield f"{kinds} of {level.requests} requests failed"
    if level.miscounted:
        yield f"{level.miscounted} of {level.requests} answers were miscounted"
    if not level.kept_pace:
        yield f"the reference server held {level.paced:.0%} of the pace"
    if level.stamp_us.p99 > STAMP_US:
        yield f"time stamps are off by {format_us(level.stamp_us.p99)} at p99"
    if level.stamp_min_us < EARLY_US:
        yield f"chunks arrive {formats.digits(-level.stamp_min_us, 'µs')} before they were sent"
    if level.audit.merged_reads > MERGED:
        yield f"{level.audit.merged_reads:.1%} of chunks shared a read"
    for name, figures in (("TTFT", level.ttft), ("ITL", level.itl)):
        yield from (
            f"{name} {key} {format_error(each)}"
            for key, each in figures.items()
            if not is_close(each)
        )


def format_us(us: float) -> str:
    """
    >>> format_us(43.21), format_us(9999.0)
    ('43.2 µs', '10.0 ms')
    """
    return formats.digits(us, "µs") if us < 999.5 else formats.digits(us / 1e3, "ms")


def format_percent(figure: Deviation) -> str:
    """The error as a share of the truth.

    >>> format_percent(Deviation(100.0123, 100.0, 12.3, 0.0123))
    '0.01%'
    >>> format_percent(Deviation(30.0, 10.0, 2e4, 200.0))
    '200%'
    """
    percent = abs(figure.error_percent)
    return f"{percent:.2f}%" if percent < 9.995 else f"{percent:.0f}%"


def format_error(figure: Deviation) -> str:
    """Say how far a figure is off, as a predicate ("is 43.2 µs (0.01%) off")."""
    return f"is {format_us(abs(figure.error_us))} ({format_percent(figure)}) off"
