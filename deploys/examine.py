"""Every check of a deploy, told in full; nothing is changed."""

from __future__ import annotations

from collections import Counter

from pyinfra import logger
from pyinfra.api import DeployError, State
from pyinfra.api.output import format_text

from cluster.findings import Finding, Level, Refused
from deploys import preflight
from deploys.converge import begin, refresh

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def examine(state: State) -> None:
    """Tell every finding; DeployError where a deploy would be refused."""
    findings = list(dict.fromkeys(_findings(state)))
    for finding in findings:
        level = format_text(f"{finding.level.value:>7}", COLOURS[finding.level])
        logger.info(f"    {level}  {finding}")
    count = Counter(f.level for f in findings)
    told = ", ".join(f"{count[level]} {level.value}" for level in Level)
    if count[Level.ERROR]:
        raise DeployError(f"a deploy would be refused: {told}")
    logger.info(f"    a deploy would go ahead: {told}")


def _findings(state: State) -> list[Finding]:
    made = begin(state)
    refused: tuple[Finding, ...] = ()
    try:
        refresh(made)
    except Refused as e:
        refused = e.findings
    findings, full = preflight.preflight(made, latency=True)
    return [*refused, *made.findings, *findings, *preflight.image_differs(full)]
