"""The probes' verdicts as findings."""

from collections.abc import Iterator, Sequence

from cluster.findings import Finding, Level, error, ok
from cluster.probes.judges import ProbeVerdict

# Characters of a question and of an answer that a finding quotes.
QUOTED = 160
CURE = (
    "another variant, image or kv_cache_dtype; --data probes=basic for a small or a base model, "
    "probes=off to serve it as it is"
)


def verdict_findings(
    verdicts: Sequence[ProbeVerdict], node: str, seconds: float
) -> Iterator[Finding]:
    """An error for each answer with which a group must not serve, a warning for each that may be
    wrong; at last, as in order, how many were right, wrong and skipped.

    + node: the head, which sent the requests
    + seconds: until the last reply
    """
    for verdict in verdicts:
        if verdict.outcome == "wrong":
            yield _wrong(verdict, node)
    groups = {
        outcome: [v.name for v in verdicts if v.outcome == outcome]
        for outcome in ("right", "wrong", "skipped")
    }
    counts = [f"{len(names)} {how} ({', '.join(names)})" for how, names in groups.items() if names]
    skipped = [f"{v.name}: {v.why}" for v in verdicts if v.outcome == "skipped" and v.why]
    yield ok("; ".join([f"probes, {seconds:.1f} s: {', '.join(counts) or 'none'}", *skipped]), node)


def _wrong(verdict: ProbeVerdict, node: str) -> Finding:
    doubt = "" if verdict.fails else f"; not proven on real models ({verdict.tried_on})"
    causes = f"likely causes: {', '.join(verdict.causes)}; " if verdict.causes else ""
    return Finding(
        Level.ERROR if verdict.fails else Level.WARNING,
        f"the probe {verdict.name!r} is answered wrong: {verdict.why}; asked: "
        f"{verdict.question[:QUOTED]!r}, answered: {verdict.answer[:QUOTED]!r}{doubt}",
        node,
        f"{causes}try {CURE}",
        f"probe-{'-'.join(verdict.name.lower().split())}",
    )


def unread_probes(why: str, node: str) -> Finding:
    """That the node printed no replies."""
    return error(
        f"the probes could not be sent: {why}",
        node,
        f"ssh {node} python3 -V must work; --data probes=off serves without proof",
        "probes-unread",
    )
