"""`spark-cluster doctor`: what is wrong, why, and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster.commands import inventory_option
from spark_cluster.printable import all_printable
from spark_cluster.project import find
from spark_cluster.settings import data_option, settings_of

# Reading, asking every log, and the probe between the nodes.
SECONDS = 150
COLOURS = {"error": "red", "warning": "yellow"}


@click.command("doctor")
@inventory_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(inventory: Path | None, data: tuple[str, ...], as_json: bool) -> int:
    """Say what is wrong, why, and the cure. Reads nodes, containers and logs.

    \b
    Exit code 0: nothing is wrong, or there are warnings alone
              1: at least one error
    """
    project = find(inventory)
    settings = {**settings_of(data), "inventory": str(project.inventory)}
    told = project.ask("doctor", settings, hosts="@local", seconds=SECONDS)
    click.echo(json.dumps(told) if as_json else "\n".join(lines(told)))
    return 0 if told["ok"] else 1


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Each ailment in four lines at most, then what was looked at."""
    told = all_printable(told)
    for ailment in told["ailments"]:
        yield from _ailment(ailment)
        yield ""
    levels = [a["level"] for a in told["ailments"]]
    if not levels:
        yield click.style("nothing is wrong", fg="green") + f": the group is {told['state']}"
    else:
        count = {level: levels.count(level) for level in COLOURS}
        said = ", ".join(f"{n} {level}{'s' * (n > 1)}" for level, n in count.items() if n)
        yield f"{said}; the group is {told['state']}"
    yield "looked at:"
    yield from (f"  {what}" for what in told["looked"])


def _ailment(told: Mapping[str, str]) -> Iterator[str]:
    level = click.style(told["level"], fg=COLOURS[told["level"]], bold=True)
    where = f"{told['where']}: " if told["where"] else ""
    yield f"{level}  {where}{told['cause']}"
    if told["evidence"]:
        yield f"  seen  {told['evidence']}"
    if told["cure"]:
        yield f"  cure  {told['cure']}"
