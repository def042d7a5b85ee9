"""What `init` saw, as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from spark_cluster.table import table

HEAD = ("node", "SSH", "GPU", "driver", "Docker", "hf_cache", "free", "python", "QSFP ports Up")
COLOURS = {"error": "red", "warning": "yellow"}


def seen(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each node."""
    return table(HEAD, [_row(node) for node in nodes], right=("free",))


def problems(findings: Sequence[Mapping[str, str]]) -> tuple[bool, list[str]]:
    """Whether a deploy would be refused; and every error and warning, with its cure."""
    lines = [_said(finding) for finding in findings if finding["level"] in COLOURS]
    return any(finding["level"] == "error" for finding in findings), lines


def _said(finding: Mapping[str, str]) -> str:
    """As the project's own findings are told."""
    level = click.style(f"{finding['level']:>7}", fg=COLOURS[finding["level"]])
    place = f"{finding['where']}: " if finding["where"] else ""
    cure = f" -> {finding['cure']}" if finding["cure"] else ""
    return f"{level}  {place}{finding['what']}{cure}"


def _row(node: Mapping[str, Any]) -> list[str]:
    if node["lost"]:
        return [node["name"], click.style("no", fg="red"), *[""] * (len(HEAD) - 2)]
    free = node["free_bytes"]
    return [
        node["name"],
        "yes",
        node["gpu"],
        node["driver"],
        node["docker"],
        node["hf_cache"],
        "" if free is None else f"{free / 1e9:.0f} GB",
        node["python"],
        ", ".join(node["ports"]) or "none",
    ]
