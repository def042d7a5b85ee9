"""`spark-cluster models`: what can be served, where it fits, where it is, what serves now; and what
no group uses any more."""

import json
import shlex
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from spark_cluster import choice, commands, model_page, printable
from spark_cluster.project import find_project

HEAD = (
    *("", "#", "alias", "weights", "format", "memory", "Sparks", "gated", "on nodes", "evidence"),
    *("id", "variants"),
)
RIGHT = ("#", "weights", "memory")
# Columns that every terminal has room for. Those that don't fit beside them go below each line.
LEAST = 4
INDENT = "       "
PIPE_COLUMNS = 1000
SERVES, CHOSEN, DRAFT = ">", "*", "+"
# To list what is unused, the nodes measure folders of hundreds of GB.
UNUSED_SECONDS = 330
UNUSED_HEAD = ("node", "what", "name", "size", "")
UNUSED_KINDS = {"weights": "weights", "image": "image", "compiled": "compile cache"}


@click.command("models")
@commands.inventory_option
@click.argument("model", required=False)
@click.option("--offline", is_flag=True, help="Read no node: show only the catalog and the choice.")
@click.option("--unused", is_flag=True, help="Show only what no group uses, and what removes it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    inventory: Path | None, model: str | None, offline: bool, unused: bool, as_json: bool
) -> None:
    """List the models: size, where they fit, which nodes have them, which is served.

    With MODEL (a number, an alias or an id), show all that is known of it, and read no node: sizes,
    memory, image, variants with their flags, published figures, pitfalls, sources.

    "Fits" is arithmetic (docs/models.md). A model that is not listed can be served too, by its id.
    """
    if unused and (offline or model is not None):
        raise click.UsageError("--unused reads the nodes: leave out --offline and MODEL")
    project = find_project(inventory)
    if unused:
        document = project.fetch("unused", seconds=UNUSED_SECONDS)
    elif model is not None:
        document = choice.page_document(project, model)
    elif offline:
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
    if unused:
        click.echo(render_unused(document, project.inventory))
        return
    # In a pipe, no line is cut or wrapped.
    columns = shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns
    if model is not None:
        click.echo(model_page.render_page(document, columns))
        return
    click.echo(models_table(model_rows(document), columns))
    click.echo(f"\n{legend(document['listing'])}")
    for note in document["listing"]["notes"]:
        click.echo(click.style(f"could not be read: {note}", fg="yellow"), err=True)


def models_table(rows: list[list[str]], columns: int) -> str:
    """The table, as many of its columns side by side as fit; the rest below each line."""
    widths = [
        max(len(click.unstyle(cell)) for cell in cells) for cells in zip(HEAD, *rows, strict=True)
    ]
    count = len(HEAD)
    while count > LEAST and sum(widths[:count]) + 2 * (count - 1) > columns:
        count -= 1
    first, *lines = printable.table(HEAD[:count], [row[:count] for row in rows], RIGHT).split("\n")
    shown = [first]
    for line, row in zip(lines, rows, strict=True):
        shown.append(line)
        rest = [
            # The format, an id or evidence says itself what it is.
            cell if name in ("format", "id", "evidence") else f"{name}: {cell}"
            for name, cell in zip(HEAD[count:], row[count:], strict=True)
            if cell
        ]
        shown += textwrap.wrap(
            "; ".join(rest),
            max(columns, 2 * len(INDENT)),
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(shown)


def model_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """The table's lines: the catalog, then what else is chosen or serves."""
    listing, present = document["listing"], document["present"]
    catalog = {entry["id"] for entry in listing["catalogue"]}
    others = dict.fromkeys([*serving(listing), listing["model"], listing.get("draft")])
    outside = [{"id": id_} for id_ in others if id_ and id_ not in catalog]
    nodes = [node["name"] for node in listing["nodes"]]
    by_node = {node: present[node] for node in nodes if node in present}
    return [
        [
            mark(entry["id"], listing),
            str(entry.get("number") or ""),
            entry.get("alias", ""),
            printable.gigabytes(entry.get("weight_bytes") or stored(entry["id"], by_node)),
            entry.get("quantization", "") or "unknown",
            f"{entry['mem_fraction']:.2f}" if entry.get("mem_fraction") else "",
            ",".join(map(str, entry.get("sparks", ()))),
            "yes" if entry.get("gated") else "",
            where(entry["id"], by_node),
            entry.get("evidence", ""),
            entry["id"],
            variants(entry),
        ]
        for entry in [*listing["catalogue"], *outside]
    ]


def variants(entry: Mapping[str, Any]) -> str:
    """Their names, the default first; where there is none, one must be chosen."""
    names, default = entry.get("variants", ()), entry.get("default_variant", "")
    if not names or default:
        return ", ".join(sorted(names, key=lambda name: name != default))
    return f"choose {' or '.join(names)}"


def serving(listing: Mapping[str, Any]) -> list[str]:
    """The model that runs, as its ranks' labels name it; [] if nothing runs."""
    return list(dict.fromkeys(rank["model"] for rank in listing["ranks"]))


def mark(model: str, listing: Mapping[str, Any]) -> str:
    text = (SERVES if model in serving(listing) else "") + (
        CHOSEN if model == listing["model"] else DRAFT if model == listing.get("draft") else ""
    )
    return click.style(text, fg="green", bold=True) if text else ""


def stored(model: str, present: Mapping[str, Any]) -> int | None:
    """Bytes of a model's weights by the nodes that have all of them; None: no node has."""
    copies = (stock[model] for stock in present.values() if model in stock)
    return max((copy["bytes"] for copy in copies if copy["complete"]), default=None)


def where(model: str, present: Mapping[str, Any]) -> str:
    """ "all", or the names of the nodes that have it; for an incomplete copy, its size so far."""
    cached = {node: stock[model] for node, stock in present.items() if model in stock}
    whole = [node for node, stock in cached.items() if stock["complete"]]
    parts = [
        f"{node} (part: {printable.gigabytes(stock['bytes'])})"
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
    text = (
        f"{SERVES} running, {CHOSEN} chosen; memory: SGLang's share of each node's; Sparks: on how "
        "many it fits\nvariants: the default first, whose evidence is shown; spark-cluster models "
        "MODEL shows all of a model"
    )
    if listing.get("draft"):
        text += f"\n{DRAFT} draft model of {chosen}"
    if runs and chosen not in runs:
        text += f"\n{', '.join(runs)} runs, {chosen} is chosen: a deploy would switch"
    if not runs:
        text += "\nwhat runs is unknown" if listing["notes"] else "\nnothing runs"
    return text


# ---- models --unused


def render_unused(document: Mapping[str, Any], inventory: Path) -> str:
    """What no group uses any more, by node, and the command that removes what is ours."""
    rows = [
        [
            node["name"],
            UNUSED_KINDS.get(item["kind"], item["kind"]),
            item["name"],
            printable.gigabytes(item["bytes"]),
            f"left: {item['left']}" if item["left"] else "",
        ]
        for node in document["nodes"]
        for item in node["unused"]
    ]
    notes = [f"deploys/prune.py would be refused now: {note}" for note in document["notes"]]
    if not rows:
        return "\n".join(["nothing is unused", *notes])
    lines = [printable.table(UNUSED_HEAD, rows, right=("size",))]
    ours = [item for n in document["nodes"] for item in n["unused"] if not item["left"]]
    if ours:
        total = printable.gigabytes(sum(item["bytes"] for item in ours))
        command = f"pyinfra -y {shlex.quote(str(inventory))} deploys/prune.py"
        lines += ["", f"{total} can be removed (--dry shows what): {command}"]
    return "\n".join([*lines, *notes])
