"""Grafana's files: its configuration, Prometheus as its source, and boards that nobody edits there.

Its own database stays in its container, so a changed password counts: Grafana sets the one of its
configuration only where it has no database yet.
"""

from collections.abc import Mapping
from typing import Any

PASSWORD_FILE = "/etc/grafana/secrets/password"
CONFIG_FILE = "/etc/grafana/grafana.ini"
BOARDS = "/etc/grafana/boards"
# What boards call Prometheus.
SOURCE_UID = "prometheus"


def grafana_config(address: str, port: int, *, anonymous: bool) -> str:
    """grafana.ini.

    + anonymous: whoever reaches it may look, without a password
    """
    return f"""\
[server]
http_addr = {address}
http_port = {port}
[security]
admin_user = admin
admin_password = $__file{{{PASSWORD_FILE}}}
disable_gravatar = true
[users]
allow_sign_up = false
[auth.anonymous]
enabled = {str(anonymous).lower()}
org_role = Viewer
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false
[news]
news_feed_enabled = false
"""


def provisioning(prometheus: str) -> dict[str, Any]:
    """Path → document, of what Grafana reads at its start.

    + prometheus: its URL, as Grafana reaches it
    """
    source = {
        "name": "Prometheus",
        "type": "prometheus",
        "uid": SOURCE_UID,
        "access": "proxy",
        "url": prometheus,
        "isDefault": True,
        "editable": False,
    }
    boards = {
        "name": "spark-serving",
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": BOARDS},
    }
    folder = "/etc/grafana/provisioning"
    return {
        f"{folder}/datasources/spark-serving.yaml": {"apiVersion": 1, "datasources": [source]},
        f"{folder}/dashboards/spark-serving.yaml": {"apiVersion": 1, "providers": [boards]},
    }


def board_files(boards: Mapping[str, Any]) -> dict[str, Any]:
    """Path → board."""
    return {f"{BOARDS}/{name}": board for name, board in boards.items()}
