"""Every check of a deploy, told in full; nothing is changed."""

from __future__ import annotations

from collections import Counter

from pyinfra import logger
from pyinfra.api import DeployError, State
from pyinfra.api.output import format_text

from cluster.findings import Finding, Level, Refused
from control import preflight, running
from control.converge import begin, refresh

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def check_deploy(state: State) -> None:
    """Tell every finding; DeployError where a deploy would be refused."""
    told = list(dict.fromkeys(find_problems(state)))
    for finding in told:
        level = format_text(f"{finding.level.value:>7}", COLOURS[finding.level])
        logger.info(f"    {level}  {finding}")
    count = Counter(finding.level for finding in told)
    sums = ", ".join(f"{count[level]} {level.value}" for level in Level)
    if count[Level.ERROR]:
        raise DeployError(f"a deploy would be refused: {sums}")
    logger.info(f"    a deploy would go ahead: {sums}")


def find_problems(state: State) -> list[Finding]:
    """Everything that a deploy would find, a refusal's findings too."""
    made = begin(state)
    refused: tuple[Finding, ...] = ()
    try:
        refresh(made)
    except Refused as e:
        refused = e.findings
    findings, full = preflight.preflight(made, latency=True)
    return [
        *refused,
        *made.findings,
        *findings,
        *preflight.image_differs(made, full),
        *running.exposed(made, runs=True),
    ]
