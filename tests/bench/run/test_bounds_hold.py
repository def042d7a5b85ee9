"""The truth lies within the stated bounds, whatever the server does and whatever happens to the
client. `make bounds` runs a thousand of these trials.
"""

from __future__ import annotations

from bound_trials import DISTURBANCES, SCHEDULES, run_trials, table, trials


def test_the_truth_lies_within_the_bounds_of_every_figure() -> None:
    """Ten schedules for each disturbance."""
    every = trials(len(SCHEDULES) * len(DISTURBANCES))
    wanted = [each for each in every if (each.seed + each.seed // len(SCHEDULES)) % 2]
    outcomes = run_trials(wanted, at_once=5)
    shown = "\n".join(table(outcomes))
    assert len(outcomes) == 50, shown
    assert not [each for each in outcomes if each.failed], shown
    assert not [each for each in outcomes if each.misses], shown
    assert min(each.figures for each in outcomes) == 21
