"""`spark-cluster`: what a user types. Importing it costs click and no more."""

import click

from spark_cluster import __version__
from spark_cluster.commands import Commands

EPILOG = """
\b
Every command takes -i INVENTORY (or SPARK_INVENTORY); the default is the project's
inventories/spark.py. No command changes a node: pyinfra does.
"""

# A command's module is imported when the command is used.
main = Commands(
    "spark-cluster",
    shorts={
        "init": "Ask for the nodes, read them, write an inventory.",
        "models": "List the models: size, where they fit, which nodes have them, which is served.",
        "use": "Choose the model that the next deploy serves.",
        "check": "Check everything that a deploy needs.",
        "status": "Show what runs on each node and whether it serves.",
        "logs": "Show the ranks' logs, merged by time.",
        "doctor": "Explain what is wrong, why, and how to fix it.",
    },
    help="Inspect a cluster of DGX Sparks and choose what it serves.",
    epilog=EPILOG,
)
click.version_option(__version__, prog_name="spark-cluster")(main)
