"""`spark-cluster`: what a user types. Importing it costs click and no more."""

from __future__ import annotations

import click

from spark_cluster import __version__
from spark_cluster.commands import Commands

EPILOG = """
\b
Every command takes -i INVENTORY (or SPARK_INVENTORY); without it the project's
inventories/spark.py. No command changes a node: pyinfra does that.
"""

# Each command's module is imported when the command is asked for; it holds it as `command`.
main = Commands(
    "spark-cluster",
    shorts={
        "init": "Ask for the nodes, look at them, write an inventory.",
        "models": "List the models: size, where they fit, where they are, which one serves.",
        "use": "Choose the model: writes it into the inventory's data.",
        "check": "Check everything that a deploy needs.",
        "status": "What runs on each node, and whether it serves.",
        "logs": "The ranks' logs, merged by time.",
        "doctor": "Say what is wrong, why, and the cure.",
    },
    help="Look at a cluster of DGX Sparks, and choose what it serves.",
    epilog=EPILOG,
)
click.version_option(__version__, prog_name="spark-cluster")(main)
