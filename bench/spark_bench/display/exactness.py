"""How far a run's figures can be trusted: the client's own account."""

from __future__ import annotations

from spark_bench.client.audit import Audit
from spark_bench.display.figures import digits


def client(audit: Audit) -> str:
    """ "exact", or "approximate" with the reasons, and what it rests on."""
    if audit.verdict == "exact":
        return f"exact: {_stamps(audit)}"
    return f"{audit.verdict} because {'; '.join(audit.reasons)} ({_stamps(audit)})"


def _stamps(audit: Audit) -> str:
    by = "the kernel" if audit.clock == "kernel" else "this process"
    tls = "" if audit.transport == "plain" else f" ({audit.transport})"
    core = audit.cpu_seconds / audit.wall_seconds if audit.wall_seconds else 0.0
    return (
        f"receive times by {by}{tls}, lag p99 {digits(audit.lag_us.p99, 'µs')}; sends late by "
        f"{digits(audit.late_us.p99, 'µs')} at p99; {audit.merged_reads:.1%} of events read with "
        "the one before; "
        f"{core:.0%} of a core, {audit.peak_rss_bytes / 1e6:.0f} MB"
    )
