"""`spark-cluster doctor`: what is wrong, why, and the cure."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster import commands, printable
from spark_cluster.project import find_project

# For reading the nodes and every log, for the probe between the nodes, and for the model's answers.
SECONDS = 150 + 200
COLORS = {"error": "red", "warning": "yellow"}


@click.command("doctor")
@commands.inventory_option
@commands.data_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(inventory: Path | None, data: tuple[str, ...], as_json: bool) -> int:
    """Explain what is wrong, why, and how to fix it. Reads nodes, containers and logs, and sends
    the model a few questions.

    \b
    Exit code 0: nothing is wrong, or there are only warnings
              1: at least one error
    """
    project = find_project(inventory)
    settings = {**commands.parse_data(data), "inventory": str(project.inventory)}
    report = project.fetch("doctor", settings, hosts="@local", seconds=SECONDS)
    click.echo(json.dumps(report) if as_json else "\n".join(report_lines(report)))
    return 0 if report["ok"] else 1


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Each problem in four lines at most, then what was looked at."""
    report = printable.all_printable(report)
    for problem in report["ailments"]:
        level = click.style(problem["level"], fg=COLORS[problem["level"]], bold=True)
        where = f"{problem['where']}: " if problem["where"] else ""
        yield f"{level}  {where}{problem['cause']}"
        if problem["evidence"]:
            yield f"  seen  {problem['evidence']}"
        if problem["cure"]:
            yield f"  cure  {problem['cure']}"
        yield ""
    levels = [a["level"] for a in report["ailments"]]
    if not levels:
        yield click.style("nothing is wrong", fg="green") + f": the group is {report['state']}"
    else:
        count = {level: levels.count(level) for level in COLORS}
        counts = ", ".join(f"{n} {level}{'s' * (n > 1)}" for level, n in count.items() if n)
        yield f"{counts}; the group is {report['state']}"
    yield "looked at:"
    yield from (f"  {what}" for what in report["looked"])
