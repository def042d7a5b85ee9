"""`spark-cluster check`: the checks before a deploy, alone."""

import subprocess
from pathlib import Path

import click

from spark_cluster.commands import ClusterError, inventory_option
from spark_cluster.project import find_project

# Each reading of a node has its own limit; asking an image for its SGLang version takes longest.
SECONDS = 600


@click.command("check")
@inventory_option
def command(inventory: Path | None) -> int:
    """Check everything that a deploy needs; change nothing.

    Exit code 1 if a deploy would be refused.
    """
    project = find_project(inventory)
    try:
        return subprocess.run(
            project.command_line("check"), cwd=project.root, timeout=SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        raise ClusterError(f"the checks did not finish within {SECONDS} s") from None
