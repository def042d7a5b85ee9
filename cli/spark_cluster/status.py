"""`spark-cluster status`: what runs on each node, and whether it serves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster.commands import ClusterError, inventory_option
from spark_cluster.printable import printable
from spark_cluster.project import Project, find
from spark_cluster.settings import data_option, settings_of

# The reading bounds itself to 15 s, whatever the nodes do; this is for a controller under load.
SECONDS = 45


@click.command("status")
@inventory_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="The document that the table is made of.")
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.2),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks of --watch.",
)
def command(
    inventory: Path | None, data: tuple[str, ...], as_json: bool, watch: bool, every: float
) -> int:
    """What runs on each node, and whether it serves.

    \b
    Exit code 0: every rank is healthy, the wanted model is served, and a deploy would
                 change nothing
              1: anything else: starting, degraded, down, stopped, drifted, not to be read
    """
    project, settings = find(inventory), settings_of(data)
    if watch:
        return _watch(project, settings, every, as_json)
    told = ask(project, settings)
    if as_json:
        click.echo(json.dumps(told))
    else:
        from spark_cluster.board import board, console

        console().print(board(told))
    return 0 if told["ok"] else 1


def ask(project: Project, settings: Mapping[str, Any]) -> Any:
    """The document of cluster/reports/status.py."""
    data = {**settings, "inventory": str(project.inventory)}
    return project.ask("status", data, hosts="@local", seconds=SECONDS)


def _watch(project: Project, settings: Mapping[str, Any], every: float, as_json: bool) -> int:
    """Look again and again; Ctrl-C is the way to end it, and no failure."""
    from rich.live import Live

    from spark_cluster.board import console

    shown = console()
    try:
        if as_json or not shown.is_terminal:
            while True:
                _line(project, settings, shown, as_json)
                time.sleep(every)
        with Live(console=shown, auto_refresh=False) as live:
            while True:
                live.update(_look(project, settings), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        return 0


def _line(project: Project, settings: Mapping[str, Any], shown: Any, as_json: bool) -> None:
    """One look for a pipe: a JSON line, or the table after the time of day."""
    if as_json:
        click.echo(json.dumps(ask(project, settings)))
    else:
        shown.print(_look(project, settings))


def _look(project: Project, settings: Mapping[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from spark_cluster.board import board

    now = time.strftime("%H:%M:%S")
    try:
        return Group(now, board(ask(project, settings)))
    except ClusterError as error:
        return Group(now, Text(printable(error.message, lines=True), style="red"))
