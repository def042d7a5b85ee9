"""`spark-cluster check`: the checks before a deploy, alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from spark_cluster.commands import inventory_option
from spark_cluster.project import find


@click.command("check")
@inventory_option
def command(inventory: Path | None) -> int:
    """Check everything that a deploy needs, and change nothing.

    Exit code 1 where a deploy would be refused.
    """
    project = find(inventory)
    return subprocess.run(project.words("check"), cwd=project.root).returncode
