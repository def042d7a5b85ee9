"""The rules of alerts.toml in Prometheus's own promtool: each alert fires with its series, and with
none of those near them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from cluster.monitoring.rules import alerts, rule_groups


def promtool(programs: Path, *words: str) -> None:
    command = [programs / "promtool", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def cases() -> list[dict[str, Any]]:
    """promtool's tests, a value every 15 s. Series near those that fire an alert are in its test as
    those of other groups ("quiet 0"), since each test takes a tenth of a second."""
    listed = []
    for alert in alerts():
        for number, fires in enumerate(alert.fires):
            series = dict(fires.series)
            for n, quiet in enumerate(alert.quiet if number == 0 else ()):
                for name, values in quiet.series.items():
                    series[name.replace('group="g"', f'group="quiet {n}"')] = values
            texts = {"summary": fires.says, "meaning": alert.meaning, "cure": alert.cure}
            labels = {**fires.labels, "severity": alert.severity}
            firing = [{"exp_labels": labels, "exp_annotations": texts}]
            when = [(fires.pending, []), (fires.at, firing)]
            listed.append(
                {
                    "name": alert.key,
                    "interval": "15s",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "alert_rule_test": [
                        {"eval_time": at, "alertname": alert.key, "exp_alerts": firing}
                        for at, firing in when
                        if at
                    ],
                }
            )
    return listed


def test_promtool_accepts_the_rules_and_each_alert_fires_only_with_its_own_series(
    programs: Path, tmp_path: Path
) -> None:
    rules, tests = tmp_path / "rules.json", tmp_path / "tests.json"
    rules.write_text(json.dumps(rule_groups()))
    document = {"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": cases()}
    tests.write_text(json.dumps(document))
    promtool(programs, "check", "rules", "--lint=all", "--lint-fatal", str(rules))
    promtool(programs, "test", "rules", str(tests))
