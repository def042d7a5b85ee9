"""Every check of a deploy, reported in full; nothing is changed."""

from collections import Counter

from pyinfra import logger
from pyinfra.api import DeployError, State
from pyinfra.api.output import format_text

from cluster.checks.declared_use import memory_lines
from cluster.findings import Finding, Level, Refused
from cluster.plan.decide import exposure_findings
from control import converge, preflight
from operations import outcome

COLORS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def check_deploy(state: State) -> None:
    """Log every finding; DeployError if a deploy would be refused."""
    findings, lines = find_problems(state)
    for finding in findings:
        level = format_text(f"{finding.level.value:>7}", COLORS[finding.level])
        logger.info(f"    {level}  {finding}")
    for line in lines:
        logger.info(f"    memory: {line}")
    count = Counter(finding.level for finding in findings)
    sums = ", ".join(f"{count[level]} {level.value}" for level in Level)
    if count[Level.ERROR]:
        outcome.note("refused", [f for f in findings if f.level is not Level.OK])
        raise DeployError(f"a deploy would be refused: {sums}")
    logger.info(f"    a deploy would go ahead: {sums}")


def find_problems(state: State) -> tuple[list[Finding], list[str]]:
    """Everything that a deploy would find, a refusal's findings too; and a node's memory in
    lines."""
    deployment = converge.declared_deployment(state)
    refusal: tuple[Finding, ...] = ()
    try:
        converge.read_and_decide(deployment)
        refusal = deployment.decision.refusal
    except Refused as refused:
        refusal = refused.findings
    if not deployment.facts:
        return list(refusal), []
    checked, full = preflight.preflight(deployment, latency=True)
    decision = deployment.decision
    findings = [
        *refusal,
        *deployment.findings,
        *checked,
        *preflight.image_differs(decision, full),
        *exposure_findings(decision, runs=True),
    ]
    nodes = [full[name] for name in deployment.declaration.names]
    lines = memory_lines(
        deployment.declaration, deployment.described or decision.model, nodes, decision.version
    )
    return list(dict.fromkeys(findings)), list(lines)
