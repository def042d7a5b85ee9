"""Closed loop: how many requests may be in flight, and when."""

import math

from spark_bench.errors import BadInput
from spark_bench.record import SlotStep


def steps(concurrency: int | None, ramp_seconds: float = 0.0) -> tuple[SlotStep, ...]:
    """The limits on requests in flight: `concurrency` of them at once, or one more at a time.

    ramp_seconds: the first slot opens at 0, the last one then, the others evenly between, so that
        a server doesn't get all its prompts to prefill in one batch
    concurrency None: no limit, no steps

    Raises BadInput for a ramp that isn't a number of seconds, or that has no slots to open.
    """
    if not 0 <= ramp_seconds < math.inf:
        raise BadInput(
            f"--ramp-slots: {ramp_seconds} is not allowed; it must be a number of"
            " seconds, 0 or more"
        )
    if concurrency is None:
        if ramp_seconds:
            raise BadInput(
                f"--ramp-slots: {ramp_seconds:g} s have no slots to open without a limit on"
                " requests in flight; give --concurrency as well"
            )
        return ()
    if not ramp_seconds or concurrency == 1:
        return (SlotStep(0.0, concurrency),)
    pace = ramp_seconds / (concurrency - 1)
    return tuple(SlotStep(pace * opened, opened + 1) for opened in range(concurrency))
