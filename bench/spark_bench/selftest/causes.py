"""Why a machine is not good enough, probably, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spark_bench.selftest.limits import kept_pace
from spark_bench.selftest.report import Capacity, Cause, Level, Surroundings

# The client and the ruler need a core each, all but this.
ROOM = 0.25
STOLEN = 0.02


def likely(levels: Sequence[Level], capacity: Capacity, around: Surroundings) -> Sequence[Cause]:
    """What disturbed; if nothing did, that too much was asked; else how to go on."""
    return (
        [*causes(levels, around)]
        or [*too_much(levels, capacity)]
        or [
            Cause(
                "something took the CPU from the client for a moment",
                "verify again; if it stays, --json has each figure",
            )
        ]
    )


def causes(levels: Sequence[Level], around: Surroundings) -> Iterator[Cause]:
    """Likely ones, the surest first."""
    if levels[-1].audit.clock != "kernel":
        yield Cause(
            "receive times are this process' own, the kernel gave none",
            "run on Linux itself, where sockets take SO_TIMESTAMPNS",
        )
    if around.ruler_core is None:
        yield Cause(
            "there is one core for both the client and the ruler",
            "allow this process two cores (taskset, docker --cpuset-cpus); the errors shown are "
            "an upper bound, as in a real run the server is elsewhere",
        )
    if around.throttled:
        yield Cause(
            f"a CPU quota stopped the client {around.throttled} times",
            "raise or lift it (docker --cpus, the pod's CPU limit)",
        )
    if around.stolen > STOLEN:
        yield Cause(
            f"the hypervisor gave {around.stolen:.0%} of the CPU time to others (steal)",
            "measure from a machine of its own, or a virtual one with cores of its own",
        )
    usable = around.machine.usable_cores or 1
    if around.others > max(0.0, usable - 2) + ROOM:
        yield Cause(
            f"other processes used {around.others:.1f} of {usable} cores{_load(around)}",
            "stop them, or measure from a machine that is idle",
        )
    if around.machine.governor == "powersave":
        yield Cause(
            "the CPU's governor is powersave: cores are slow when they are needed",
            "sudo cpupower frequency-set -g performance",
        )
    if any(not kept_pace(level) for level in levels):
        yield Cause(
            "the ruler itself could not send as fast as it was asked to",
            "ask for fewer --streams or a longer --itl",
        )


def too_much(levels: Sequence[Level], capacity: Capacity) -> Iterator[Cause]:
    """More was asked for than the client can take."""
    most = max(level.chunks_per_s for level in levels)
    if capacity.limit == "client" and most > capacity.paced:
        yield Cause(
            f"{most:,.0f} chunks/s are more than the client follows here",
            "ask for fewer --streams or a longer --itl, like those of the server that you measure",
        )


def _load(around: Surroundings) -> str:
    load = around.machine.load_average
    return f" (load average {load[0]:.1f})" if load else ""
