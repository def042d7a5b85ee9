"""What alerts.toml holds, and the rule file that Prometheus reads."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

import msgspec

from cluster.checks.nodes import CLOCK_SECONDS
from cluster.engine.symptoms import explanation
from cluster.probes.thresholds import thresholds

ALERTS = Path(__file__).with_name("alerts.toml")
# The alert that always fires, so that its absence can be noticed.
DEAD_MAN = "watching"

Severity = Literal["critical", "warning", "info"]


class Fires(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Series with which an alert fires.

    + series: name with labels → values, one every 15 s
    + at: when it fires, after the first value ("3m"); pending: when it does not yet, "" if unknown
    + labels: the alert's, without its name and severity; says: its summary
    """

    series: Mapping[str, str]
    at: str
    labels: Mapping[str, str]
    says: str
    pending: str = ""


class Quiet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Series near those, with which it does not fire, and why not."""

    why: str
    series: Mapping[str, str]


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert; the file explains the fields. Meaning and cure are never empty."""

    key: str
    severity: Severity
    expr: str
    lasts: str = msgspec.field(name="for")
    summary: str
    fires: tuple[Fires, ...]
    quiet: tuple[Quiet, ...] = ()
    meaning: str = ""
    cure: str = ""
    symptom: str = ""

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        texts = {"summary": self.summary, "meaning": self.meaning, "cure": self.cure}
        return {
            "alert": self.key,
            "expr": self.expr,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": texts,
        }


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A series that Prometheus computes from others, with labels of its own."""

    record: str
    expr: str
    labels: Mapping[str, str] = {}

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {"record": self.record, "expr": self.expr, "labels": dict(self.labels)}


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    recorded: tuple[Recorded, ...]
    alert: tuple[Alert, ...]


def alerts() -> tuple[Alert, ...]:
    """Every alert, with the thresholds, causes and cures that have another source."""
    return _rules().alert


def rule_groups() -> dict[str, Any]:
    """Prometheus's rule file, as plain data: what is recorded, then the alerts on it.

    It is the same for every cluster: what differs is in the targets' labels `group` and `node`.
    """
    rules = _rules()
    # One group, since its rules are evaluated in their order.
    listed: Sequence[Recorded | Alert] = (*rules.recorded, *rules.alert)
    return {"groups": [{"name": "spark", "rules": [each.rule() for each in listed]}]}


@cache
def _rules() -> Rules:
    rules = msgspec.convert(tomllib.loads(ALERTS.read_text()), type=Rules)
    limits = thresholds().limits
    values = {
        "accept_least": limits.accept_least,
        "accept_slack": limits.accept_slack,
        "clock_seconds": CLOCK_SECONDS,
    }
    completed = []
    for alert in rules.alert:
        cause, cure = explanation(alert.symptom) if alert.symptom else ("", "")
        completed.append(
            msgspec.structs.replace(
                alert,
                expr=Template(alert.expr.strip()).substitute(values),
                meaning=alert.meaning or cause,
                cure=alert.cure or cure,
            )
        )
    recorded = (msgspec.structs.replace(r, expr=r.expr.strip()) for r in rules.recorded)
    return Rules(recorded=tuple(recorded), alert=tuple(completed))
