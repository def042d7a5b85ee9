"""`spark-cluster models --unused`: what no group uses any more, by node, and what removes it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spark_cluster import printable

# The nodes measure folders of hundreds of GB.
SECONDS = 330
HEAD = ("node", "what", "name", "size", "")
WORDS = {"weights": "weights", "image": "image", "compiled": "compile cache"}


def render_unused(document: Mapping[str, Any], inventory: Path) -> str:
    """The table, and the command that removes what is ours."""
    rows = [
        [
            node["name"],
            WORDS.get(item["kind"], item["kind"]),
            item["name"],
            f"{item['bytes'] / 1e9:.1f} GB",
            f"left: {item['left']}" if item["left"] else "",
        ]
        for node in document["nodes"]
        for item in node["unused"]
    ]
    notes = [f"deploys/prune.py would be refused now: {note}" for note in document["notes"]]
    if not rows:
        return "\n".join(["nothing is unused", *notes])
    lines = [printable.table(HEAD, rows, right=("size",))]
    ours = [item for n in document["nodes"] for item in n["unused"] if not item["left"]]
    if ours:
        total = sum(item["bytes"] for item in ours) / 1e9
        command = f"pyinfra -y {shlex.quote(str(inventory))} deploys/prune.py"
        lines += ["", f"{total:.1f} GB can be removed (--dry shows what): {command}"]
    return "\n".join([*lines, *notes])
