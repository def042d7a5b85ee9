"""What alerts.toml must hold, besides what promtool tries (tests/monitoring)."""

from __future__ import annotations

import re

import pytest

from cluster.engine.symptoms import explanation, symptoms
from cluster.monitoring.rules import DEAD_MAN, Alert, alerts, rule_groups
from cluster.probes.thresholds import thresholds

EACH = [pytest.param(alert, id=alert.key) for alert in alerts()]


@pytest.mark.parametrize("alert", EACH)
def test_an_alert_has_texts_and_series_near_those_that_fire_it(alert: Alert) -> None:
    assert alert.meaning and alert.cure and alert.summary
    assert bool(alert.quiet) == (alert.key != DEAD_MAN)
    # Prometheus reads texts as templates: only a summary may be one, of its own labels and value.
    assert "{{" not in alert.meaning + alert.cure
    parts = re.findall(r"\{\{(.*?)\}\}", alert.summary)
    labels = {m for part in parts for m in re.findall(r"\$labels\.(\w+)", part)}
    assert all(labels <= set(fires.labels) for fires in alert.fires)
    assert bool(alert.fires[0].pending) == (alert.key != DEAD_MAN)
    assert all(" $labels." in part or " $value" in part for part in parts)


@pytest.mark.parametrize("alert", [p for p in EACH if p.values[0].symptom])
def test_an_alert_takes_its_cure_from_the_symptom_of_the_same_fault(alert: Alert) -> None:
    assert alert.symptom in {symptom.key for symptom in symptoms("engine")}
    texts = explanation(alert.symptom)
    assert alert.meaning in texts or alert.cure in texts


def test_keys_are_unique_and_every_alert_is_grouped_by_its_group() -> None:
    keys = [alert.key for alert in alerts()]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", key) for key in keys)
    fires = [fires for alert in alerts() if alert.key != DEAD_MAN for fires in alert.fires]
    assert all("group" in each.labels for each in fires)


def test_rules_are_evaluated_in_one_group_after_what_they_read() -> None:
    (group,) = rule_groups()["groups"]
    names = [rule.get("record") or rule["alert"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in group["rules"] if "record" in rule}
    for number, rule in enumerate(group["rules"]):
        for name in re.findall(r"\b(?:group|node|half):\w+:\w+", rule["expr"]):
            assert name in recorded and name in names[:number]


def test_thresholds_of_the_probes_are_the_alerts() -> None:
    limits = thresholds().limits
    expressions = {alert.key: alert.expr for alert in alerts()}
    assert f"< {limits.accept_least}" in expressions["drafts-rejected"]
    assert f"1 - {limits.accept_slack}" in expressions["drafts-all-accepted"]
    assert not any("$" in expression for expression in expressions.values())


def test_an_unknown_symptom_is_an_error() -> None:
    with pytest.raises(StopIteration):
        explanation("no-such-symptom")
