"""`spark-cluster use`: choose the model, and its variant, that the next deploy serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spark_cluster import choice, commands
from spark_cluster.printable import gigabytes, printable
from spark_cluster.project import Project, find_project

if TYPE_CHECKING:
    from cluster.catalog.models import Model


@click.command("use")
@commands.inventory_option
@click.argument("model", required=False)
@click.option("--variant", metavar="NAME", help="One of its variants.  [default: the model's own]")
def command(inventory: Path | None, model: str | None, variant: str | None) -> None:
    """Choose the model that the next deploy serves.

    MODEL is a number, an alias, a hub id, or a path on the nodes; without it you are prompted.
    `spark-cluster models MODEL` shows its variants. The choice is written to the places in the
    inventory's data that name a model and a variant, else to the group data of the inventory's own
    group. Nothing is written if a deploy would refuse the model.
    """
    project = find_project(inventory)
    chosen = _prompt_model(project) if model is None else choice.find_model_or_fail(project, model)
    way = choice.choose_variant_or_fail(project, chosen, variant or "")
    verdict = choice.check_feasible(project, chosen, way.name)
    changes = choice.write_choice(project, chosen, way)
    if way.foreign and not variant:
        foreign = ", ".join(way.foreign)
        click.echo(f"variant {foreign} is none of {choice.short_name(chosen)}'s: auto from now on")
    for line in describe_changes(changes) or ["nothing to write: it is chosen already"]:
        click.echo(line)
    weights = verdict["weight_bytes"]
    size = gigabytes(weights) if weights else "size unknown"
    named = f", variant {way.served.name} ({way.served.evidence})" if way.served else ""
    click.echo(f"chosen: {chosen.id}, {size}{named}, on {verdict['nodes']} node(s)")
    if chosen.gated:
        click.echo("gated: accept its license on the Hub; then hf auth login, or export HF_TOKEN=…")
    click.echo(f"next:   pyinfra -y {choice.relative_path(project.inventory)} deploy.py")


def describe_changes(changes: list[choice.FileChange]) -> list[str]:
    """What changed, file by file."""
    colours = {"-": "red", "+": "green"}
    return [
        line
        for change in changes
        for line in (
            f"{choice.relative_path(change.file)}{' (new)' if change.before is None else ''}",
            *(
                click.style(f"  {printable(text)}", fg=colours[text[0]])
                for text in change.lines()
                if text[0] in colours
            ),
        )
    ]


def _prompt_model(project: Project) -> Model:
    catalog = choice.load_catalog(project)
    if not commands.on_terminal():
        names = ", ".join(m.alias for m in catalog)
        raise click.UsageError(f"name a model (there is no terminal to ask on): {names}")
    for entry in catalog:
        click.echo(f"{entry.number or '':>3}  {entry.alias:<14} {entry.id}")
    while True:
        try:
            return choice.find_model_or_fail(project, click.prompt("Model (number, alias or id)"))
        except commands.ClusterError as error:
            click.echo(error.message, err=True)
