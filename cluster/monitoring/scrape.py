"""What Prometheus scrapes: its configuration, from the nodes and ranks of a group.

Jobs: `sglang` (every rank: SGLang serves /metrics on each, also where a rank serves nothing else:
launch_dummy_health_check_server of 0.5.3.post3, 0.5.11, 0.5.17 and 0.5.23), `node`
(node_exporter), `prometheus` and `alertmanager`. Each target has the labels `group` and `node`, a
rank's also `rank`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Seconds; alerts' windows build on it.
INTERVAL = 15


@dataclass(frozen=True)
class ScrapeTarget:
    """Something to scrape.

    + at: "ADDRESS:PORT", as Prometheus reaches it
    + rank: "" for what is no rank
    """

    job: str
    at: str
    node: str
    rank: str = ""


def prometheus_config(
    group: str, targets: Sequence[ScrapeTarget], rule_files: Sequence[str]
) -> dict[str, Any]:
    """prometheus.yml as plain data; its JSON is YAML too.

    + rule_files: paths in its container
    """
    alertmanagers = [target.at for target in targets if target.job == "alertmanager"]
    jobs = dict.fromkeys(target.job for target in targets)
    return {
        "global": {
            "scrape_interval": f"{INTERVAL}s",
            "scrape_timeout": f"{min(10, INTERVAL)}s",
            "evaluation_interval": f"{INTERVAL}s",
            "external_labels": {"group": group},
        },
        "rule_files": list(rule_files),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": alertmanagers}]}]},
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {
                        "targets": [target.at],
                        "labels": {"group": group, "node": target.node}
                        | ({"rank": target.rank} if target.rank else {}),
                    }
                    for target in targets
                    if target.job == job
                ],
            }
            for job in jobs
        ],
    }
