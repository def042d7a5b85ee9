"""`spark-cluster models`: what can be served, where it fits, where it is, what serves now."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster import commands, printable
from spark_cluster.project import find_project

HEAD = ("", "#", "alias", "id", "weights", "memory", "1 Spark", "2 Sparks", "gated", "on nodes")
SERVES, CHOSEN = ">", "*"


@click.command("models")
@commands.inventory_option
@click.option("--offline", is_flag=True, help="Read no node: show only the catalog and the choice.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(inventory: Path | None, offline: bool, as_json: bool) -> None:
    """List the models: size, where they fit, which nodes have them, which is served.

    "Fits" is arithmetic (docs/models.md). A model that is not listed can be served too, by its id.
    """
    project = find_project(inventory)
    if offline:
        listing = project.fetch("listing", {"light": str(project.inventory)}, hosts="@local")
        document = {"version": 1, "listing": listing, "present": {}}
    else:
        try:
            document = project.fetch("models")
        except commands.ClusterError as error:
            hint = "spark-cluster models --offline reads no node"
            raise commands.ClusterError(f"{error.message}\n{hint}") from None
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    document = printable.all_printable(document)
    click.echo(printable.table(HEAD, model_rows(document), right=("#", "weights", "memory")))
    click.echo(f"\n{legend(document['listing'])}")
    for note in document["listing"]["notes"]:
        click.echo(click.style(f"could not be read: {note}", fg="yellow"), err=True)


def model_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """The table's lines: the catalog, then what else is chosen or serves."""
    listing, present = document["listing"], document["present"]
    catalog = {entry["id"] for entry in listing["catalogue"]}
    others = dict.fromkeys([*serving(listing), listing["model"]])
    outside = [{"id": id_} for id_ in others if id_ not in catalog]
    entries = [*listing["catalogue"], *outside]
    nodes = [node["name"] for node in listing["nodes"]]
    by_node = {node: present[node] for node in nodes if node in present}
    rows = []
    for entry in entries:
        fits = None if entry.get("runtime") == "process" else entry.get("sparks")
        rows.append(
            [
                mark(entry["id"], listing),
                str(entry.get("number") or ""),
                entry.get("alias", ""),
                entry["id"],
                size(entry.get("weight_bytes")),
                f"{entry['mem_fraction']:.2f}" if entry.get("mem_fraction") else "",
                *("" if fits is None else "yes" if n in fits else "no" for n in (1, 2)),
                "yes" if entry.get("gated") else "",
                where(entry["id"], by_node),
            ]
        )
    return rows


def serving(listing: Mapping[str, Any]) -> list[str]:
    """The model that runs, as its ranks' labels name it; [] if nothing runs."""
    return list(dict.fromkeys(rank["model"] for rank in listing["ranks"]))


def mark(model: str, listing: Mapping[str, Any]) -> str:
    text = (SERVES if model in serving(listing) else "") + (
        CHOSEN if model == listing["model"] else ""
    )
    return click.style(text, fg="green", bold=True) if text else ""


def size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.1f} GB"


def where(model: str, present: Mapping[str, Any]) -> str:
    """ "all", or the names of the nodes that have it; for an incomplete copy, its size so far."""
    cached = {node: stock[model] for node, stock in present.items() if model in stock}
    whole = [node for node, stock in cached.items() if stock["complete"]]
    parts = [
        f"{node} (part: {size(stock['bytes'])})"
        for node, stock in cached.items()
        if not stock["complete"]
    ]
    every = len(present) > 1 and len(whole) == len(present)
    return "all" if every else ", ".join([*whole, *parts])


def legend(listing: Mapping[str, Any]) -> str:
    """What the marks mean here, and what to do when they differ."""
    chosen, runs = listing["model"], serving(listing)
    if listing["light"]:
        return f"{CHOSEN} chosen; no node was read: what is served and stored is unknown"
    text = f"{SERVES} running, {CHOSEN} chosen; memory: SGLang's share of each node's"
    if runs and chosen not in runs:
        text += f"\n{', '.join(runs)} runs, {chosen} is chosen: a deploy would switch"
    if not runs:
        text += "\nwhat runs is unknown" if listing["notes"] else "\nnothing runs"
    return text
