"""`spark-cluster status`: what runs on each node, and whether it serves."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster.commands import ClusterError, data_option, inventory_option, parse_data
from spark_cluster.printable import printable
from spark_cluster.project import Project, find_project

# The reading ends within 15 s, whatever the nodes do; the rest is for a controller under load.
SECONDS = 45


@click.command("status")
@inventory_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document behind the table.")
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.2),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Interval of --watch.",
)
def command(
    inventory: Path | None, data: tuple[str, ...], as_json: bool, watch: bool, every: float
) -> int:
    """Show what runs on each node and whether it serves.

    \b
    Exit code 0: every rank is healthy, the declared model is served, and a deploy would
                 change nothing
              1: anything else: starting, degraded, down, stopped, drifted, unreadable
    """
    project, settings = find_project(inventory), parse_data(data)
    if watch:
        return _watch(project, settings, every, as_json)
    status = fetch_status(project, settings)
    if as_json:
        click.echo(json.dumps(status))
    else:
        from spark_cluster.status_view import console, status_table

        console().print(status_table(status))
    return 0 if status["ok"] else 1


def fetch_status(project: Project, settings: Mapping[str, Any]) -> Any:
    """The document of cluster/reports/status.py."""
    data = {**settings, "inventory": str(project.inventory)}
    return project.fetch("status", data, hosts="@local", seconds=SECONDS)


def _watch(project: Project, settings: Mapping[str, Any], every: float, as_json: bool) -> int:
    """Look again and again; Ctrl-C ends it, and is not a failure."""
    from rich.live import Live

    from spark_cluster.status_view import console

    terminal = console()
    try:
        if as_json or not terminal.is_terminal:
            while True:
                # For a pipe: a JSON line, or the table after the time of day.
                if as_json:
                    click.echo(json.dumps(fetch_status(project, settings)))
                else:
                    terminal.print(draw_status(project, settings))
                time.sleep(every)
        with Live(console=terminal, auto_refresh=False) as live:
            while True:
                live.update(draw_status(project, settings), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        return 0


def draw_status(project: Project, settings: Mapping[str, Any]) -> Any:
    """The status as it is now, or why it could not be read, for rich."""
    from rich.console import Group
    from rich.text import Text

    from spark_cluster.status_view import status_table

    now = time.strftime("%H:%M:%S")
    try:
        return Group(now, status_table(fetch_status(project, settings), history=True))
    except ClusterError as error:
        return Group(now, Text(printable(error.message, lines=True), style="red"))
