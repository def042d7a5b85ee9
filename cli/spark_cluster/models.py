"""`spark-cluster models`: what can be served, where it fits, where it is, what serves now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster.commands import ClusterError, inventory_option
from spark_cluster.printable import all_printable
from spark_cluster.project import Project, find
from spark_cluster.table import table

HEAD = ("", "#", "alias", "id", "weights", "memory", "1 Spark", "2 Sparks", "gated", "on nodes")
SERVES, CHOSEN = ">", "*"


@click.command("models")
@inventory_option
@click.option("--offline", is_flag=True, help="Ask no node: the catalogue and the choice alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(inventory: Path | None, offline: bool, as_json: bool) -> None:
    """List the models: size, where they fit, where they are, which one serves.

    Fits is arithmetic, as in the README. An id that is not listed can be served too.
    """
    told = _light(find(inventory)) if offline else _asked(find(inventory))
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    told = all_printable(told)
    click.echo(table(HEAD, rows(told), right=("#", "weights", "memory")))
    click.echo(f"\n{legend(told['listing'])}")
    for note in told["listing"]["notes"]:
        click.echo(click.style(f"could not be read: {note}", fg="yellow"), err=True)


def _light(project: Project) -> dict[str, Any]:
    listing = project.ask("listing", {"light": str(project.inventory)}, hosts="@local")
    return {"version": 1, "listing": listing, "present": {}}


def _asked(project: Project) -> dict[str, Any]:
    try:
        told: dict[str, Any] = project.ask("models")
    except ClusterError as error:
        raise ClusterError(
            f"{error.message}\nspark-cluster models --offline asks no node"
        ) from None
    return told


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """The table's lines: the catalogue, then what else is chosen or serves."""
    listing, present = told["listing"], told["present"]
    known = {entry["id"] for entry in listing["catalogue"]}
    others = dict.fromkeys([*serving(listing), listing["model"]])
    outside = [{"id": id_} for id_ in others if id_ not in known]
    entries = [*listing["catalogue"], *outside]
    nodes = [node["name"] for node in listing["nodes"]]
    return [
        _row(entry, listing, {n: present[n] for n in nodes if n in present}) for entry in entries
    ]


def _row(
    entry: Mapping[str, Any], listing: Mapping[str, Any], present: Mapping[str, Any]
) -> list[str]:
    fits = entry.get("sparks")
    embedded = entry.get("runtime") == "process"
    return [
        mark(entry["id"], listing),
        str(entry.get("number") or ""),
        entry.get("alias", ""),
        entry["id"],
        size(entry.get("weight_bytes")),
        f"{entry['mem_fraction']:.2f}" if entry.get("mem_fraction") else "",
        *("" if fits is None or embedded else "yes" if n in fits else "no" for n in (1, 2)),
        "yes" if entry.get("gated") else "",
        where(entry["id"], present),
    ]


def serving(listing: Mapping[str, Any]) -> list[str]:
    """The model that runs, by its ranks' own labels; none where nothing runs."""
    return list(dict.fromkeys(rank["model"] for rank in listing["ranks"]))


def mark(model: str, listing: Mapping[str, Any]) -> str:
    said = (SERVES if model in serving(listing) else "") + (
        CHOSEN if model == listing["model"] else ""
    )
    return click.style(said, fg="green", bold=True) if said else ""


def size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.1f} GB"


def where(model: str, present: Mapping[str, Any]) -> str:
    """ "all", or the names of the nodes that have it; what is there of an incomplete one."""
    found = {node: stock[model] for node, stock in present.items() if model in stock}
    whole = [node for node, stock in found.items() if stock["complete"]]
    parts = [
        f"{node} (part: {size(stock['bytes'])})"
        for node, stock in found.items()
        if not stock["complete"]
    ]
    every = len(present) > 1 and len(whole) == len(present)
    return "all" if every else ", ".join([*whole, *parts])


def legend(listing: Mapping[str, Any]) -> str:
    """What the marks mean here, and what to do when they differ."""
    chosen, runs = listing["model"], serving(listing)
    if listing["light"]:
        return f"{CHOSEN} chosen; no node was asked: what serves, and what is on nodes, is unknown"
    said = f"{SERVES} runs now, {CHOSEN} chosen; memory: SGLang's share of a node's"
    if runs and chosen not in runs:
        said += f"\n{', '.join(runs)} runs, {chosen} is chosen: a deploy would switch"
    if not runs:
        said += "\nwhat runs is not known" if listing["notes"] else "\nnothing runs"
    return said
