"""`spark-cluster use`: choose the model that the next deploy serves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spark_cluster.choice import Change, choose, judge, model_of, shown
from spark_cluster.commands import ClusterError, inventory_option
from spark_cluster.printable import printable
from spark_cluster.project import Project, find

if TYPE_CHECKING:
    from cluster.catalog.models import Model


@click.command("use")
@inventory_option
@click.argument("model", required=False)
def command(inventory: Path | None, model: str | None) -> None:
    """Choose the model: a number, an alias, an id of the hub, or a path on the nodes.

    Without MODEL it asks. The choice is written where the inventory's data names a model, or else
    into the group data of the inventory's own group; a deploy then serves it. Refused, with nothing
    written, where a deploy would refuse it.
    """
    project = find(inventory)
    wanted = _asked(project) if model is None else model_of(project, model)
    verdict = judge(project, wanted)
    for line in report(choose(project, wanted)) or ["nothing to write: it was chosen already"]:
        click.echo(line)
    weights = verdict["weight_bytes"]
    size = f"{weights / 1e9:.1f} GB" if weights else "size not known"
    click.echo(f"chosen: {wanted.id}, {size}, over {verdict['nodes']} node(s)")
    if wanted.gated:
        click.echo("gated: accept its license at the hub; then hf auth login, or export HF_TOKEN=…")
    click.echo(f"next:   pyinfra -y {shown(project.inventory)} deploy.py")


def report(made: list[Change]) -> list[str]:
    """What changed, file by file."""
    colours = {"-": "red", "+": "green"}
    return [
        line
        for change in made
        for line in (
            f"{shown(change.file)}{' (new)' if change.before is None else ''}",
            *(
                click.style(f"  {printable(text)}", fg=colours[text[0]])
                for text in change.lines()
                if text[0] in colours
            ),
        )
    ]


def terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _asked(project: Project) -> Model:
    project.core()
    from cluster.catalog.models import catalog

    if not terminal():
        names = ", ".join(m.alias for m in catalog())
        raise click.UsageError(f"no model is named, and there is no terminal to ask on: {names}")
    for entry in catalog():
        click.echo(f"{entry.number or '':>3}  {entry.alias:<14} {entry.id}")
    while True:
        try:
            return model_of(project, click.prompt("Model (number, alias or id)"))
        except ClusterError as error:
            click.echo(error.message, err=True)
