"""The probes' verdicts as findings."""

from collections.abc import Iterator, Sequence

from cluster.findings import Finding, error, ok, warning
from cluster.probes.judges import ProbeVerdict

# Key of the finding that sums up the others.
SUMMARY = "probes"
# Characters of a question and of an answer that a finding quotes.
QUOTED = 160
SMALL = "if the model is small or a base model: --data probes=basic"


def verdict_findings(
    verdicts: Sequence[ProbeVerdict], node: str, seconds: float
) -> Iterator[Finding]:
    """A finding for each probe that was not skipped, under the key "probe-NAME": an error where a
    group must not serve with that answer, a warning where it may be wrong, else in order. The last
    one, SUMMARY, counts them, and says why any was skipped.

    + node: the head, which sent the requests
    + seconds: until the last reply
    """
    for verdict in verdicts:
        quoted = f"sent {verdict.question[:QUOTED]!r}, answered {verdict.answer[:QUOTED]!r}"
        key = f"probe-{'-'.join(verdict.name.lower().split())}"
        if verdict.outcome == "right":
            yield ok(f"{verdict.name} is right: {quoted}", node, key)
        elif verdict.outcome == "wrong":
            report = error if verdict.fails else warning
            doubt = "" if verdict.fails else f"; not proven on real models ({verdict.tried_on})"
            what = f"the probe {verdict.name} failed: {verdict.why}; {quoted}{doubt}"
            causes = f"likely {'; or '.join(verdict.causes)}; " if verdict.causes else ""
            yield report(what, node, f"{causes}{SMALL}", key=key)
    groups = {
        outcome: [v.name for v in verdicts if v.outcome == outcome]
        for outcome in ("right", "wrong", "skipped")
    }
    counts = [f"{len(names)} {how} ({', '.join(names)})" for how, names in groups.items() if names]
    skipped = [f"{v.name}: {v.why}" for v in verdicts if v.outcome == "skipped" and v.why]
    text = f"probes, {seconds:.1f} s: {', '.join(counts) or 'none'}"
    yield ok("; ".join([text, *skipped]), node, SUMMARY)


def unread_probes(why: str, node: str) -> Finding:
    """That the node printed no replies."""
    return error(
        f"the probes could not be sent: {why}",
        node,
        f"ssh {node} python3 -V must work; --data probes=off serves without proof",
        key="probe-unread",
    )
