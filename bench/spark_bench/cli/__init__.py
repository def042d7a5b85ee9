"""`spark-bench`: what a user types, and what it prints. Importing it costs click and no more."""

from __future__ import annotations

import click

from spark_bench import __version__
from spark_bench.cli.commands import Commands

# What each command's module holds is imported when the command is asked for.
main = Commands(
    "spark-bench",
    modules={
        "run": "spark_bench.cli.run",
        "all": "spark_bench.cli.all",
        "verify": "spark_bench.cli.verify",
        "profiles": "spark_bench.cli.profiles",
        "compare": "spark_bench.cli.compare",
        "report": "spark_bench.cli.report",
        "history": "spark_bench.cli.history",
    },
    shorts={
        "run": "Send a load to a server and measure it.",
        "all": "Deploy and measure every model, one after the other.",
        "verify": "Measure this client itself, on this machine.",
        "profiles": "List the profiles that `run` knows.",
        "compare": "Set runs beside each other: differences, chance, gates for CI.",
        "report": "Make one HTML page of results.",
        "history": "The results there are: list, find again, follow over time.",
    },
    help="Measure an OpenAI-compatible LLM server, from what the kernel saw.",
)
click.version_option(__version__, prog_name="spark-bench")(main)
