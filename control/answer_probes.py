"""The probes: a deploy sends them to the group that it has started, verify and doctor to what
serves."""

import sys
import time

from pyinfra.api import Host

from cluster.catalog.entry import Model
from cluster.catalog.models import find_model
from cluster.findings import Finding
from cluster.plan.decide import Decision, probes_off
from cluster.probes.abilities import abilities
from cluster.probes.judges import judge
from cluster.probes.report import unread_probes, verdict_findings
from cluster.probes.rounds import probe_rounds
from cluster.rank.spec import Spec
from facts.answers import GRACE, PROBE_SECONDS, Replies, probe_task
from operations import shell


def probe_running(decision: Decision, head: Host, spec: Spec, key: str) -> tuple[Finding, ...]:
    """Send the probes to what serves, declared or not; a warning where the settings want none.

    + spec: rank 0's, by its label
    + key: the API's; "" where it requires none
    """
    mode, model = decision.settings.probes, decision.model
    if mode == "off":
        return probes_off(decision.settings)
    if spec.model != model.id:
        model = find_model(spec.model)
        mode = "basic" if model.probes == "basic" else mode
    return probe(head, spec, model, mode, key)


def probe(head: Host, spec: Spec, model: Model, mode: str, key: str) -> tuple[Finding, ...]:
    """Send the probes to a group, from its head, and judge the answers: see `verdict_findings`.

    + spec: rank 0's
    + model: its entry
    + mode: the setting `probes`, not "auto" or "off"
    + key: the API's; "" where it requires none
    """
    can = abilities(spec.launch, model.thinking, basic=mode == "basic")
    rounds = probe_rounds(can, spec.launch.served_model_name)
    fact, begun, docker = Replies(), time.monotonic(), spec.runtime == "docker"
    # The embedded engine's own Python is there; a Mac has no `timeout`.
    command = fact.command("python3" if docker else sys.executable, kill=docker)
    task = probe_task(spec.url, key, rounds)
    reading = shell.read_fact(head, fact, command, PROBE_SECONDS + 2 * GRACE, stdin=task)
    if reading.value is None:
        return (unread_probes(reading.why, head.name),)
    verdicts = judge(can, reading.value, strict=mode == "strict")
    return tuple(verdict_findings(verdicts, head.name, time.monotonic() - begun))
